"""`Backend` and `Runner`: the interface of strop's plug-ins for simulators.

A backend is registered in the entry-point group `strop.backends`; `strop.running.registry` finds and loads it.
"""

from __future__ import annotations

import operator
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sized
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError, did_you_mean
from strop.graph import Graph
from strop.running.arithmetic import FLOAT32, FLOAT64, Arithmetic

Pair = tuple[str, str]


class NotOfferedError(BackendError):
    """A backend was asked for something that a backend need not offer, and this one does not."""

    def __init__(self, kind: type, what: str) -> None:
        super().__init__(f"{kind.__name__} does not offer {what}()")


class Runner(ABC):
    """A graph that was built once and can be run on any number of chunks of frames."""

    @abstractmethod
    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk through the network.

        Parameters
        ----------
        signals : mapping of input name to array, shape (n, *signal_shape)
            Encoded frames, from `strop.running.encode.encode`: bool spikes, or float64 values for analogue encodings.
            They cannot be written to.

        Returns
        -------
        dict of population name to bool array, shape (n, *shape)
            Spikes of every population in response to each frame.
        """

    def close(self) -> None:
        """Release what the simulator holds. May be called more than once."""
        return None

    # Optional: the conformance suite tests what a runner offers, and skips what it does not, with a reason. ----------

    def reset(self) -> None:
        """Go back to the state in which `Backend.prepare` returned the runner: step 0, no spike under way.

        Weights that were changed stay as they are.
        """
        raise NotOfferedError(type(self), "reset")

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights that the simulator has now, in the graph's units (dimensionless, as in Keras).

        They are read from the simulator, not from the graph: what a plasticity rule has changed is seen.

        Returns
        -------
        dict of (source, target) to float64 array, shape (synapses,)
            In the order of `strop.graph.synapses_of`. Projections that are not simulated, because the host evaluates
            their target or sums up their values, are left out.
        """
        raise NotOfferedError(type(self), "weights")

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in the simulator, in place: what runs next gives the spikes of the graph with those weights.

        Parameters
        ----------
        weights : mapping of (source, target) to array, shape (synapses,)
            In the graph's units and the order of `strop.graph.synapses_of`. Projections that are not named keep theirs.

        Raises
        ------
        BackendError
            For a projection that is not simulated, another number of weights, values that are not finite, or a weight
            that this simulator cannot take there (as one of the other sign); nothing has changed then.
        """
        raise NotOfferedError(type(self), "set_weights")


def spikes_from(
    runner: Runner, signals: Mapping[str, npt.NDArray[Any]], name: str, populations: Iterable[str]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Stream one chunk through a runner; return the spikes of every population as plain arrays.

    The runner gets signals that it cannot write to: others compare with them what it gives.

    Parameters
    ----------
    name : str
        The backend's, for messages.
    populations : iterable of str
        Those of the graph.

    Raises
    ------
    BackendError
        If it gives anything but a mapping of arrays, or no spikes of a population. Types and shapes are not looked at.
    """
    locked = {source: values.view() for source, values in signals.items()}
    for values in locked.values():
        values.flags.writeable = False
    given: Any = runner.run(locked)
    if not isinstance(given, Mapping):
        raise BackendError(
            f"{name} gave a {type(given).__name__} in place of a dict with the spikes of each population"
        )
    missing = sorted(set(populations) - set(given))
    if missing:
        raise BackendError(f"{name} gave no spikes of {', '.join(missing)}")
    foreign = [population for population, values in given.items() if not isinstance(values, np.ndarray)]
    if foreign:
        kind = type(given[foreign[0]]).__name__
        raise BackendError(f"{name} gave a {kind} for the spikes of {foreign[0]!r}, which are a NumPy array of bool")
    # A subclass (masked arrays) compares in a way of its own.
    return {population: np.asarray(values) for population, values in given.items()}


def require_main_thread(module: str) -> None:
    """Raise `BackendError` if a module that sets a signal handler would be imported for the first time in a thread."""
    if module in sys.modules or threading.current_thread() is threading.main_thread():
        return
    try:
        # In a thread this changes nothing: it fails, but where handlers are left alone on purpose (workers).
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:
        raise BackendError(
            f"{module} sets a signal handler when it is imported, which Python allows in the main thread alone: import "
            f"{module} there, before this thread starts"
        ) from None


def checked_start(start: Any, name: str) -> int | None:
    """Return the step or tick in which frames are to enter, None where it is not given, or raise `BackendError`."""
    if start is None:
        return None
    try:
        step = operator.index(start)
    except TypeError:
        step = None
    if step is None or isinstance(start, bool) or not -(2**53) <= step <= 2**53:
        raise BackendError(f"{name}: start must be a whole number of steps, got {start!r}")
    return step


def checked_weights(
    weights: Mapping[Pair, npt.NDArray[np.floating[Any]]], present: Mapping[Pair, Sized], name: str
) -> dict[Pair, npt.NDArray[np.float64]]:
    """Return weights that were passed to a backend as new float64 arrays, or refuse them.

    Parameters
    ----------
    weights : mapping of (source, target) to array, shape (synapses,)
    present : mapping of (source, target) to anything that has the length of that projection's weights
        The projections that the simulator has.
    name : str
        The backend's name.

    Raises
    ------
    BackendError
        For a projection that is not among those `present`, another number of weights, or one that is not finite.
    """
    checked = {}
    for (source, target), own in weights.items():
        what = f"{name}: weights of {source} -> {target}"
        if (source, target) not in present:
            known = ", ".join(f"{a} -> {b}" for a, b in present)
            raise BackendError(f"{what} cannot be set: no such synapses are simulated (there are: {known or 'none'})")
        values = np.array(own, dtype=np.float64).reshape(-1)
        if len(values) != len(present[source, target]):
            raise BackendError(f"{what}: {len(values):,} were given for {len(present[source, target]):,} synapses")
        if not np.isfinite(values).all():
            raise BackendError(f"{what} hold values that are not finite (NaN or infinity)")
        checked[source, target] = values
    return checked


class Backend(ABC):
    """One simulator. Subclasses are registered under the entry-point group `strop.backends`.

    Attributes
    ----------
    name : str
        Name of its entry point, by which users choose it.
    summary : str
        One line for `strop backends`.
    encodings : tuple of str
        Input encodings that it can run.
    frame_interval : int
        Steps between two frames; 1 where a neuron that fired can take the next frame's input at once.
    precision : {"float64", "float32"}
        Number format of weights, thresholds and sums.
    resolution : float
        How close below its threshold a potential may come and still be told from it, relative to all that is
        compared: one that is not below by more than `resolution * (sum |w||s| + |bias| + |threshold|)` may be taken for
        equal, and fire (a threshold of 0 counts as 1). 0 where nothing is rounded but the sums, in `precision`. A
        potential that is equal to its threshold fires on every backend.
    unproved : str
        Why `strop.verify` calls no graph proved here, although `arithmetic` is stated; empty where it may.
    weight_options : mapping
        Options for `prepare` under which every single synapse has a weight that can be read and changed (see
        `Runner.weights`); empty where that is always so.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    encodings: ClassVar[tuple[str, ...]] = ("host",)
    frame_interval: ClassVar[int] = 1
    precision: ClassVar[str] = "float64"
    resolution: ClassVar[float] = 0.0
    unproved: ClassVar[str] = ""
    weight_options: ClassVar[Mapping[str, Any]] = {}

    @property
    def arithmetic(self) -> Arithmetic:
        """What weights, sums and thresholds it can hold, for `strop.quantize` and `strop.certify`.

        This default follows from `precision` and `resolution`, and is a guess: `strop.verify` calls a graph proved for
        a backend only where its class states its own, with the `source` that says so.
        """
        known = FLOAT32 if self.precision == "float32" else FLOAT64
        return replace(known, name=self.name, resolution=self.resolution)

    @property
    def states_arithmetic(self) -> bool:
        """Whether its class says itself what `arithmetic` is."""
        return type(self).arithmetic is not Backend.arithmetic

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the simulator's name and version, or raise `ImportError` if it is not installed."""

    @abstractmethod
    def build(self, graph: Graph, **options: Any) -> Any:
        """Return the simulator's native objects for `graph`, for the user's own script."""

    @abstractmethod
    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build `graph` and return a runner that streams chunks of frames through it."""

    def load(self) -> None:
        """Import what `prepare` will need; called in a process that starts ahead of it. The default does nothing."""
        return None

    def check(self, graph: Graph) -> None:
        """Raise `BackendError` if this backend cannot run `graph`; the default looks at the encodings."""
        for node in graph.inputs:
            if node.encoding not in self.encodings:
                raise BackendError(
                    f"{self.name} cannot run the encoding {node.encoding!r} of input {node.name!r}; "
                    f"it can run: {', '.join(self.encodings)}"
                )

    def fidelity(self, graph: Graph) -> list[tuple[str, str, str]]:
        """Return how faithfully this backend runs each population of `graph`, in the graph's order.

        >>> get_backend("brian2").fidelity(graph)[0]
        ('conv', 'exact', 'evaluated on the host, in float64')

        Returns
        -------
        list of (population, level, reason)
            `level` is "exact", "exact within <margin>" (a neuron whose potential comes that close to its
            threshold may decide otherwise, because sums are rounded in another order), or "unsupported".
        """
        from strop.running.fidelity import fidelity_of

        return fidelity_of(graph, self.encodings, self.precision, self.name, self.resolution)

    # Optional: for the conformance suite. --------------------------------------------------

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return options for `prepare` under which no spike may change, each with a name.

        >>> get_backend("brian2").variations()["a step of 0.1 ms"]
        {'dt': 0.0001}

        Above all other time steps; also threads, code-generation targets, and further options of users.
        """
        return {}

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Return states in which a user's script may leave the simulator before it calls strop, each with a name.

        Each is a context manager that sets the state (the simulator is in use, a preference is set, a clock has run
        far) and undoes it. Within it a network gives the same spikes, or is refused with a `StropError` that says why.
        """
        return {}

    def refuse_options(self, options: Mapping[str, Any], known: Iterable[str] = ()) -> None:
        """Raise `BackendError` if there are options left; `known` are the backend's own, for suggestions."""
        if options:
            names = sorted(options)
            raise BackendError(
                f"{self.name} does not know the option(s) {', '.join(names)}{did_you_mean(names[0], known)}"
            )
