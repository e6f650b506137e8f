"""The backend `reference`: the oracle's float64 arithmetic, streamed with the delays of the graph; no simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.graph import ENCODINGS, Graph
from strop.running.arithmetic import FLOAT64, Arithmetic
from strop.running.backend import Backend, Runner
from strop.running.oracle import BoolArray, Signals, blocks_of, fires


class _ReferenceRunner(Runner):
    """Streams frames through the network, spikes travelling with the delays of their projections."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, signals: Signals) -> dict[str, BoolArray]:
        graph = self.graph
        count = len(next(iter(signals.values())))
        steps = count + graph.total_depth
        # One column of time per node: neurons without memory let a whole column be computed at once, because a
        # population at step t needs nothing but its sources at step t - delay.
        trace: dict[str, npt.NDArray[Any]] = {
            name: np.concatenate([values, np.zeros((graph.total_depth, *values.shape[1:]), values.dtype)])
            for name, values in signals.items()
        }
        for population in graph.populations:
            spikes = trace[population.name] = np.empty((steps, *population.shape), dtype=np.bool_)
            for at in blocks_of(steps, population.size):
                total = np.zeros((at.stop - at.start, *population.shape))
                for p in graph.incoming(population.name):
                    # Before step `delay`, nothing has arrived.
                    sent = trace[p.source][max(at.start - p.delay, 0) : max(at.stop - p.delay, 0)]
                    if len(sent):
                        total[-len(sent) :] += p.operator.apply(sent)
                total += population.bias
                spikes[at] = fires(population, total)
        return {
            population.name: trace[population.name][(first := graph.depth(population.name)) : first + count]
            for population in graph.populations
        }


class ReferenceBackend(Backend):
    """The oracle as a backend: float64 NumPy, streaming with delays, no simulator needed."""

    name: ClassVar[str] = "reference"
    summary: ClassVar[str] = "float64 NumPy, the oracle's arithmetic; streams with delays"
    encodings: ClassVar[tuple[str, ...]] = ENCODINGS

    @property
    def arithmetic(self) -> Arithmetic:
        """float64: sums stage by stage, in the order that NumPy and its BLAS choose, and the bias."""
        return replace(FLOAT64, name=self.name, source="strop.running.oracle: NumPy in float64")

    @classmethod
    def version(cls) -> str:
        """Version of NumPy."""
        return f"numpy {np.__version__}"

    def build(self, graph: Graph, **options: Any) -> Graph:
        """Return the graph itself: it is what this backend runs."""
        return graph

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Return a runner; there are no options."""
        self.refuse_options(options)
        return _ReferenceRunner(graph)
