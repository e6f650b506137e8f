"""Operators as NIR nodes: native nodes where NIR has an equivalent, else the expanded matrix.

Properties of NIR's nodes, from nir 1.0.8:

* Tensors have their channels first and no batch axis (`ir/conv.py`: `input_type = [C_in, *input_shape]`).
* `Conv2d` takes the output's extent along both axes from the kernel's *first* axis (`ir/conv.py`,
  `weight.shape[2]`),
  so that a kernel that is not square gets a wrong type and fails NIR's own check.
* A convolution's input type takes the number of channels from `weight.shape[1]`, which is the number per
  group
  (`ir/conv.py`): more than one group fails the check.
* Padding is one number per axis, the same on both sides; "same" with a stride would be given the extent of
  the input
  (`ir/utils.py`, `calculate_conv_output`).
* There is no reshape but `Flatten`, no transposed and no 3-D convolution.

Zeros in a kernel solve all but the last: a kernel that is padded with zero taps to a square and shifted
by the asymmetry of its padding, and off-group weights of zero, compute the same sums. Other operators
become a matrix behind a `Flatten`, and the frame stays flat from there on.
"""

from __future__ import annotations

import json
import math
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.graph import Convolution, Dense, Operator, Scale, Select, Sparse, SumPool, stages_of
from strop.graph.capacity import require_memory

# Where each value of a NIR tensor lies in strop's frame: an array of the NIR tensor's shape, holding flat
# indices.
Place = npt.NDArray[np.int64]

# All linear nodes that are used; consumers know fewer (`strop_backends.nir.profiles`).
MAPS = frozenset({"Affine", "Linear", "Scale", "Conv1d", "Conv2d", "SumPool2d"})


def image(shape: tuple[int, ...]) -> Place:
    """Return the place of a frame of 2 or 3 axes, channels last, in a NIR tensor, channels first."""
    return np.moveaxis(np.arange(math.prod(shape), dtype=np.int64).reshape(shape), -1, 0)


def natural(shape: tuple[int, ...]) -> Place:
    """Return the default place of a frame of `shape`: channels first with 2 or 3 axes, else flat."""
    return image(shape) if len(shape) in (2, 3) else np.arange(math.prod(shape), dtype=np.int64)


def is_image(place: Place, shape: tuple[int, ...]) -> bool:
    """Whether a NIR tensor holds a frame of `shape`, channels first."""
    return len(shape) in (2, 3) and place.ndim == len(shape) and np.array_equal(place, image(shape))


def is_flat(place: Place) -> bool:
    """Whether a NIR tensor holds a frame as a vector in strop's order."""
    return place.ndim == 1 and np.array_equal(place, np.arange(place.size))


def hint(**values: Any) -> dict[str, str]:
    """Return metadata for a NIR node, from which strop restores the operator's original form."""
    return {"strop": json.dumps(values)}


def describe(operator: Operator) -> dict[str, Any]:
    """Return the map behind a read-out's function as JSON values: an index map, or the list of its weights."""
    if isinstance(operator, Select):
        return {"shape_in": operator.shape_in, "index": operator.index.tolist()}
    pre, post, weight = operator.to_coo()
    shapes = {"shape_in": operator.shape_in, "shape_out": operator.shape_out}
    return {**shapes, "pre": pre.tolist(), "post": post.tolist(), "weight": weight.tolist()}


def emit(
    operator: Operator, place: Place, where: str, flat: bool = False, maps: frozenset[str] = MAPS
) -> tuple[list[Any], Place]:
    """Return the NIR nodes of an operator, in a row, and where its output lies in the last one's tensor.

    Parameters
    ----------
    operator : Operator
    place : int array
        Where its input lies in the input tensor of the first node.
    where : str
        The projection, for errors.
    flat : bool
        Use matrices only, so that the output is a vector.
    maps : frozenset of str
        The linear nodes that may be used; `Linear`, or `Affine` in its place, is always one of them.
    """
    nodes: list[Any] = []
    for stage in stages_of(operator):
        more, place = _stage(stage, place, where, flat, maps)
        nodes += more
    if flat and not is_flat(place):
        # A vector in another order than strop's (channels first): one more matrix, a permutation.
        before = place.reshape(-1)
        nodes += _flattened(place)
        matrix = np.zeros((place.size, place.size))
        matrix[before, np.arange(place.size)] = 1.0
        nodes.append(_linear(matrix, hint(stage={"type": "Order"})))
        place = np.arange(place.size, dtype=np.int64)
    return nodes, place


def _stage(op: Operator, place: Place, where: str, flat: bool, maps: frozenset[str]) -> tuple[list[Any], Place]:
    if not flat and is_image(place, op.shape_in):
        node = native(op, maps)
        if node is not None:
            return [node], image(op.shape_out)
    match op:
        case Scale() if "Scale" in maps:
            factor = np.broadcast_to(op.factor, op.shape).reshape(-1)[place]
            return [nir.Scale(scale=factor)], place
        case Select() if op.is_reshape and (place.ndim == 1 or op.shape_in == op.shape_out):
            return [], place
        case Select() if op.is_reshape:
            return _flattened(place), place.reshape(-1)
        case Dense() if len(op.shape_in) == 1:
            return [*_flattened(place), _linear(op.weight.T[:, place.reshape(-1)], {})], np.arange(op.size_out)
        case _:
            matrix = expanded(op, where)[:, place.reshape(-1)]
            return [*_flattened(place), _linear(matrix, hint(stage=geometry(op)))], np.arange(op.size_out)


def _flattened(place: Place) -> list[Any]:
    if place.ndim == 1:
        return []
    return [nir.Flatten(input_type={"input": np.array(place.shape)}, start_dim=0, end_dim=-1)]


def _linear(matrix: npt.NDArray[np.float64], metadata: dict[str, str]) -> Any:
    return nir.Linear(weight=np.ascontiguousarray(matrix), metadata=metadata)


def expanded(op: Operator, where: str) -> npt.NDArray[np.float64]:
    """Return the matrix of an operator, shape (size_out, size_in)."""
    require_memory(
        f"{where}: NIR has no {type(op).__name__} like this one; its matrix of {op.size_out:,} x {op.size_in:,}",
        3 * 8 * op.size_out * op.size_in,
    )
    matrix = np.zeros((op.size_out, op.size_in))
    pre, post, weight = op.to_coo()
    matrix[post, pre] = weight
    return matrix


def geometry(op: Operator) -> dict[str, Any]:
    """Return the fields of an operator without its weights, for JSON."""
    match op:
        case Convolution():
            return {
                "type": "Convolution",
                "shape_in": op.shape_in,
                "kernel": op.kernel.shape,
                "strides": op.strides,
                "dilation": op.dilation,
                "padding": op.padding,
                "groups": op.groups,
                "transposed": op.transposed,
                "output_padding": op.output_padding,
            }
        case SumPool():
            return {
                "type": "SumPool",
                "shape_in": op.shape_in,
                "size": op.size,
                "strides": op.strides,
                "padding": op.padding,
            }
        case Dense():
            return {"type": "Dense", "leading": op.leading}
        case Sparse():
            # Its synapses may stand in any order, and have weights of zero: a matrix shows neither.
            return {"type": "Sparse", "shape_out": op.shape_out, "pre": op.pre.tolist(), "post": op.post.tolist()}
        case _:
            return {"type": type(op).__name__, "shape_in": op.shape_in, "shape_out": op.shape_out}


# Native nodes --------------------------------------------------------------------------------------------


def native(op: Operator, maps: frozenset[str] = MAPS) -> Any:
    """Return the one NIR node of `maps` that takes an image to an image as `op` does, or None if there is none."""
    node = _native(op, maps)
    return node if type(node).__name__ in maps else None


def _native(op: Operator, maps: frozenset[str]) -> Any:
    if isinstance(op, SumPool):
        even = len(op.size) == 2 and all(before == after for before, after in op.padding)
        if even and "SumPool2d" in maps:
            return nir.SumPool2d(
                kernel_size=np.array(op.size),
                stride=np.array(op.strides),
                padding=np.array([before for before, _ in op.padding]),
            )
        return convolution(as_convolution(op), geometry(op))
    if isinstance(op, Dense):
        return convolution(as_convolution(op), geometry(op))
    if isinstance(op, Convolution) and not op.transposed:
        return convolution(op, None)
    if isinstance(op, Scale) and "Scale" not in maps:
        factor = np.broadcast_to(op.factor, op.shape).reshape(-1, op.shape[-1])
        if (factor == factor[0]).all():
            return convolution(as_convolution(Dense(np.diag(factor[0]), op.shape[:-1])), geometry(op))
    return None


def as_convolution(op: SumPool | Dense) -> Convolution:
    """Return a pool, or a matrix for every place, as the convolution that it is."""
    if isinstance(op, Dense):
        ones = (1,) * len(op.leading)
        kernel = op.weight.reshape(*ones, *op.weight.shape)
        return Convolution(op.shape_in, kernel, ones, ones, ((0, 0),) * len(ones))
    kernel = np.broadcast_to(np.eye(op.shape_in[-1]), (*op.size, op.shape_in[-1], op.shape_in[-1]))
    return Convolution(op.shape_in, kernel, op.strides, (1,) * len(op.size), op.padding)


def convolution(op: Convolution, stage: dict[str, Any] | None) -> Any:
    """Return a `Conv1d` or `Conv2d`, or None where no square kernel with even padding does the same.

    `stage` is the geometry of the operator it stands for, if that is no plain convolution.
    """
    dimensions = len(op.strides)
    if dimensions > 2:
        return None
    kernel, dilation = op.kernel, op.dilation
    widened = _square(op)
    if widened is None and any(d > 1 for d in dilation):
        # Zeros between the taps, instead of dilation, leave room for zeros anywhere.
        kernel, dilation = _undilated(op), (1,) * dimensions
        widened = _square(Convolution(op.shape_in, kernel, op.strides, dilation, op.padding, op.groups))
    if widened is None:
        return None
    front, extent, padding = widened
    per_group, filters = kernel.shape[-2:]
    share = filters // op.groups
    weight = np.zeros((*(extent,) * dimensions, op.shape_in[-1], filters))
    taps = tuple(slice(f, f + k) for f, k in zip(front, kernel.shape[:-2], strict=True))
    for group in range(op.groups):
        into, out = slice(group * per_group, (group + 1) * per_group), slice(group * share, (group + 1) * share)
        weight[(*taps, into, out)] = kernel[..., out]
    # (*size, in, out) to (out, in, *size)
    weight = np.ascontiguousarray(np.moveaxis(weight, (-1, -2), (0, 1)))
    plain = op.groups == 1 and weight.shape[2:] == op.kernel.shape[:-2] and stage is None
    metadata = {} if plain else hint(stage=stage or geometry(op))
    spatial, bias = op.shape_in[:-1], np.zeros(filters)
    if dimensions == 1:
        return nir.Conv1d(
            input_shape=spatial[0],
            weight=weight,
            stride=op.strides[0],
            padding=padding[0],
            dilation=dilation[0],
            groups=1,
            bias=bias,
            metadata=metadata,
        )
    return nir.Conv2d(
        input_shape=spatial,
        weight=weight,
        stride=op.strides,
        padding=padding,
        dilation=dilation,
        groups=1,
        bias=bias,
        metadata=metadata,
    )


def _square(op: Convolution) -> tuple[tuple[int, ...], int, tuple[int, ...]] | None:
    """Return (zero taps in front, extent, padding) of the smallest square kernel that does the same, or None.

    With f zero taps in front and g behind, a padding of p on both sides acts as `p - f d` before and `p - g
    d` after, d being the dilation. So `(f - g) d = after - before`, `f + g = extent - size` and `p = before +
    f d`.
    """
    size = op.kernel.shape[:-2]
    lead = []
    for (before, after), d in zip(op.padding, op.dilation, strict=True):
        if (after - before) % d:
            return None
        lead.append((after - before) // d)
    least = max(k + abs(n) for k, n in zip(size, lead, strict=True))
    for extent in (least, least + 1):
        spare = [extent - k for k in size]
        if all((s - n) % 2 == 0 for s, n in zip(spare, lead, strict=True)):
            fronts = [(s + n) // 2 for s, n in zip(spare, lead, strict=True)]
            padding = [before + f * d for (before, _), f, d in zip(op.padding, fronts, op.dilation, strict=True)]
            return tuple(fronts), extent, tuple(padding)
    return None


def _undilated(op: Convolution) -> npt.NDArray[np.float64]:
    size = tuple((k - 1) * d + 1 for k, d in zip(op.kernel.shape[:-2], op.dilation, strict=True))
    kernel = np.zeros((*size, *op.kernel.shape[-2:]))
    kernel[tuple(slice(None, None, d) for d in op.dilation)] = op.kernel
    return kernel
