"""Backends with one thing wrong, and small networks for them: the explanation must name what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from corruption import with_graph

from strop.graph import Composed, Convolution, Dense, Graph, Input, Operator, Population, Readout, Select, SumPool
from strop.running.backend import Runner
from strop.running.oracle import fires, potential
from strop.running.reference import ReferenceBackend

Spikes = dict[str, Any]


class _Run(Runner):
    def __init__(self, run: Callable[[Mapping[str, Any]], Spikes]) -> None:
        self._run = run

    def run(self, signals: Mapping[str, Any]) -> Spikes:
        return self._run(signals)


class Broken(ReferenceBackend):
    """Runs another graph than it is given, or tells other spikes than it has."""

    name = "broken"

    def __init__(self, change: Callable[[Graph], Graph] | None = None, lie: Callable[[Spikes], None] | None = None):
        self.change, self.lie = change, lie

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        honest = super().prepare(self.change(graph) if self.change else graph)

        def run(signals: Mapping[str, Any]) -> Spikes:
            spikes = {name: values.copy() for name, values in honest.run(signals).items()}
            if self.lie is not None:
                self.lie(spikes)
            return spikes

        return _Run(run)


class Delayed(ReferenceBackend):
    """Delivers the spikes of one projection too late, or too early."""

    name = "delayed"

    def __init__(self, source: str, target: str, steps: int) -> None:
        self.late = (source, target, steps)

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        source, target, late = self.late

        def run(signals: Mapping[str, Any]) -> Spikes:
            count = len(next(iter(signals.values())))
            room = graph.total_depth + abs(late) + 1
            sent = {name: np.concatenate([v, np.zeros((room, *v.shape[1:]), v.dtype)]) for name, v in signals.items()}
            for population in graph.populations:
                total = np.zeros((count + room, *population.shape))
                for p in graph.incoming(population.name):
                    delay = p.delay + (late if (p.source, p.target) == (source, target) else 0)
                    part = p.operator.apply(sent[p.source])
                    total[delay:] += part[: len(part) - delay]
                sent[population.name] = fires(population, total + population.bias)
            first = {population.name: graph.depth(population.name) for population in graph.populations}
            return {name: sent[name][start : start + count] for name, start in first.items()}

        return _Run(run)


class Remembering(ReferenceBackend):
    """One population keeps its potential from frame to frame, or pauses after a spike."""

    name = "remembering"

    def __init__(self, layer: str, *, pauses: bool) -> None:
        self.layer, self.pauses = layer, pauses

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        def run(signals: Mapping[str, Any]) -> Spikes:
            known: dict[str, Any] = dict(signals)
            for population in graph.populations:
                a = potential(graph, population.name, known)
                known[population.name] = fires(population, a)
                if population.name == self.layer:
                    known[population.name] = self._kept(population, a)
            return {name: known[name] for name in graph.population_names}

        return _Run(run)

    def _kept(self, population: Population, a: Any) -> Any:
        spikes = np.zeros(a.shape, bool)
        kept, last = np.zeros(population.shape), np.zeros(population.shape, bool)
        for frame, own in enumerate(a):
            last = (fires(population, own) & ~last) if self.pauses else fires(population, own + kept)
            kept = np.where(last, 0.0, own + kept - population.bias)
            spikes[frame] = last
        return spikes


# Networks -------------------------------------------------------------------------------------------------------------


def vectors(seed: int = 0) -> Graph:
    """Three dense layers, d1 of 30, d2 of 24, d3 of 16 neurons, and a skip from d1 to d3; every sum is inexact."""
    rng = np.random.default_rng(seed)
    sizes, names = (12, 30, 24, 16), ("d1", "d2", "d3")
    populations = [Population(n, (s,), 0.5, rng.normal(0, 0.3, s)) for n, s in zip(names, sizes[1:], strict=True)]
    links = [
        (source, target, Dense(rng.normal(0, 2 / np.sqrt(before), (before, after))))
        for source, target, before, after in zip(["x", *names], names, sizes, sizes[1:], strict=False)
    ]
    links.append(("d1", "d3", Dense(rng.normal(0, 0.4, (30, 16)))))
    readout = Readout("out", "softmax", ("d3",), (Dense(rng.normal(size=(16, 4))),), np.zeros(4))
    return Graph.from_nodes([Input("x", (12,), "current")], populations, links, [readout], ["out"])


def images(encoding: str = "host", seed: int = 0) -> Graph:
    """Two convolutions with a pool between them, flattened into a dense layer."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.5, (3, 3, 2, 4))
    if encoding == "bitplane":
        kernel = (kernel[:, :, :, None] * (2.0 ** np.arange(8) / 255)[:, None]).reshape(3, 3, 16, 4)
    ones, padding = (1, 1), ((1, 1), (1, 1))
    first = Convolution((8, 10, kernel.shape[2]), kernel, ones, ones, padding)
    pool = SumPool(first.shape_out, (2, 2), (2, 2), ((0, 0), (0, 0)))
    second = Convolution(pool.shape_out, rng.normal(0, 0.4, (3, 3, 4, 4)), ones, ones, padding)
    flat = Select(second.shape_out, np.arange(second.size_out))
    dense = Composed((flat, Dense(rng.normal(0, 0.35, (second.size_out, 20)))))
    biases = [np.broadcast_to(rng.normal(0, 0.3, 4), shape) for shape in (first.shape_out, second.shape_out)]
    return Graph.from_nodes(
        [Input("image", (8, 10, 2), encoding)],
        [
            Population("conv", first.shape_out, 0.5, biases[0]),
            Population("pool", pool.shape_out, 0.5, 0.0),
            Population("conv2", second.shape_out, 0.5, biases[1]),
            Population("code", (20,), 0.5, rng.normal(0, 0.3, 20)),
        ],
        [("image", "conv", first), ("conv", "pool", pool), ("pool", "conv2", second), ("conv2", "code", dense)],
        [Readout("out", "linear", ("code",), (Dense(rng.normal(size=(20, 4))),), rng.normal(size=4))],
        ["out"],
    )


# Changes of a graph ---------------------------------------------------------------------------------------------------

Change = Callable[[Graph], Graph]


def operator(source: str, target: str, change: Callable[[Operator], Operator]) -> Change:
    """Change the operator of one projection."""

    def changed(graph: Graph) -> Graph:
        return with_graph(
            graph,
            projections=tuple(
                replace(p, operator=change(p.operator)) if (p.source, p.target) == (source, target) else p
                for p in graph.projections
            ),
        )

    return changed


def weights(source: str, target: str, change: Callable[[Any], Any]) -> Change:
    """Change the weight matrix, or the kernel, of one projection: `change` returns another, or writes into its copy."""

    def changed(own: Operator) -> Operator:
        if isinstance(own, Composed):
            return Composed((*own.stages[:-1], changed(own.stages[-1])))
        values = np.array(own.weight if isinstance(own, Dense) else own.kernel)  # type: ignore[attr-defined]  # of tests
        found = change(values)
        other = values if found is None else found
        return replace(own, weight=other) if isinstance(own, Dense) else own.with_kernel(other)  # type: ignore[attr-defined]

    return operator(source, target, changed)


def neurons(name: str, **changes: Callable[[Any], Any]) -> Change:
    """Change the threshold or the bias of one population."""

    def changed(graph: Graph) -> Graph:
        return with_graph(
            graph,
            populations=tuple(
                replace(p, **{what: change(np.array(getattr(p, what))) for what, change in changes.items()})
                if p.name == name
                else p
                for p in graph.populations
            ),
        )

    return changed


def at(index: Any, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change one part of an array."""

    def changed(values: Any) -> Any:
        values = np.array(values)
        values[index] = change(values[index])
        return values

    return changed


def exchanged(one: int, other: int, axis: int = 0) -> Callable[[Any], Any]:
    """Exchange two rows, or columns."""

    def changed(values: Any) -> Any:
        order = np.arange(values.shape[axis])
        order[[one, other]] = order[[other, one]]
        return values.take(order, axis)

    return changed
