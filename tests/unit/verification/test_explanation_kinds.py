"""More backends that are broken on purpose, by what a port to a simulator gets wrong: the first line must say what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from broken_backends import Broken, Spikes, at, exchanged, images, operator, vectors, weights

import strop
from strop.graph import Composed, Convolution, Dense, Graph, Input, Population, Readout, Scale, Select, SumPool
from strop.running.backend import Backend, Runner
from strop.running.decode import softmax
from strop.running.oracle import fires, potential
from strop.running.reference import ReferenceBackend
from strop.verification.explanation.explained import Explanation
from strop.verification.explanation.outputs import _reason

FRAMES = np.random.default_rng(1).random((200, 12), np.float32)
PICTURES = np.random.default_rng(1).random((60, 8, 10, 2), np.float32)


def first_line(graph: Graph, frames: Any, backend: Backend) -> str:
    (found,) = strop.verify(graph, frames, backends=[backend]).explanations()
    assert isinstance(found, Explanation)
    assert len(found.layers) == 1
    return found.lines()[0]


class Otherwise(ReferenceBackend):
    """Fires by other potentials, or takes other frames."""

    name = "otherwise"

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        own = self

        class Run(Runner):
            def run(self, signals: Mapping[str, Any]) -> Spikes:
                known = dict(own.frames(signals))
                for population in graph.populations:
                    known[population.name] = own.fired(graph, population, known)
                return {name: known[name] for name in graph.population_names}

        return Run()

    def frames(self, signals: Mapping[str, Any]) -> Mapping[str, Any]:
        return signals

    def fired(self, graph: Graph, population: Population, known: Mapping[str, Any]) -> Any:
        return fires(population, potential(graph, population.name, known))


class Frames(Otherwise):
    def __init__(self, change: Any) -> None:
        self.change = change

    def frames(self, signals: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: self.change(values) for name, values in signals.items()}


class Leaking(Otherwise):
    """A share of the potential of d2 is left; a spike leaves nothing, what is beyond the threshold, or all."""

    def __init__(self, share: float, spike: str, pause: int = 0) -> None:
        self.share, self.spike, self.pause = share, spike, pause

    def fired(self, graph: Graph, population: Population, known: Mapping[str, Any]) -> Any:
        spikes = super().fired(graph, population, known)
        if population.name != "d2":
            return spikes
        kept, wait = np.zeros(population.shape), np.zeros(population.shape, int)
        for frame, own in enumerate(potential(graph, "d2", known)):
            sums = own + kept
            spikes[frame] = (sums >= population.threshold) & (wait == 0)
            wait = np.where(spikes[frame], self.pause, np.maximum(wait - 1, 0))
            left = sums - population.bias
            after = {"nothing": 0.0 * left, "excess": left - population.threshold, "all": left}[self.spike]
            kept = self.share * np.where(spikes[frame], after, left)
        return spikes


class Deaf(Otherwise):
    """Of frame 5, d2 gets nothing; two of its neurons fire by their biases."""

    def fired(self, graph: Graph, population: Population, known: Mapping[str, Any]) -> Any:
        if population.name == "d2":
            known = {**known, "d1": known["d1"] & (np.arange(len(known["d1"])) != 5)[:, None]}
        return super().fired(graph, population, known)


class FromElsewhere(Otherwise):
    """The skip of `twins` comes from b where it should come from a."""

    def fired(self, graph: Graph, population: Population, known: Mapping[str, Any]) -> Any:
        other = {**known, "a": known["b"]} if population.name == "c" else known
        return super().fired(graph, population, other)


def twins() -> Graph:
    """Three layers of one size, and a skip from the first to the last."""
    rng = np.random.default_rng(0)
    links = [("x", "a", (12, 20)), ("a", "b", (20, 20)), ("b", "c", (20, 20)), ("a", "c", (20, 20))]
    return Graph.from_nodes(
        [Input("x", (12,), "current")],
        [Population(name, (20,), 0.5, rng.normal(0, 0.3, 20)) for name in "abc"],
        [(source, target, Dense(rng.normal(0, 0.4, shape))) for source, target, shape in links],
        (),
        "c",
    )


def rounded(values: Any) -> Any:
    step = np.abs(values).max() / 7
    return np.round(values / step) * step


def late(spikes: Spikes) -> None:
    spikes["d2"][1:, 9] = spikes["d2"][:-1, 9].copy()


def turned_round(spikes: Spikes) -> None:
    spikes["d2"][:, 9] ^= True


INHIBITION = "the sum of the negative (inhibitory) weights of projection d2 -> d3 "
DENSE = {
    "no inhibition": (Broken(weights("d2", "d3", lambda w: np.maximum(w, 0))), f"{INHIBITION}is missing"),
    "inhibition excites": (Broken(weights("d2", "d3", np.abs)), f"{INHIBITION}has the other sign"),
    "more inhibition": (Broken(weights("d2", "d3", lambda w: np.where(w < 0, 1.5 * w, w))), f"{INHIBITION}is scaled"),
    "no excitation": (Broken(weights("d2", "d3", lambda w: np.minimum(w, 0))), "positive (excitatory) weights of"),
    "sources cut off": (
        Broken(weights("d1", "d2", at(slice(20, None), lambda w: 0 * w))),
        "neurons 20 to 29 of d1 add nothing in projection d1 -> d2",
    ),
    "four bits": (Broken(weights("d1", "d2", rounded)), "d1 -> d2 are rounded to 4 bits (one step for all)"),
    "large weights": (
        Broken(weights("d1", "d2", lambda w: np.clip(w, -0.4, 0.4))),
        "the weights of projection d1 -> d2 are cut off: none is larger than about 0.",
    ),
    "small weights": (
        Broken(weights("d1", "d2", lambda w: np.where(abs(w) < 0.2, 0, w))),
        "the weights of projection d1 -> d2 are zero below about 0.",
    ),
    "late": (Broken(lie=late), "the spikes of neuron 9 are 1 frame late"),
    "inverted": (Broken(lie=turned_round), "neuron 9 fires exactly where it should not"),
    "leak": (Leaking(0.5, "nothing"), "about 50 % of what is left of one frame adds to the next"),
    "reset by subtraction": (Leaking(1.0, "excess"), "a spike leaves what is beyond the threshold"),
    "no reset": (Leaking(0.3, "all"), "about 30 % of what is left of one frame adds to the next; a spike leaves all"),
    "pause": (Leaking(0.0, "nothing", pause=2), "do not fire in the next 2: they are refractory"),
    "inverted frames": (Frames(lambda x: 1.0 - x), "the frames of x are inverted (1 - x)"),
    "another range": (Frames(lambda x: 2.0 * x - 1.0), "the frames of x lie between -1 and 1"),
    "two levels": (Frames(lambda x: (x >= 0.5).astype(float)), "the frames of x are binarised"),
    "three bits": (Frames(lambda x: np.round(7 * x) / 7), "the frames of x are rounded to 3 bits"),
    "a ceiling": (Frames(lambda x: np.minimum(x, 0.7)), "the frames of x are cut off at about 0."),
    "an offset": (Frames(lambda x: x + 0.25), "to every value of x is added between 0.2"),
    "a lost input": (Deaf(), "no input arrives in 1 of "),
    "a white pixel": (Frames(lambda x: np.where(np.arange(12) == 4, 1.0, x)), "neuron 4 of x is taken as "),
    "fixed point": (Broken(weights("d1", "d2", lambda w: np.floor(8 * w) / 8)), "are cut down to steps of 1/8"),
    "another unit": (Frames(lambda x: x * 0.8), "times, or the frames of x are scaled so"),
}


@pytest.mark.parametrize("name", DENSE)
def test_what_simulators_do_otherwise_is_named(name: str) -> None:
    backend, words = DENSE[name]
    assert words in (line := first_line(vectors(), FRAMES, backend)), line


def test_a_skip_from_the_wrong_layer_is_named() -> None:
    line = first_line(twins(), FRAMES, FromElsewhere())
    assert "projection a -> c takes the spikes of b in place of a" in line


def _padded(mode: str) -> Any:
    def changed(own: Any) -> Any:
        places = np.arange(own.size_in).reshape(own.shape_in)
        wider = np.pad(places, (*own.padding, (0, 0)), mode=mode)  # type: ignore[call-overload]  # its stubs want literals
        bare = Convolution(wider.shape, own.kernel, own.strides, own.dilation, ((0, 0), (0, 0)))
        return Composed((Select(own.shape_in, wider), bare))

    return changed


def _dilated(own: Any) -> Any:
    return Convolution(own.shape_in, own.kernel, own.strides, (2, 2), ((2, 2), (2, 2)))


def _pool(size: tuple[int, int]) -> Any:
    after = tuple((0, extent - 2) if extent > 2 else (0, 0) for extent in size)
    return lambda own: SumPool(own.shape_in, size, own.strides, after)


PICTURED = {
    "a wider pool": (operator("conv", "pool", _pool((3, 3))), "the window of the pool is 3 x 3 and not 2 x 2"),
    "a narrower pool": (operator("conv", "pool", _pool((2, 1))), "the window of the pool is 2 x 1 and not 2 x 2"),
    "dilation": (operator("pool", "conv2", _dilated), "the dilation is 2 x 2 and not 1 x 1"),
    "wrapped": (operator("pool", "conv2", _padded("wrap")), "beyond the border lie those of the other end"),
    "repeated": (operator("pool", "conv2", _padded("edge")), "beyond the border lie the last ones, repeated"),
    "a row of taps": (weights("pool", "conv2", at(2, lambda k: 0 * k)), "the kernel's row 2 in projection"),
    "a place of taps": (weights("pool", "conv2", at((1, 1), lambda k: -k)), "the kernel's place [1, 1] in projection"),
    "turned": (weights("pool", "conv2", lambda k: np.rot90(k, 1, (0, 1))), "turned by 90 degrees to the left"),
    "layout": (
        weights("pool", "conv2", lambda k: k.transpose(3, 0, 1, 2).reshape(k.shape)),
        "another memory order (its axes as (3, 0, 1, 2))",
    ),
    "channels in": (weights("pool", "conv2", exchanged(1, 3, 2)), "channels 1 and 3 of pool are exchanged"),
    "three of them": (weights("pool", "conv2", lambda k: k[:, :, [1, 2, 0, 3]]), "pool are permuted (3 of 4)"),
    "channels out": (weights("pool", "conv2", exchanged(1, 3, 3)), "channels 1 and 3 are exchanged (the columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURED)
def test_other_windows_borders_and_channels_are_named(name: str) -> None:
    change, words = PICTURED[name]
    assert words in (line := first_line(images(), PICTURES, Broken(change))), line


def test_shifts_along_two_axes_and_turned_maps_are_named() -> None:
    diagonal = Broken(lie=lambda s: s.__setitem__("conv2", np.roll(s["conv2"], (1, 1), (1, 2))))
    assert "shifted by one along its rows and its columns" in first_line(images(), PICTURES, diagonal)


def test_a_dead_border_is_called_that() -> None:
    def lie(spikes: Spikes) -> None:
        inside = spikes["conv"][:, 1:-1, 1:-1].copy()
        spikes["conv"][:] = False
        spikes["conv"][:, 1:-1, 1:-1] = inside

    assert "the border of the map (" in first_line(images(), PICTURES, Broken(lie=lie))


def test_a_tap_of_a_kernel_is_found_before_a_scale() -> None:
    """A normalisation behind a max pool leaves a factor of its own behind the kernel."""
    graph = images()
    scale = Scale((4, 5, 4), np.linspace(0.5, 2.0, 80).reshape(4, 5, 4))
    scaled = operator("pool", "conv2", lambda own: Composed((own, scale)))(graph)

    def changed(own: Any) -> Any:
        convolution, factor = own.stages
        return Composed((convolution.with_kernel(at((1, 0, 2, 3), lambda w: w + 1.5)(convolution.kernel)), factor))

    line = first_line(scaled, PICTURES, Broken(operator("pool", "conv2", changed)))
    assert "the kernel weight [1, 0, 2, 3] of projection pool -> conv2 is between" in line


def test_spikes_that_are_lost_by_a_rule_are_not_called_lost_without_one() -> None:
    """Thresholds that are too high, each by its own amount that depends on the frame: only small margins are hit."""

    class Tired(Otherwise):
        def fired(self, graph: Graph, population: Population, known: Mapping[str, Any]) -> Any:
            higher = np.linspace(0.0, 0.3, len(known["x"]))[:, None] if population.name == "d2" else 0.0
            return fires(population, potential(graph, population.name, known) - higher)

    assert "without a rule" not in first_line(vectors(), FRAMES, Tired())


def test_a_read_out_that_is_scaled_far_is_named_though_float32_rounds_some_probabilities_to_nothing() -> None:
    rng = np.random.default_rng(0)
    spikes, weight = rng.random((80, 16)) > 0.5, rng.normal(size=(16, 4))
    readout = Readout("out", "softmax", ("s",), (Dense(weight),), np.zeros(4))
    theirs = softmax(spikes @ weight).astype(np.float32).astype(np.float64)
    ours = softmax(spikes @ (10.0 * weight))
    assert ours.min() < 1e-30
    assert "scaled by 0.1 " in _reason(readout, ours, theirs, {"s": spikes})
