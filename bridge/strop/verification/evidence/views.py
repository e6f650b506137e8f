"""Which neurons of a population are shown on a page, and how they are laid out: whole feature maps where they fit."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph

# Limit for the spikes and images of all chosen frames, as base64, in bytes: a page stays below 5 MB.
BUDGET = 2_400_000
# Most populations that are shown spike by spike, and most neurons of each.
MOST_POPULATIONS, MOST_NEURONS = 48, 65_536
# Frames that must fit into the budget before more neurons of each are shown.
_LEAST_FRAMES = 8
# Most values and channels of a frame that are shown.
_MOST_VALUES, _MOST_CHANNELS = 20_000, 16


@dataclass(frozen=True)
class View:
    """Which neurons of a population, or values of an input, are shown: some of its maps, or of their rows and columns.

    Attributes
    ----------
    name : str
    shape : tuple of int
        As in the graph.
    maps, height, width : int
        Extents of the shown part; a vector is one row.
    stride : int
        Every `stride`-th row and column is shown.
    """

    name: str
    shape: tuple[int, ...]
    maps: int
    height: int
    width: int
    stride: int = 1

    @property
    def shown(self) -> int:
        """Number of neurons that are shown."""
        return self.maps * self.height * self.width

    @property
    def columns(self) -> int:
        """Neurons in one row when drawn: a vector is wrapped into a rectangle, a full one if it can be."""
        if self.height > 1 or self.maps > 1:
            return self.width
        full = next(rows for rows in range(isqrt(self.width), 0, -1) if self.width % rows == 0)
        columns = self.width // full
        return columns if columns <= 3 * full else ceil(self.width**0.5)

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the shown part of one frame's values of shape `shape`, as `(maps, height, width)`."""
        maps, height, width = _as_maps(self.shape)
        cut = values.reshape(height, width, maps)[:: self.stride, :: self.stride]
        return cut[: self.height, : self.width, : self.maps].transpose(2, 0, 1)

    def places(self, neurons: npt.NDArray[np.int64]) -> list[int]:
        """Return the places of neurons, given by flat indices, in the flattened result of `of`; without hidden ones."""
        most, height, width = _as_maps(self.shape)
        rows, columns, maps = np.unravel_index(neurons, (height, width, most))
        inside = (rows % self.stride == 0) & (columns % self.stride == 0)
        rows, columns = rows // self.stride, columns // self.stride
        inside &= (rows < self.height) & (columns < self.width) & (maps < self.maps)
        return [int(place) for place in (((maps * self.height + rows) * self.width) + columns)[inside]]


def _as_maps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return `(maps, height, width)` of a shape with channels last."""
    if len(shape) >= 3 and prod(shape[:-1]) > 1:
        return shape[-1], prod(shape[:-2]), shape[-2]
    if len(shape) == 2 and min(shape) > 1:
        return 1, shape[0], shape[1]
    return 1, 1, prod(shape)


def view_of(name: str, shape: tuple[int, ...], limit: int, maps: int | None = None) -> View:
    """Return the view of a node: at most `limit` values, in whole maps if one fits, else every k-th pixel.

    Parameters
    ----------
    maps : int, optional
        Most maps to show.
    """
    most, height, width = _as_maps(shape)
    if height == 1 and most == 1:
        return View(name, shape, 1, 1, min(width, limit))
    stride = next(k for k in range(1, height * width + 1) if ceil(height / k) * ceil(width / k) <= limit)
    rows, columns = ceil(height / stride), ceil(width / stride)
    return View(name, shape, min(most, max(1, limit // (rows * columns)), maps or most), rows, columns, stride)


def views(graph: Graph) -> tuple[list[View], list[View], list[str]]:
    """Return the views of the inputs and of the populations, and sentences that name what is not shown."""
    inputs = [view_of(node.name, node.shape, _MOST_VALUES, _MOST_CHANNELS) for node in graph.inputs[:4]]
    left_out = [
        f"Of input {view.name}, {view.shown:,} of {prod(view.shape):,} values are shown."
        for view in inputs
        if view.shown < prod(view.shape)
    ]
    if len(graph.inputs) > len(inputs):
        left_out.append(f"Of {len(graph.inputs)} inputs, the first {len(inputs)} are shown.")
    names = list(graph.population_names)
    if len(names) > MOST_POPULATIONS:
        half = MOST_POPULATIONS // 2
        left_out.append(
            f"Of {len(names):,} populations, the first {half} and the last {half} are shown spike by spike."
        )
        names = names[:half] + names[-half:]
    cap = MOST_NEURONS
    sizes = [graph.population(name).size for name in names]
    while cap > 64 and _LEAST_FRAMES * sum(_encoded(min(size, cap)) for size in sizes) > BUDGET:
        cap //= 2
    shown = [view_of(name, graph.population(name).shape, cap) for name in names]
    cut = [view for view in shown if view.shown < prod(view.shape)]
    for view in cut[:8]:
        left_out.append(f"Of {view.name}, {view.shown:,} of {prod(view.shape):,} neurons are shown.")
    if len(cut) > 8:
        left_out.append(f"So are only some of the neurons of {len(cut) - 8:,} more populations.")
    return inputs, shown, left_out


def _encoded(neurons: int) -> int:
    """Return the bytes of one frame's packed spikes as base64."""
    return 4 * (-(-neurons // 8) // 3 + 1)
