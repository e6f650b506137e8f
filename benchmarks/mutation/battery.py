"""The battery: small verifications that together run through every line of what is mutated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(_TESTS / "support"), str(_TESTS / "equivalence")]

import answers  # noqa: E402
import architectures  # noqa: E402
import given  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import planted  # noqa: E402
import refused  # noqa: E402
import test_architectures as known  # noqa: E402
from outcome import Case  # noqa: E402
from random_networks import random_frames, random_network, randomise  # noqa: E402

import strop  # noqa: E402

# Seeds of random networks that reach a line, or take a turn, that no other case does: see `reach.py`.
SEEDS: tuple[int, ...] = (3, 5, 8, 12, 13, 14, 17, 21, 27, 33)


def labels_for(model: Any, count: int) -> Any:
    """Return class numbers if the model's first output is a vector of scores; not all of them right."""
    shape = model.outputs[0].shape
    return np.arange(count) % shape[1] if len(shape) == 2 and shape[1] > 1 else None


def _verification(name: str, model: Any, frames: Any, chunk: int | None = None, **options: Any) -> Case:
    first = (
        next(iter(frames.values())) if isinstance(frames, dict) else frames[0] if isinstance(frames, list) else frames
    )
    labels = options.pop("labels") if "labels" in options else labels_for(model, len(first))
    return Case(name, "sound", model, frames, labels, options, chunk=chunk)


def _architectures() -> Iterator[Case]:
    """Networks as people build them, one encoding each; see tests/equivalence/test_architectures.py."""
    for number, make in enumerate(known.MODELS):
        model, frames = known.weighted(make)
        encoding = known.ENCODINGS[number % 4]
        yield _verification(make.__name__, model, frames, 7 if number % 2 else None, encoding=encoding)
    model, frames = known.weighted(known.residual)
    yield _verification("residual, current", model, frames, 5, encoding="current")
    for make in (known.mobile, known.temporal):
        model, frames = known.weighted(make)
        yield _verification(f"{make.__name__}, decision in spikes", model, frames, decision="spikes")


def _random() -> Iterator[Case]:
    """Random networks; every other one with weights of eighths and frames of quarters, so that thresholds are met."""
    for number, seed in enumerate(SEEDS):
        coarse = number % 2 == 0
        model = random_network(seed, coarse=coarse)
        frames = random_frames(model, np.random.default_rng(seed), 16, levels=4 if coarse else 255)
        encoding = ("current", "host", "binary")[number % 3] if coarse else "host"
        yield _verification(f"random network {seed}", model, frames, encoding=encoding)


def _made_for_it() -> Iterator[Case]:
    """Networks that are here for the sake of single lines."""
    for make in (*architectures.MODELS, *answers.MODELS):
        built = make()
        model, options = built if isinstance(built, tuple) else (built, {})
        frames = options.pop("frames", None)
        if not options.pop("own_weights", False):
            keras.utils.set_random_seed(1)
            randomise(model, np.random.default_rng(options.pop("seed", 1)), coarse=options.pop("coarse", True))
        if frames is None:
            frames = random_frames(model, np.random.default_rng(2), 16, levels=options.pop("levels", 8))
        kind, chunk = options.pop("kind", "sound"), options.pop("chunk", None)
        yield replace(_verification(make.__name__, model, frames, chunk, **options), kind=kind)


def _graphs() -> Iterator[Case]:
    """Saved graphs, which come without Keras."""
    from random_graphs import random_frames as frames_of
    from random_graphs import random_graph

    for seed, encoding in ((1, "host"), (4, "bitplane"), (9, "binary"), (12, "current")):
        frames = frames_of(random_graph(seed, encoding), 12, seed)
        labels = np.arange(12) % 2
        options = {"evidence": seed == 1}
        yield Case(f"random graph {seed}", "sound", _graph(seed, encoding), frames, labels, options, chunk=5)


def _graph(seed: int, encoding: str) -> Callable[[], Any]:
    def make() -> Any:
        from random_graphs import random_graph

        return random_graph(seed, encoding)

    return make


def cases() -> list[Case]:
    """Return the whole battery; Keras models are built on the way."""
    found = [*_architectures(), *_random(), *_made_for_it(), *_graphs(), *planted.cases()]
    found += [*given.cases(), *refused.cases()]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases have one name"
    assert strop.__file__ is not None
    return found
