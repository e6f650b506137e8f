"""`Graph`: the backend-neutral spiking network, validated when it is made and never changed after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from strop.errors import GraphError, did_you_mean
from strop.graph.content import Content
from strop.graph.diagram import Diagram, draw
from strop.graph.files.read import load_graph
from strop.graph.files.write import save_graph
from strop.graph.html_table import html_table
from strop.graph.nodes import Input, Population, Projection, Readout


@dataclass(frozen=True, eq=False)
class Graph(Content):
    """A feed-forward network of threshold populations.

    Parameters
    ----------
    inputs, populations, projections, readouts : tuples of nodes
        `populations` in topological order.
    outputs : tuple of str
        Populations or read-outs that are the model's outputs, in their order.
    name : str
    assumptions : tuple of str
        What its reader took for granted, in sentences that every report shows; not part of a `.strop` file.

    Notes
    -----
    `depth` of a population is the longest path from an input, and every projection's delay is
    `depth(target) - depth(source)`: all spikes of one frame reach a population in the same step, and because
    neurons keep no history a new frame may enter at every step. Population P responds to frame n at step
    `n + depth(P)`.
    """

    inputs: tuple[Input, ...]
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    readouts: tuple[Readout, ...] = ()
    outputs: tuple[str, ...] = ()
    name: str = "network"
    assumptions: tuple[str, ...] = ()
    depths: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for what in ("inputs", "populations", "projections", "readouts", "outputs", "assumptions"):
            set_(self, what, tuple(getattr(self, what)))
        self._check_names()
        set_(self, "depths", MappingProxyType(self._find_depths()))
        self._check_projections()
        self._check_readouts()

    # Checks -----------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        nodes: list[Input | Population | Readout] = [*self.inputs, *self.populations, *self.readouts]
        names = [node.name for node in nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise GraphError(f"names must be unique; given more than once: {', '.join(twice)}")
        if not self.inputs or not self.populations:
            raise GraphError("a graph needs at least one input and one population")

    def _find_depths(self) -> dict[str, int]:
        depths = {node.name: 0 for node in self.inputs}
        order = {population.name: n for n, population in enumerate(self.populations)}
        for population in self.populations:
            sources = [p.source for p in self.projections if p.target == population.name]
            if not sources:
                raise GraphError(f"population {population.name!r} has no incoming projection")
            for source in sources:
                if source not in depths and source in order:
                    raise GraphError(
                        f"populations must be in topological order, without cycles: {population.name!r} "
                        f"is fed by {source!r}, which does not stand before it"
                    )
                if source not in depths:
                    raise GraphError(f"projection {source} -> {population.name}: there is no node {source!r}")
            depths[population.name] = 1 + max(depths[source] for source in sources)
        return depths

    def _check_projections(self) -> None:
        populations = {population.name: population for population in self.populations}
        for p in self.projections:
            what = f"projection {p.source} -> {p.target}"
            if p.target not in populations:
                raise GraphError(f"{what}: there is no population {p.target!r}")
            if p.operator.shape_in != self.signal_shape(p.source):
                raise GraphError(
                    f"{what}: the operator takes {p.operator.shape_in}, the source gives {self.signal_shape(p.source)}"
                )
            if p.operator.shape_out != populations[p.target].shape:
                raise GraphError(
                    f"{what}: the operator gives {p.operator.shape_out}, the target has the shape "
                    f"{populations[p.target].shape}"
                )
            delay = self.depths[p.target] - self.depths[p.source]
            if p.delay != delay:
                raise GraphError(f"{what}: the delay must be {delay} (the difference of depths), got {p.delay}")

    def _check_readouts(self) -> None:
        populations = {population.name for population in self.populations}
        for readout in self.readouts:
            for source, operator in zip(readout.sources, readout.operators, strict=True):
                if source not in populations:
                    raise GraphError(f"read-out {readout.name!r} reads {source!r}, which is no population")
                if operator.shape_in != self.signal_shape(source):
                    raise GraphError(f"read-out {readout.name!r} does not fit the shape of {source!r}")
        known = populations | {readout.name for readout in self.readouts}
        unknown = [name for name in self.outputs if name not in known]
        if unknown or not self.outputs:
            raise GraphError(f"outputs must name populations or read-outs; unknown: {unknown or 'none given'}")

    # Questions --------------------------------------------------------------------------------------------------

    @classmethod
    def from_nodes(
        cls,
        inputs: Iterable[Input],
        populations: Iterable[Population],
        connections: Iterable[tuple[str, str, Any]],
        readouts: Iterable[Readout] = (),
        outputs: Iterable[str] = (),
        name: str = "network",
        assumptions: Iterable[str] = (),
    ) -> Graph:
        """Make a graph from `(source, target, operator)` triples; the delays follow from the depths."""
        inputs, populations, connections = tuple(inputs), tuple(populations), tuple(connections)
        depths = {node.name: 0 for node in inputs}
        for population in populations:
            before = [depths.get(source, 0) for source, target, _ in connections if target == population.name]
            depths[population.name] = 1 + max(before, default=0)
        projections = tuple(
            Projection(source, target, operator, max(1, depths.get(target, 1) - depths.get(source, 0)))
            for source, target, operator in connections
        )
        return cls(inputs, populations, projections, tuple(readouts), tuple(outputs), name, tuple(assumptions))

    @cached_property
    def _nodes(self) -> dict[str, Input | Population]:
        nodes: list[Input | Population] = [*self.inputs, *self.populations]
        return {node.name: node for node in nodes}

    def population(self, name: str) -> Population:
        """Return the population of that name, or raise `GraphError`."""
        node = self._nodes.get(name)
        if not isinstance(node, Population):
            known = ", ".join(self.population_names)
            raise GraphError(
                f"there is no population {name!r}; there are: {known}{did_you_mean(name, self.population_names)}"
            )
        return node

    @property
    def population_names(self) -> tuple[str, ...]:
        """Names of all populations, in topological order."""
        return tuple(population.name for population in self.populations)

    def signal_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the signal that the input or population of that name sends in one step."""
        node = self._nodes[name]
        return node.signal_shape if isinstance(node, Input) else node.shape

    @cached_property
    def _incoming(self) -> dict[str, tuple[Projection, ...]]:
        return {
            population.name: tuple(p for p in self.projections if p.target == population.name)
            for population in self.populations
        }

    def incoming(self, population: str) -> tuple[Projection, ...]:
        """Projections that end at `population`."""
        return self._incoming[population]

    def depth(self, name: str) -> int:
        """Longest path, in steps, from an input to the node of that name."""
        return self.depths[name]

    @property
    def total_depth(self) -> int:
        """Steps from the entry of a frame to the last response to it."""
        return max(self.depths.values())

    @cached_property
    def host_populations(self) -> frozenset[str]:
        """Populations that the host evaluates, not the simulator (encoding `host`).

        These are the populations behind an analogue input. Where such a population also takes spikes, the populations
        that send them are evaluated on the host too.
        """
        analogue = {node.name for node in self.inputs if node.encoding == "host"}
        found: set[str] = set()
        wanted: set[str] = set()  # what a population on the host takes spikes from
        for population in reversed(self.populations):
            sources = {p.source for p in self.incoming(population.name)}
            if sources & analogue or population.name in wanted:
                found.add(population.name)
                wanted |= sources
        return frozenset(found)

    @property
    def neurons(self) -> int:
        """Number of neurons in all populations."""
        return sum(population.size for population in self.populations)

    @cached_property
    def synapses(self) -> int:
        """Number of single synapses that all projections expand to."""
        return sum(p.operator.synapse_count for p in self.projections)

    def save(self, path: str | Path) -> None:
        """Write the graph to a `.strop` file, whole or not at all; see `strop.graph.files`."""
        save_graph(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read a graph from a `.strop` file; see `strop.graph.files`."""
        return load_graph(path, cls)

    def plot(self, path: str | Path | None = None) -> Diagram:
        """Draw the graph: populations as boxes along their depth, skip connections as arcs.

        >>> graph.plot()  # shows itself in a notebook
        >>> graph.plot("network.svg")

        Needs matplotlib and networkx: `pip install 'strop[plot]'`.

        Parameters
        ----------
        path : path, optional
            A file to write: `.svg`, `.png` or `.pdf`.

        Raises
        ------
        ExtraMissingError
            If matplotlib or networkx is not installed.
        DataError
            If the path ends in none of these.
        """
        diagram = draw(self)
        if path is not None:
            diagram.save(path)
        return diagram

    def _repr_html_(self) -> str:
        rows = [
            (
                population.name,
                "×".join(map(str, population.shape)),
                population.size,
                sum(p.operator.synapse_count for p in self.incoming(population.name)),
                self.depth(population.name),
                ", ".join(dict.fromkeys(p.source for p in self.incoming(population.name))),
            )
            for population in self.populations
        ]
        inputs = ", ".join(f"{n.name} {'×'.join(map(str, n.shape))} ({n.encoding})" for n in self.inputs)
        about = f"{self.neurons:,} neurons, {self.synapses:,} synapses, depth {self.total_depth}; input: {inputs}"
        headings = ("population", "shape", "neurons", "synapses", "depth", "fed by")
        return html_table(f"Graph {self.name}", headings, rows, about=about)

    def __repr__(self) -> str:
        return (
            f"<Graph {self.name!r}: {len(self.populations)} populations, {self.neurons} neurons, "
            f"depth {self.total_depth}>"
        )
