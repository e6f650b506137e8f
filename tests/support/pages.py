"""Reports with something of everything on their page: faults, ties, a decoder with a key, names that bite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from strop.graph import Convolution, Dense, Graph, Input, Population, Readout, Select, SumPool
from strop.running.backend import Runner
from strop.running.reference import ReferenceBackend
from strop.verification.report import Report

# No blanks: a graph allows no others in names.
BITING = "<script>alert(1)</script>"
FAULTY_FRAME, TIED_FRAME = 17, 23


def decoding_network(name: str = BITING) -> Graph:
    """An 8x8 image, a convolution, a pool, a dense layer and a Whetstone decoder for four classes."""
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 0.6, (3, 3, 1, 6))
    first = Convolution((8, 8, 1), kernel, (1, 1), (1, 1), ((1, 1), (1, 1)))
    pool = SumPool(first.shape_out, (2, 2), (2, 2), ((0, 0), (0, 0)))
    flat = Select(pool.shape_out, np.arange(pool.size_out))
    key = np.repeat(np.eye(4), 5, axis=0)
    votes = 2.0 * key - 1.0
    # Weights in quarters: potentials hit the threshold of 0.5 exactly, so that there is something to tie.
    dense = Dense(rng.integers(-2, 3, (96, 20)) / 4.0)
    return Graph.from_nodes(
        [Input("image", (8, 8, 1))],
        [
            Population(name, first.shape_out, 0.5, 0.0),
            Population("pool", pool.shape_out, 0.5, 0.0),
            Population("flat", (96,), 0.5, 0.0),
            Population("code", (20,), 0.5, 0.0),
        ],
        [("image", name, first), (name, "pool", pool), ("pool", "flat", flat), ("flat", "code", dense)],
        [Readout("decoder", "key", ("code",), (Dense(2.0 * votes),), -votes.sum(axis=0))],
        ["decoder"],
        "<b>model</b>",
    )


def decoding_frames(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the decoding network, and labels that are right in about three of four."""
    from strop.running.decode import classes
    from strop.running.encode import as_frames, encode
    from strop.running.oracle import evaluate

    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)
    graph = decoding_network()
    right = classes(graph, evaluate(graph, encode(graph, as_frames(graph, frames))))
    assert right is not None
    return frames, np.where(rng.random(count) < 0.75, right, (right + 1) % 4)


class _Liar(Runner):
    """Flips one spike that nobody may flip, and one whose potential the backend cannot tell from its threshold."""

    def __init__(self, honest: Runner, graph: Graph) -> None:
        self.honest, self.graph, self.seen = honest, graph, 0

    def run(self, signals: Any) -> Any:
        from strop.running.oracle import potential
        from strop.verification.bounds import SimulatorBound

        spikes = {name: values.copy() for name, values in self.honest.run(signals).items()}
        sent = {**signals, **spikes}
        margin = np.abs(potential(self.graph, "code", sent) - 0.5)
        blurred = (margin > 0.0) & (margin <= SimulatorBound(self.graph, LyingBackend.resolution).blur("code", sent))
        for frame, tied in ((FAULTY_FRAME, False), (TIED_FRAME, True)):
            row = frame - self.seen
            if 0 <= row < len(margin):
                unit = int(np.flatnonzero(blurred[row] == tied)[0])
                spikes["code"][row, unit] ^= True
        self.seen += len(margin)
        return spikes


class LyingBackend(ReferenceBackend):
    name = "liar"
    resolution = 2.0**-4

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        return _Liar(super().prepare(graph), graph)


@contextmanager
def lying_backend() -> Iterator[None]:
    module = import_module("strop.verification.verify")  # the attribute strop.verify is the function
    honest = module.get_backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_backend", lambda name: LyingBackend() if name == "liar" else honest(name))
        yield


def full_report() -> Report:
    """A verification with one fault and one tie, evidence included."""
    frames, labels = decoding_frames()
    with lying_backend():
        verify = import_module("strop.verification.verify").verify
        report: Report = verify(decoding_network(), frames, labels, backends=["reference", "liar"], evidence=True)
    return report


def copies(shape: tuple[int, ...], depth: int, name: str = "copy") -> Graph:
    """A chain of populations, each a copy of the one before: as wide and deep as a test needs, with few weights."""
    size = int(np.prod(shape))
    names = [f"{name}{n}" for n in range(depth)]
    link = Select(shape, np.arange(size).reshape(shape))
    return Graph.from_nodes(
        [Input("image", shape, "binary")],
        [Population(own, shape, 0.5, 0.0) for own in names],
        [(source, target, link) for source, target in zip(["image", *names], names, strict=False)],
        (),
        [names[-1]],
    )


class Page(HTMLParser):
    """A page taken apart: elements by name, identifiers, the text of tables, whatever loads something."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.loads += [str(given[name]) for name in ("src", "href", "xlink:href", "srcset", "data") if given.get(name)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.unbalanced.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())
