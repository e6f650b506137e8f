"""Single synapses in Nengo whose weights can be read and changed while a simulator runs.

Nengo's own transforms keep their weights in read-only signals, which simulators share with the network (nengo 4.1.0,
`builder/transforms.py`; `builder/signal.py`, `SignalDict.init`). Here each simulator has a writable copy, a weight for
each synapse, that `Simulator.reset` sets back.
"""

from __future__ import annotations

from typing import Any

import nengo
import numpy as np
import numpy.typing as npt
from nengo.builder.builder import Builder
from nengo.builder.operator import Operator, Reset
from nengo.builder.signal import Signal
from scipy.sparse import csr_array

from strop.errors import BackendError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Synapses(nengo.Sparse):  # type: ignore[misc]  # Nengo ships no types
    """A sparse transform whose weights are a signal of their own, one value for each synapse.

    Parameters
    ----------
    shape : (int, int)
        Numbers of target and source neurons.
    pre, post : int arrays, shape (synapses,)
    weight : float64 array, shape (synapses,)
    """

    def __init__(self, shape: tuple[int, int], pre: IntArray, post: IntArray, weight: FloatArray) -> None:
        super().__init__(shape, indices=np.stack([post, pre], axis=1), init=weight)
        # By target, as a CSR matrix wants it; `place` is where each synapse went.
        order = np.lexsort((pre, post))
        self.place = np.empty_like(order)
        self.place[order] = np.arange(len(order))
        self.columns = pre[order]
        self.ends = np.concatenate([[0], np.cumsum(np.bincount(post, minlength=shape[0]))])
        self.sorted_weight = np.asarray(weight, np.float64)[order]


class SynapseInc(Operator):  # type: ignore[misc]  # Nengo ships no types
    """Adds the weights of all synapses whose source fires to their targets: `Y += W X`."""

    def __init__(self, weight: Signal, x: Signal, y: Signal, synapses: Synapses, tag: str | None = None) -> None:
        super().__init__(tag=tag)
        self.synapses = synapses
        self.sets: list[Signal] = []
        self.incs = [y]
        self.reads = [weight, x]
        self.updates: list[Signal] = []

    def make_step(self, signals: Any, dt: float, rng: Any) -> Any:
        """Return the function that Nengo calls once a step."""
        weight, x, y = signals[self.reads[0]], signals[self.reads[1]], signals[self.incs[0]]
        shape = (self.synapses.size_out, self.synapses.size_in)
        matrix = csr_array((weight, self.synapses.columns, self.synapses.ends), shape=shape)
        # Weights written to the signal must be those that are multiplied.
        assert np.shares_memory(matrix.data, weight)

        def add() -> None:
            y[...] += matrix @ x

        return add


@Builder.register(Synapses)  # type: ignore[untyped-decorator,unused-ignore]  # Nengo ships no types
def build_synapses(
    model: Any, transform: Synapses, sig_in: Signal, decoders: Any = None, encoders: Any = None, rng: Any = np.random
) -> tuple[Signal, Signal]:
    """Build the transform; Nengo calls this when a simulator is made."""
    if decoders is not None or encoders is not None:
        raise BackendError("nengo: strop's synapses connect neurons, not what ensembles represent")
    weighted = Signal(shape=transform.size_out, name=f"{transform}.weighted")
    model.add_op(Reset(weighted))
    weight = Signal(transform.sorted_weight, name=f"{transform}.weights")
    model.add_op(SynapseInc(weight, sig_in, weighted, transform, tag=f"{transform}.apply_weights"))
    return weighted, weight


def weights_in(simulator: Any, connection: Any) -> FloatArray:
    """Return the weights that a simulator has now for a connection over `Synapses`, a writable view, by target."""
    if simulator.closed:
        raise BackendError("nengo: the simulator is closed, and its weights are gone with it")
    try:
        signal = simulator.model.sig[connection]["weights"]
        weights: FloatArray = simulator.signals[signal]
    except KeyError:
        raise BackendError("nengo: the simulator was made for another network") from None
    return weights
