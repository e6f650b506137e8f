"""A small network, frames and labels for it, and a tensor that NumPy cannot take as it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.graph import Dense, Graph, Input, Population, Readout

NUMBERS = np.arange(30) % 3
FRAMES = np.random.default_rng(1).random((30, 6), np.float32)


def network(kinds: tuple[str, ...] = ("key",), classes: int = 3) -> Graph:
    """A small network with one output per kind: a read-out of so many classes, or "spikes" for a population."""
    rng = np.random.default_rng(0)
    readouts = [
        Readout(f"out{n}", kind, ("b",), (Dense(rng.normal(size=(8, classes + n))),), np.zeros(classes + n))
        for n, kind in enumerate(kinds)
        if kind != "spikes"
    ]
    return Graph.from_nodes(
        [Input("x", (6,))],
        [Population("a", (5,), 0.5, 0.1), Population("b", (8,), 0.0, -0.1)],
        [("x", "a", Dense(rng.normal(size=(6, 5)))), ("a", "b", Dense(rng.normal(size=(5, 8))))],
        readouts,
        ["b" if kind == "spikes" else f"out{n}" for n, kind in enumerate(kinds)],
    )


class Tensor:
    """A PyTorch tensor as strop sees it: NumPy cannot take it as it is."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape = values.shape

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.values
