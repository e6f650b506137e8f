"""Other orders of the values in a frame: axes exchanged, reversed, shifted by one; bit planes in another order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Input, Select

Ints = npt.NDArray[np.int64]
_MOST_AXES = 4


@dataclass(frozen=True)
class Arrangement:
    """Another order: value j of a frame is taken from place `index.flat[j]`.

    Attributes
    ----------
    words : str
        What is done to the frame: "flattened channels first, not channels last".
    index : int array, shape of the frame
    """

    words: str
    index: Ints

    def select(self) -> Select:
        """Return it as an operator."""
        return Select(self.index.shape, self.index)


def arrangements(shape: tuple[int, ...]) -> Iterator[Arrangement]:
    """Yield the orders that go wrong in practice, of frames of a shape with channels last."""
    straight = np.arange(int(np.prod(shape))).reshape(shape)
    seen = {straight.tobytes()}
    for found in (*_exchanged(straight), *_reversed(straight), *_turned(straight), *_shifted(straight)):
        if found.index.tobytes() not in seen:
            seen.add(found.index.tobytes())
            yield found


def _exchanged(straight: Ints) -> Iterator[Arrangement]:
    shape, axes = straight.shape, straight.ndim
    if not 1 < axes <= _MOST_AXES:
        return
    for order in permutations(range(axes)):
        if order == tuple(range(axes)):
            continue
        words = f"axes in the order {order}"
        if order[0] == axes - 1 or order[-1] == 0:
            words = "channels first where they should be last (order of flattening)"
        elif axes == 3 and order[:2] == (1, 0):
            words = "rows and columns exchanged"
        yield Arrangement(words, straight.transpose(order).reshape(shape))
        back = np.argsort(order)
        yield Arrangement(words, straight.reshape([shape[axis] for axis in order]).transpose(back).reshape(shape))


def _reversed(straight: Ints) -> Iterator[Arrangement]:
    yield Arrangement("in reversed order", straight.reshape(-1)[::-1].reshape(straight.shape))
    for axis in range(straight.ndim):
        yield Arrangement(f"{_axis(axis, straight.ndim)} in reversed order", np.flip(straight, axis))


def _turned(straight: Ints) -> Iterator[Arrangement]:
    if straight.ndim == 3 and straight.shape[0] == straight.shape[1]:
        for turns, way in ((1, "left"), (3, "right")):
            yield Arrangement(f"turned by 90 degrees to the {way}", np.rot90(straight, turns))


def _shifted(straight: Ints) -> Iterator[Arrangement]:
    for axis in range(straight.ndim):
        for by in (1, -1):
            words = f"shifted by one {'neuron' if straight.ndim == 1 else 'along its ' + _axis(axis, straight.ndim)}"
            yield Arrangement(words, np.roll(straight, by, axis))
            if straight.ndim > 1 and axis < straight.ndim - 1:
                # What a kernel reads at a border is padding.
                moved = np.roll(straight, by, axis)
                edge = [slice(None)] * straight.ndim
                edge[axis] = slice(0, 1) if by > 0 else slice(-1, None)
                moved[tuple(edge)] = -1
                yield Arrangement(words, moved)
    if straight.ndim == 3:
        for rows, columns in product((1, -1), repeat=2):
            words = "shifted by one along its rows and its columns"
            moved = np.roll(straight, (rows, columns), (0, 1))
            yield Arrangement(words, moved)
            moved = moved.copy()
            moved[0 if rows > 0 else -1], moved[:, 0 if columns > 0 else -1] = -1, -1
            yield Arrangement(words, moved)


def _axis(axis: int, axes: int) -> str:
    if axes == 1:
        return "neurons"
    if axis == axes - 1:
        return "channels"
    return "rows" if axes == 2 or axis == axes - 3 else "columns"


def planes(node: Input) -> Iterator[Arrangement]:
    """Yield other orders of the bit planes of an input."""
    if node.encoding != "bitplane":
        return
    straight = np.arange(int(np.prod(node.signal_shape))).reshape(*node.shape, node.bits)
    bits = np.arange(node.bits)
    orders = [("bit planes in reversed order", bits[::-1])]
    orders += [(f"every bit plane is taken for the next {way} one", np.roll(bits, by)) for way, by in _WAYS]
    for one in range(node.bits):
        for other in range(one):
            order = bits.copy()
            order[[one, other]] = other, one
            orders.append((f"bit planes {other} and {one} exchanged", order))
    for words, order in orders:
        yield Arrangement(words, straight[..., order].reshape(node.signal_shape))


_WAYS = (("higher", 1), ("lower", -1))


def shapes_of(graph: Graph, name: str) -> list[tuple[int, ...]]:
    """Return the shapes that the values of a node have or had: its own, and that before it was flattened."""
    shapes = [graph.signal_shape(name)]
    if name in graph.population_names:
        for p in graph.incoming(name):
            if isinstance(p.operator, Select) and p.operator.size_in == p.operator.size_out:
                shapes.append(p.operator.shape_in)
    return shapes


def node_of(graph: Graph, name: str) -> Input | None:
    """Return the input of that name, if it is one."""
    return next((node for node in graph.inputs if node.name == name), None)
