"""Synapses that are walked by the rows of their source neurons, and code objects that are kept from run to run.

Read in brian2 2.9.0, 2.10.1 and 2.11.0:

* A `SynapticPathway` pushes the index of every single synapse of every spike to its queue, and reads weight and target
  through what it gets back (`synapses/cspikequeue.cpp`, `push`; `codegen/runtime/cython_rt/templates/synapses.pyx`):
  that costs more than the event itself. Here the same queue holds source neurons: it is prepared with one "synapse"
  for each of them. What it gives back, after the delay, is walked neuron by neuron and synapse by synapse, in the
  order in which Brian2 adds them, so that every sum is rounded as it is there. Synapses whose targets follow each
  other, as all channels of a place or all neurons of a dense layer do, are added as vectors.
* Templates of a code object may be replaced (`codegen/templates.py`, `Templater.derive`): those of the folder `code`
  are found before Brian2's own.
* Each run begins by making all code objects anew (`groups/group.py`, `CodeRunner.before_run`), some 4 ms each, as long
  as a hundred frames. Here they are made anew if one of the arrays that they work on has moved.
"""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import brian2
import numpy as np
import numpy.typing as npt
from brian2.codegen.runtime.cython_rt import CythonCodeObject
from brian2.codegen.runtime.numpy_rt import NumpyCodeObject
from brian2.core.variables import ArrayVariable
from brian2.devices.device import auto_target, runtime_device
from brian2.groups.group import CodeRunner
from brian2.groups.neurongroup import Thresholder
from brian2.synapses.synapses import SynapticPathway

from strop.errors import BackendError

IntArray = npt.NDArray[np.integer[Any]]

STATEMENT = "v_post += w"
# Bytes per synapse at the peak (tests/equivalence/test_memory.py): indices and weight in Brian2 (16), the arrays that
# they are made from, sorted, with both orders (40), and what Brian2 makes of them meanwhile; the segments (12) follow.
BYTES_PER_SYNAPSE = 100
# Neighbours from so many on are a segment of their own.
_RUN = 4


class CythonCode(CythonCodeObject):  # type: ignore[misc]  # Brian2 ships no types
    """Brian2's Cython code, with the templates of the folder `code`."""

    templater: ClassVar[Any] = CythonCodeObject.templater.derive("strop_backends.brian2", templates_dir="code")


class NumpyCode(NumpyCodeObject):  # type: ignore[misc]  # as above
    """Brian2's NumPy code, with the templates of the folder `code`."""

    templater: ClassVar[Any] = NumpyCodeObject.templater.derive("strop_backends.brian2", templates_dir="code")


def code_object_class(target: str) -> Any:
    """Return Brian2's code object class for a target, "auto", "cython" or "numpy", or raise `BackendError`."""
    device = brian2.get_device()
    if device is not runtime_device:
        raise BackendError(
            f"brian2: the device {type(device).__name__} is set; strop's network runs in runtime mode only. Call "
            "brian2.device.reinit() and brian2.set_device('runtime') before building it"
        )
    if target == "auto":
        # The user's preference.
        target = str(brian2.prefs.codegen.target)
    if target == "auto":
        return auto_target()
    classes = {"cython": CythonCodeObject, "numpy": NumpyCodeObject}
    if target not in classes:
        raise BackendError(f"brian2: target must be 'auto', 'cython' or 'numpy', got {target!r}")
    if target == "cython" and not CythonCodeObject.is_available():
        raise BackendError("brian2: no working C++ compiler was found for target='cython'; use target='numpy'")
    return classes[target]


def with_templates(code: Any) -> Any:
    """Return the code object class that has our templates, for one of Brian2's own."""
    return CythonCode if issubclass(code, CythonCodeObject) else NumpyCode


def _arrays_of(code: Any) -> list[tuple[str, int, int]]:
    """Return name, address and length of each array that a code object works on."""
    arrays = []
    for name, variable in sorted(code.variables.items()):
        if isinstance(variable, ArrayVariable):
            values = np.asarray(variable.get_value())
            arrays.append((name, values.__array_interface__["data"][0], values.size))
    return arrays


class _Kept(CodeRunner):  # type: ignore[misc]  # as above
    """Keeps its code object while statement, target and arrays are those that it was made for."""

    _made_for: Any = None

    def _statement(self) -> Any:
        return self.abstract_code

    def create_code_objects(self, run_namespace: Any) -> None:
        """Make a code object if there is none that fits; Brian2 calls this before each run."""
        asked = (self._statement(), self.codeobj_class)
        if self._made_for is not None and self._made_for == (asked, _arrays_of(self.codeobj)):
            return
        # Nothing in this code is a variable of the script's; of those with the same names Brian2 would warn.
        self._make_code_object({})
        self._made_for = (asked, _arrays_of(self.codeobj))

    def _make_code_object(self, run_namespace: Any) -> None:
        self.code_objects[:] = [weakref.proxy(self.create_default_code_object(run_namespace))]


class KeptRunner(_Kept):
    """A `CodeRunner`, as `run_regularly` returns it."""


class KeptThresholder(_Kept, Thresholder):  # type: ignore[misc]  # as above
    """The `Thresholder` of a group."""

    def _statement(self) -> Any:
        return self.group.events[self.event]


def ranges(begin: IntArray, count: IntArray) -> IntArray:
    """Return the whole numbers `begin[k]` to `begin[k] + count[k] - 1` for each k, one range behind the other."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    result: IntArray = np.repeat(begin - (ends - count), count) + np.arange(total)
    return result


def segments_of(source: IntArray, target: IntArray, sources: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return the synapses by source neuron, cut into segments: neighbours that lie in order.

    Parameters
    ----------
    source, target : int arrays, shape (synapses,)
    sources : int
        Number of source neurons.

    Returns
    -------
    first : int32 array, shape (sources + 1,)
        Neuron n has the segments `first[n]` to `first[n + 1] - 1`.
    synapse, target, length : int32 arrays, shape (segments,)
        A segment has `length` synapses from number `synapse` on. Their targets follow each other from `target` on; or,
        where `target` is -1, they do not.
    """
    count = len(source)
    sorted_ = bool((source[1:] >= source[:-1]).all())
    # Ours are in order; those that a user has added lie behind them.
    order = np.arange(count, dtype=np.int32) if sorted_ else np.argsort(source, kind="stable").astype(np.int32)
    if not sorted_:
        source, target = source[order], target[order]
    apart = (np.diff(source) != 0) | (np.diff(order) != 1)
    cut = np.flatnonzero(np.concatenate([[True], apart | (np.diff(target) != 1), [True]])[: count + bool(count)])
    short = np.diff(cut) < _RUN
    # Runs that are too short to be worth a segment are joined.
    begins = cut[:-1]
    alone = np.concatenate([[True], apart])[begins] | ~short | ~np.concatenate([[False], short[:-1]])
    begin = begins[alone]
    length = np.diff(np.concatenate([begin, [count]]))
    first = np.searchsorted(source[begin], np.arange(sources + 1))
    follow = np.where(short[alone], -1, target[begin])
    return tuple(a.astype(np.int32) for a in (first, order[begin], follow, length))  # type: ignore[return-value]


class RowPathway(_Kept, SynapticPathway):  # type: ignore[misc]  # as above
    """A `SynapticPathway` with one delay for all synapses, whose queue holds source neurons."""

    def _statement(self) -> Any:
        return self.code

    def _make_code_object(self, run_namespace: Any) -> None:
        """Make one code object, which pushes, delivers and advances."""
        if self.code.strip() != STATEMENT:
            raise BackendError(
                f"brian2: the synapses {self.synapses.name!r} of a strop network do {STATEMENT!r}, not {self.code!r}. "
                "Connect Synapses of your own for anything else"
            )
        source = self.synapse_sources.get_value() - self.source.start
        segments = segments_of(source, self.synapse_targets.get_value(), self.source.stop - self.source.start)
        self.variables.add_object("_segments", segments)
        # Since 2.10 Brian2's own code reaches the queue another way.
        self.variables.add_object("_queue", self.queue)
        self.template, self.needed_variables = "rows", [self.eventspace_name, "_synaptic_pre"]
        self.template_kwds = {"eventspace_variable": self.source.variables[self.eventspace_name]}
        super()._make_code_object(run_namespace)

    def before_run(self, run_namespace: Any) -> None:
        """Prepare the queue, too: no code object does."""
        super().before_run(run_namespace)
        self.initialise_queue()

    def initialise_queue(self) -> None:
        """Let the queue keep neurons: neuron n is the only synapse of source n."""
        neurons = np.arange(self.source.stop - self.source.start, dtype=np.int32)
        self.queue.prepare(self._delays.get_value(), self.source.clock.dt_, neurons + self.source.start)

    def _restore_from_full_state(self, state: Any) -> None:
        # The synapses may be others.
        self._made_for = None
        super()._restore_from_full_state(state)


class RowSynapses(brian2.Synapses):  # type: ignore[misc]  # as above
    """`brian2.Synapses` with a scalar delay, whose presynaptic pathway is a `RowPathway`."""

    add_to_magic_network = False

    def _add_updater(
        self, code: str, prepost: str, objname: str | None = None, delay: Any = None, event: str = "spike"
    ) -> Any:
        name = super()._add_updater(code, prepost, objname, delay=delay, event=event)
        if prepost == "pre":
            # It differs in what happens before and in a run alone, so it may be made as Brian2 makes it.
            getattr(self, name).__class__ = RowPathway
        return name

    def __del__(self) -> None:
        """Suppress Brian2's warning of objects that were never run: a network may be built without being run."""
