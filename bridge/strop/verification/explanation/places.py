"""Neurons in words: single ones, channels, rows, blocks, or how many of how many; and the bits that it takes."""

from __future__ import annotations

from math import log2, prod

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
# Names of the axes of a population with channels last, by its number of axes.
_AXES = {2: ("position", "channel"), 3: ("row", "column", "channel"), 4: ("plane", "row", "column", "channel")}


def index_of(neuron: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of a neuron, given by its flat place."""
    return tuple(int(part) for part in np.unravel_index(neuron, shape))


def place_text(index: tuple[int, ...]) -> str:
    """Return an index as "[3]" or "[2, 0, 5]"."""
    return f"[{', '.join(map(str, index))}]"


def neuron_text(neuron: int, shape: tuple[int, ...]) -> str:
    """Return "neuron 5" or "neuron [2, 0, 5]"; in a feature map, its channel beside it."""
    index = index_of(neuron, shape)
    if len(index) == 1:
        return f"neuron {index[0]}"
    return f"neuron {place_text(index)}"


def has_channels(shape: tuple[int, ...]) -> bool:
    """Whether a population is made of feature maps: channels last, with more than one neuron each."""
    return len(shape) > 1 and prod(shape[:-1]) > 1 and shape[-1] >= 1


def channels_of(shape: tuple[int, ...]) -> Ints:
    """Return the channel of every neuron, by flat place."""
    return np.arange(prod(shape)) % shape[-1]


def _border(shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Return which neurons lie in the first or last row or column, flat; None where there is no inside."""
    if len(shape) != 3 or min(shape[:2]) < 3:
        return None
    inside = np.zeros(shape, dtype=bool)
    inside[1:-1, 1:-1] = True
    return ~inside.reshape(-1)


def describe(neurons: Ints, shape: tuple[int, ...]) -> tuple[str, float]:
    """Return neurons, given by flat places, in words, and the bits that it takes to say which they are."""
    size, count = prod(shape), len(neurons)
    if count == size:
        return (f"all {size:,} neurons" if size > 1 else "its only neuron"), 1.0
    if count == 1:
        return neuron_text(int(neurons[0]), shape), log2(size) + 1.0
    if has_channels(shape):
        where = np.unravel_index(neurons, shape)
        for axis in reversed(range(len(shape))):
            values = np.unique(where[axis])
            full = size // shape[axis]
            if len(values) == 1 and shape[axis] > 1:
                name = _AXES.get(len(shape), ())[axis : axis + 1]
                what = f"{name[0] if name else f'axis {axis},'} {int(values[0])}"
                part = f"all {full:,}" if count == full else f"{count:,} of {full:,}"
                return f"{what} ({part} neurons)", log2(shape[axis]) + 2.0 + (0 if count == full else 2.0)
        border = _border(shape)
        if border is not None and border[neurons].all():
            whole = int(border.sum())
            part = f"all {whole:,}" if count == whole else f"{count:,} of {whole:,}"
            return f"the border of the map ({part} neurons)", 4.0 + (0 if count == whole else 2.0)
    ordered = np.sort(neurons)
    if ordered[-1] - ordered[0] == count - 1:
        return f"neurons {int(ordered[0])} to {int(ordered[-1])}", 2 * log2(size) + 1.0
    bits = min(count * log2(size), float(size)) + 2.0
    if count <= 4:
        names = [neuron_text(int(neuron), shape).removeprefix("neuron ") for neuron in ordered]
        return f"neurons {', '.join(names[:-1])} and {names[-1]}", bits
    return f"{count:,} of {size:,} neurons", bits
