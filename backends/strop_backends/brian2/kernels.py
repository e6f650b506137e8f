"""Convolutions that Brian2 keeps as kernels: `Kernels`, a Brian2 object between the neurons and themselves.

A spike adds one row of the kernel, all channels of a place, for each tap that it is under: what the expanded synapses
would add, from a kernel that is there once. The object has Brian2's own spike queue for its delay, runs in the place
of the synapses, and its kernels are a variable `w`, which may be read and written as any other.

What a tap reads and writes depends on the place alone, not on the channel. So the tables are small: an entry for each
place and tap. They are made by expanding the convolution of one channel with the numbers of its taps as weights, and
hold for all strides, paddings, dilations, groups and dimensions, and for transposed convolutions.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from brian2.core.variables import Variables
from brian2.devices.device import get_device
from brian2.groups.group import Group

from strop.errors import BackendError
from strop.graph import Convolution, Dense, Operator, Projection, Select, stages_of
from strop.graph.capacity import memory_limit
from strop.running.backend import Pair
from strop_backends.brian2.drive import DELIVER, SLOT, FloatArray, IntArray, Span
from strop_backends.brian2.rows import BYTES_PER_SYNAPSE, KeptRunner, ranges

logger = logging.getLogger("strop.brian2")

# At once with NumPy, so that the sums of a step stay within some tens of megabytes.
_EVENTS = 1_048_576

Table = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Kept:
    """A convolution with the index maps around it, either of which may be missing."""

    before: Select | None
    convolution: Convolution
    behind: Select | None

    @property
    def memory(self) -> int:
        """Bytes of the kernel and of its tables."""
        maps = sum(8 * m.size_in + 4 * m.size_out for m in (self.before, self.behind) if m is not None)
        places = math.prod(self.convolution.shape_in[:-1])
        return 8 * self.convolution.kernel.size + 8 * places * math.prod(self.convolution.kernel.shape[:-2]) + maps


def _index_map(stages: list[Operator]) -> Select | None:
    """Return the only one of at most one stage, if it is an index map."""
    return next((stage for stage in stages if isinstance(stage, Select)), None)


def kept(operator: Operator) -> Kept | None:
    """Return how an operator can be kept as a kernel, or None if it has to be expanded.

    Kept are convolutions, and matrices that serve several places (convolutions of extent one), alone or between index
    maps: padding, upsampling, cropping, another order of the axes. A map behind may use an output once only.
    """
    stages = [s for s in stages_of(operator) if not (isinstance(s, Select) and s.is_reshape)]
    before = _index_map(stages[:1])
    stages = stages[1:] if before is not None else stages
    behind = _index_map(stages[-1:])
    stages = stages[:-1] if behind is not None else stages
    if len(stages) != 1 or (
        behind is not None and len(used := behind.index[behind.index >= 0]) != len(np.unique(used))
    ):
        return None
    stage = stages[0]
    if isinstance(stage, Dense) and math.prod(stage.leading) > 1:
        shape = (math.prod(stage.leading), stage.weight.shape[0])
        stage = Convolution(shape, stage.weight[None], (1,), (1,), ((0, 0),))
    return Kept(before, stage, behind) if isinstance(stage, Convolution) else None


def kept_pairs(choice: str, carried: Sequence[Projection]) -> dict[Pair, list[tuple[Projection, Kept]]]:
    """Return the pairs of nodes whose projections become kernels.

    Parameters
    ----------
    choice : {"auto", "kernel", "expanded"}
        "kernel" keeps what can be kept, and logs which convolutions cannot; "auto" does so where all of it, expanded,
        would not fit into memory.
    carried : sequence of Projection
        All projections that are simulated.
    """
    if choice not in ("auto", "kernel", "expanded"):
        raise BackendError(f"brian2: convolutions must be 'auto', 'kernel' or 'expanded', got {choice!r}")
    fits = sum(p.operator.synapse_count for p in carried) * BYTES_PER_SYNAPSE <= memory_limit()
    if choice == "expanded" or (choice == "auto" and fits):
        return {}
    pairs: dict[Pair, list[tuple[Projection, Kept | None]]] = {}
    for p in carried:
        pairs.setdefault((p.source, p.target), []).append((p, kept(p.operator)))
    for (source, target), own in pairs.items():
        if any(k is None and any(isinstance(s, Convolution) for s in stages_of(p.operator)) for p, k in own):
            logger.info("brian2: %s -> %s is expanded: it is no plain convolution, or several at once", source, target)
    # The synapses of one pair are in one place.
    return {pair: own for pair, own in pairs.items() if all(k is not None for _, k in own)}  # type: ignore[misc]


@dataclass(frozen=True)
class Plan:
    """Where a kernel reads, and where it adds.

    Attributes
    ----------
    numbers : int64 array, shape (8,)
        First source neuron and the one behind the last; first target neuron; channels, channels of a group, filters,
        filters of a group; place of the kernel in `w`.
    first, tap, place : int32 arrays
        At place p of the input, tap `tap[t]` adds to place `place[t]` of the output, `first[p] <= t < first[p + 1]`.
    first_input, inputs : int32 arrays
        Source neuron n is the inputs `inputs[k]` of the convolution, `first_input[n] <= k < first_input[n + 1]`; empty
        if it is input n.
    outputs : int32 array
        The target neuron of each output, or -1; empty if it is the neuron of that number.
    """

    numbers: IntArray
    first: Table
    tap: Table
    place: Table
    first_input: Table
    inputs: Table
    outputs: Table

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.numbers, self.first, self.tap, self.place, self.first_input, self.inputs, self.outputs


def _rows(index: IntArray, count: int) -> Table:
    """Return where the rows of sorted `index` begin, shape (count + 1,)."""
    return np.searchsorted(index, np.arange(count + 1)).astype(np.int32)


def plan_of(found: Kept, source: Span, target: Span, offset: int) -> Plan:
    """Return the tables of a kernel that lies at `offset` of `w`."""
    op = found.convolution
    size, (per_group, filters) = op.kernel.shape[:-2], op.kernel.shape[-2:]
    taps = np.arange(1, math.prod(size) + 1, dtype=np.float64).reshape(*size, 1, 1)
    one = Convolution(
        (*op.shape_in[:-1], 1), taps, op.strides, op.dilation, op.padding, 1, op.transposed, op.output_padding
    )
    at, place, tap = one.to_coo()
    empty = np.zeros(0, np.int32)
    first_input, inputs, outputs = empty, empty, empty
    if found.before is not None:
        index = found.before.index.reshape(-1)
        order = np.argsort(index, kind="stable")[np.count_nonzero(index < 0) :]
        inputs, first_input = order.astype(np.int32), _rows(index[order], found.before.size_in)
    if found.behind is not None:
        index = found.behind.index.reshape(-1)
        outputs = np.full(op.size_out, -1, np.int32)
        outputs[index[index >= 0]] = np.flatnonzero(index >= 0)
    numbers = [
        source.start,
        source.stop,
        target.start,
        op.shape_in[-1],
        per_group,
        filters,
        filters // op.groups,
        offset,
    ]
    return Plan(
        np.array(numbers, np.int64),
        _rows(at, one.size_in),
        (tap - 1).astype(np.int32),
        place.astype(np.int32),
        first_input,
        inputs,
        outputs,
    )


def convolve(fired: Table, plan: tuple[npt.NDArray[Any], ...], w: FloatArray, v: FloatArray) -> None:
    """Add what one plan's kernel makes of the neurons that fired to `v`, with NumPy."""
    numbers, first, _, _, first_input, inputs, _ = plan
    begin, end, share = (int(numbers[k]) for k in (0, 1, 6))
    own = fired[np.searchsorted(fired, begin) : np.searchsorted(fired, end)] - begin
    if len(first_input):
        own = inputs[ranges(first_input[own], first_input[own + 1] - first_input[own])]
    most = max(1, _EVENTS // (int(np.diff(first).max(initial=1)) * share))
    for part in range(0, len(own), most):
        _convolve(own[part : part + most], plan, w, v)


def _convolve(own: npt.NDArray[Any], plan: tuple[npt.NDArray[Any], ...], w: FloatArray, v: FloatArray) -> None:
    """Add what a kernel makes of some of its inputs."""
    numbers, first, tap, place, _, _, outputs = plan
    _, _, target, channels, per_group, filters, share, offset = numbers.tolist()
    at, channel = np.divmod(own, channels)
    counts = first[at + 1] - first[at]
    t = ranges(first[at], counts)
    group, row = np.divmod(np.repeat(channel, counts).astype(np.int64), per_group)
    filter_ = group[:, None] * share + np.arange(share)
    weights = w[offset + (tap[t].astype(np.int64) * per_group + row)[:, None] * filters + filter_]
    output = place[t].astype(np.int64)[:, None] * filters + filter_
    if len(outputs):
        output, weights = outputs[output], weights[outputs[output] >= 0]
        output = output[output >= 0]
    np.add.at(v, target + output, weights)


class Kernels(KeptRunner, Group):  # type: ignore[misc]  # Brian2 ships no types
    """The kernels of all projections of one delay.

    Parameters
    ----------
    neurons : brian2.NeuronGroup
    plans : sequence of Plan
    weights : float64 array
        All kernels, one behind the other.
    delay : float
        In seconds; 0 delivers in the step of the spike, as a synapse without delay does.
    name : str
    code : type
        Class of the code object.
    """

    add_to_magic_network = False

    def __init__(
        self, neurons: Any, plans: Sequence[Plan], weights: FloatArray, delay: float, name: str, code: Any
    ) -> None:
        event = neurons.variables["_spikespace"]
        KeptRunner.__init__(  # type: ignore[call-arg]  # Brian2 ships no types
            self,
            neurons,
            "kernels",
            clock=neurons.clock,
            when=SLOT,
            order=DELIVER,
            name=name,
            template_kwds={"eventspace_variable": event},
            needed_variables=["_spikespace"],
            codeobj_class=code,
        )
        self.neurons, self.plans, self._delay = weakref.proxy(neurons), tuple(plans), np.array([delay])
        self.variables = Variables(self)
        self.variables.add_constant("N", len(weights))
        self.variables.add_array("w", size=len(weights), values=weights, dtype=np.float64)
        self.variables.add_references(neurons, ["v", "_spikespace"])
        self.queue = get_device().spike_queue(0, len(neurons))
        self.variables.add_object("_queue", self.queue)
        self.variables.add_object("_plans", tuple(plan.arrays for plan in plans))
        self.add_dependency(neurons)
        self._enable_group_attributes()

    def before_run(self, run_namespace: Any) -> None:
        """Prepare the queue; Brian2 calls this before each run."""
        super().before_run(run_namespace)
        self.queue.prepare(self._delay, self.clock.dt_, np.arange(len(self.neurons), dtype=np.int32))

    def _full_state(self) -> dict[str, Any]:
        return {**super()._full_state(), "_spikequeue": self.queue._full_state()}

    def _restore_from_full_state(self, state: dict[str, Any]) -> None:
        super()._restore_from_full_state({name: value for name, value in state.items() if name != "_spikequeue"})
        self.queue._restore_from_full_state(state["_spikequeue"])

    def __del__(self) -> None:
        """Suppress Brian2's warning of objects that were never run: a network may be built without being run."""
