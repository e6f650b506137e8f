"""Errors that are put in on purpose: a backend that tells a lie, a graph that is not the model's. All must be found.

Each is planted in strop as it is imported when the case runs, so that a mutant of the comparison meets a real error.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from outcome import Case
from random_networks import random_frames, randomise

from strop.keras import SpikingBReLU, SpikingSigmoid

L = keras.layers
Spikes = dict[str, Any]
CHUNK = 5
COUNT = 13  # two whole chunks and one of three frames


def skips() -> keras.Model:
    """Three layers and skips of one and two more steps; a softmax at the end."""
    x = keras.Input((6,))
    a = SpikingBReLU(1.0, name="a")(L.Dense(7)(x))
    b = SpikingSigmoid(1.0, name="b")(L.Dense(6)(a))
    c = SpikingBReLU(1.0, name="c")(L.Dense(6)(L.Concatenate()([a, b])))
    d = SpikingSigmoid(1.0, name="d")(L.Dense(6)(L.Concatenate()([a, b, c])))
    return keras.Model(x, L.Dense(3, activation="softmax")(d))


def spikes_out() -> keras.Model:
    """Spikes are what the model answers; an inner population that Keras does not show."""
    x = keras.Input((6, 5, 1))
    y = SpikingBReLU(1.0, name="act")(L.MaxPooling2D(2)(L.Conv2D(3, 2, name="conv")(x)))
    return keras.Model(x, SpikingBReLU(1.0, name="end")(L.Conv2D(2, 2)(y)))


# Backends -------------------------------------------------------------------------------------------------------------


def lying(spoil: Callable[[Spikes, int], Spikes | None]) -> Callable[[], list[Any]]:
    """Return a plant: the reference as a backend whose spikes are spoilt; `spoil` takes them and the chunk's number."""

    def plant() -> list[Any]:
        reference = importlib.import_module("strop.running.reference").ReferenceBackend
        runner_class = importlib.import_module("strop.running.backend").Runner

        class LyingRunner(runner_class):  # type: ignore[misc, valid-type]
            def __init__(self, honest: Any) -> None:
                self.honest, self.chunk = honest, -1

            def run(self, signals: Any) -> Any:
                self.chunk += 1
                spikes = {name: values.copy() for name, values in self.honest.run(signals).items()}
                return spoil(spikes, self.chunk) or spikes

        class LyingBackend(reference):  # type: ignore[misc, valid-type]
            name = "liar"

            def prepare(self, graph: Any, **options: Any) -> Any:
                return LyingRunner(super().prepare(graph, **options))

        return ["reference", LyingBackend()]

    return plant


def flipped(population: str, chunk: int, frame: int, unit: int = 0) -> Callable[[Spikes, int], None]:
    """Flip one spike of one unit in one frame."""

    def spoil(spikes: Spikes, now: int) -> None:
        if now == chunk:
            spikes[population].reshape(len(spikes[population]), -1)[frame, unit] ^= True

    return spoil


def _late(population: str) -> Callable[[Spikes, int], None]:
    """All spikes of one population come one step too late."""

    def spoil(spikes: Spikes, now: int) -> None:
        spikes[population][1:] = spikes[population][:-1].copy()
        spikes[population][0] = False

    return spoil


def _border() -> Callable[[Spikes, int], None]:
    """The first frame of a chunk is answered with the last one of the chunk before."""
    last: Spikes = {}

    def spoil(spikes: Spikes, now: int) -> None:
        for name, values in spikes.items():
            kept = values[-1].copy()
            if name in last:
                values[0] = last[name]
            last[name] = kept

    return spoil


def _exchanged(spikes: Spikes, now: int) -> None:
    for values in spikes.values():
        values[[0, 1]] = values[[1, 0]]


def _silent(spikes: Spikes, now: int) -> None:
    spikes["b"][:] = False


def _firing(spikes: Spikes, now: int) -> None:
    spikes["d"][:] = True


def _backwards(spikes: Spikes, now: int) -> None:
    for name in spikes:
        spikes[name] = spikes[name][::-1].copy()


def _missing(spikes: Spikes, now: int) -> None:
    del spikes["b"]


def _one_frame_less(spikes: Spikes, now: int) -> Spikes:
    return {name: values[:-1] for name, values in spikes.items()}


def _one_frame(spikes: Spikes, now: int) -> Spikes:
    return {name: values[:1] for name, values in spikes.items()}


BACKENDS: dict[str, Callable[[], list[Any]]] = {
    "one spike, first layer": lying(flipped("a", 0, 2)),
    "one spike, last layer": lying(flipped("d", 1, 2, 3)),
    "one spike, last frame of a chunk": lying(flipped("b", 0, CHUNK - 1)),
    "one spike, first frame of a chunk": lying(flipped("c", 1, 0)),
    "one spike, last frame of all": lying(flipped("c", 2, COUNT % CHUNK - 1)),
    "a population too late": lying(_late("b")),
    "chunk borders": lying(_border()),
    "two frames exchanged": lying(_exchanged),
    "a silent population": lying(_silent),
    "an always firing population": lying(_firing),
    "frames backwards": lying(_backwards),
    "a population missing": lying(_missing),
    "a frame missing": lying(_one_frame_less),
    "one frame for all": lying(_one_frame),
}


def blurred(spoil: Callable[[Spikes, int], Spikes | None] | None = None) -> Callable[[], list[Any]]:
    """Return a plant: a backend that says that it cannot tell neighbouring potentials apart, and may lie besides."""

    def plant() -> list[Any]:
        backends = lying(spoil or (lambda spikes, now: None))()
        type(backends[1]).resolution = 1e-7
        return backends

    return plant


# Graphs ---------------------------------------------------------------------------------------------------------------


def another_graph(change: Callable[[Any], Any]) -> Callable[[], list[Any]]:
    """Return a plant: the graph that verification gets is not the one that lowering made."""

    def plant() -> list[Any]:
        lowering = importlib.import_module("strop.lowering")
        # A case may be run again in one process: nothing is spoilt twice.
        honest = getattr(lowering.trace, "honest", lowering.trace)

        def trace(*args: Any, **kwargs: Any) -> Any:
            found = honest(*args, **kwargs)
            return replace(found, graph=change(found.graph))

        trace.honest = honest  # type: ignore[attr-defined]
        lowering.trace = trace  # type: ignore[attr-defined]
        return ["reference"]

    return plant


def _populations(graph: Any, name: str, **fields: Any) -> Any:
    return replace(graph, populations=[replace(p, **fields) if p.name == name else p for p in graph.populations])


def _operator(graph: Any, source: str, target: str, change: Callable[[Any], Any]) -> Any:
    from strop.graph import Composed, Dense

    def changed(operator: Any) -> Any:
        if isinstance(operator, Composed):
            return replace(operator, stages=(*operator.stages[:-1], changed(operator.stages[-1])))
        assert isinstance(operator, Dense)
        return replace(operator, weight=change(operator.weight.copy()))

    return replace(
        graph,
        projections=[
            replace(p, operator=changed(p.operator)) if (p.source, p.target) == (source, target) else p
            for p in graph.projections
        ],
    )


def _first_readout(graph: Any, change: Callable[[Any], Any]) -> Any:
    return replace(graph, readouts=[change(graph.readouts[0]), *graph.readouts[1:]])


def readout_weights(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a change of a graph: the weights of its first read-out's first operator changed."""

    def spoil(readout: Any) -> Any:
        operators = [replace(readout.operators[0], weight=change(readout.operators[0].weight.copy()))]
        return replace(readout, operators=(*operators, *readout.operators[1:]))

    return lambda graph: _first_readout(graph, spoil)


def _negated(weight: Any) -> Any:
    return -weight


def _one_weight(weight: Any) -> Any:
    weight[2, 0] += 1.0
    return weight


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "one weight": lambda g: _operator(g, g.inputs[0].name, "a", _one_weight),
    "weights transposed": lambda g: _operator(g, "a", "b", lambda w: w[::-1, ::-1]),
    "weights negated": lambda g: _operator(g, "c", "d", _negated),
    "a threshold": lambda g: _populations(g, "c", threshold=g.population("c").threshold + 0.4),
    "a bias dropped": lambda g: _populations(g, "b", bias=0.0),
    "biases exchanged": lambda g: _populations(g, "d", bias=g.population("d").bias[::-1]),
    "read-out: rows exchanged": readout_weights(lambda w: w[[1, 0, *range(2, len(w))]]),
    "read-out: classes exchanged": readout_weights(lambda w: w[:, ::-1]),
    "read-out: bias dropped": lambda g: _first_readout(g, lambda r: replace(r, bias=np.zeros(()))),
    "read-out: no softmax": lambda g: _first_readout(g, lambda r: replace(r, kind="linear")),
    "read-out: scaled": readout_weights(lambda w: 1.5 * w),
}


def _spikes_and_potentials(graph: Any, frames: Any) -> tuple[Spikes, Spikes]:
    """Return what every population sends and adds up, worked out here: strop's own evaluation may be the mutant."""
    known: Spikes = {graph.inputs[0].name: frames.astype(np.float64)}
    potentials: Spikes = {}
    for population in graph.populations:
        parts = [p.operator.apply(known[p.source]) for p in graph.incoming(population.name)]
        potentials[population.name] = sum(parts) + population.bias
        known[population.name] = potentials[population.name] >= population.threshold
    return known, potentials


def by_a_hair(graph: Any, frames: Any, name: str, hair: float) -> tuple[Any, int, int]:
    """Return the graph with one threshold moved past the lowest potential that fired; the frame and the unit.

    In this frame the unit fires no more, by so little; nothing else changes.
    """
    known, potentials = _spikes_and_potentials(graph, frames)
    above = np.where(known[name], potentials[name], np.inf)
    frame, unit = np.unravel_index(int(above.argmin()), above.shape)
    threshold = np.array(graph.population(name).threshold)
    threshold[unit] = potentials[name][frame, unit] + hair
    return _populations(graph, name, threshold=threshold), int(frame), int(unit)


def _hairs() -> list[Case]:
    """Faults that are small: far enough from the thresholds to be faults, near enough for a loose bound to excuse."""
    import strop

    keras.utils.set_random_seed(3)
    model = skips()
    randomise(model, np.random.default_rng(5))
    frames = random_frames(model, np.random.default_rng(6), COUNT, levels=255)
    found = [
        Case(
            *(f"planted: a threshold in {name!r}, by a hair", "planted", model, frames),
            plant=another_graph(lambda g, name=name: by_a_hair(g, frames, name, 1e-5)[0]),  # type: ignore[misc]
            chunk=CHUNK,
        )
        for name in "abcd"
    ]
    honest = strop.lower(model)
    for name in "bd":
        graph, frame, unit = by_a_hair(honest, frames, name, 1e-12)
        lie = lying(flipped(name, frame // CHUNK, frame % CHUNK, unit))
        found.append(
            Case(
                f"planted: a spike in {name!r}, by a hair", "planted", lambda g=graph: g, frames, plant=lie, chunk=CHUNK
            )
        )
    return found


def weighted(make: Callable[[], keras.Model]) -> tuple[keras.Model, Any]:
    """Return the model with random weights of eighths, and frames for it."""
    keras.utils.set_random_seed(3)
    model = make()
    randomise(model, np.random.default_rng(3), coarse=True)
    return model, random_frames(model, np.random.default_rng(4), COUNT, levels=8)


def cases() -> list[Case]:
    """Return the cases whose right answer is a failed verification."""
    model, frames = weighted(skips)
    labels = np.arange(COUNT) % 3
    found = [
        Case(f"planted: {name}", "planted", model, frames, labels, plant=plant, chunk=CHUNK)
        for name, plant in BACKENDS.items()
    ]
    found += [
        Case(f"planted: {name}", "planted", model, frames, labels, plant=another_graph(change), chunk=CHUNK)
        for name, change in GRAPHS.items()
    ]
    found.append(Case("skips", "sound", model, frames, labels, chunk=CHUNK))
    found += _hairs()
    images, pictures = weighted(spikes_out)
    found.append(Case("blurred", "sound", model, frames, labels, plant=blurred(), chunk=CHUNK))
    for name, plant in (
        ("a blurred backend's spike", blurred(flipped("end", 1, 4))),
        (
            "another graph than Keras's",
            another_graph(lambda g: _populations(g, "end", bias=g.population("end").bias + 1.5)),
        ),
        ("another hidden population", another_graph(lambda g: _populations(g, "act/before_pool", bias=-2.0))),
        ("output spike", lying(flipped("end", 1, 4))),
        ("hidden spike", lying(flipped("act/before_pool", 0, 1))),
    ):
        found.append(Case(f"planted: {name}", "planted", images, pictures, plant=plant, chunk=CHUNK))
    return found
