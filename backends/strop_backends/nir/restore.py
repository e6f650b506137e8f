"""Operators read back from NIR nodes; where strop wrote a node, in its original form.

A hint in a node's metadata only proposes a form. It is used if writing that form again gives exactly the arrays that
the node holds; otherwise the node is read without the hint.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph import Convolution, Dense, Operator, Select, Sparse, SumPool
from strop_backends.nir.emit import _square, native

FloatArray = npt.NDArray[np.float64]

# A kernel can have more values than the matrix of a small image.
_SMALL = 1 << 20
# What a hint that is damaged, or says something else, can raise.
_NO_HINT = (GraphError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, MemoryError)


def described(about: dict[str, Any]) -> Operator:
    """Return the operator of `strop_backends.nir.emit.describe`.

    Raises
    ------
    GraphError, KeyError, TypeError, ValueError
        If it describes none.
    """
    shape_in = tuple(about["shape_in"])
    if "index" in about:
        return Select(shape_in, np.array(about["index"], dtype=np.int64))
    pre, post = (np.array(about[key], dtype=np.int64) for key in ("pre", "post"))
    return Sparse(shape_in, tuple(about["shape_out"]), pre, post, np.array(about["weight"], dtype=np.float64))


def from_matrix(stage: dict[str, Any], matrix: FloatArray, shape_in: tuple[int, ...]) -> Operator | None:
    """Return the operator that a hint proposes for a matrix of shape (size_out, size_in), if it says the same."""
    try:
        candidate = _candidate(stage, matrix, shape_in)
        if candidate is None or candidate.shape_in != shape_in or candidate.size_out != len(matrix):
            return None
    except _NO_HINT:
        return None
    pre, post, weight = candidate.to_coo()
    again = np.zeros_like(matrix)
    again[post, pre] = weight
    return candidate if np.array_equal(again, matrix) else None


def _candidate(stage: dict[str, Any], matrix: FloatArray, shape_in: tuple[int, ...]) -> Operator | None:
    match stage.get("type"):
        case "Dense":
            leading = tuple(stage["leading"])
            inputs, outputs = shape_in[-1], len(matrix) // math.prod(leading)
            return Dense(matrix[:outputs, :inputs].T, leading)
        case "SumPool":
            return SumPool(shape_in, stage["size"], stage["strides"], stage["padding"])
        case "Select":
            index = np.where(matrix.any(axis=1), matrix.argmax(axis=1), -1)
            return Select(shape_in, index.reshape(stage["shape_out"]))
        case "Sparse":
            pre, post = (np.array(stage[key], dtype=np.int64) for key in ("pre", "post"))
            return Sparse(shape_in, tuple(stage["shape_out"]), pre, post, matrix[post, pre])
        case "Convolution":
            # A kernel of running numbers shows which of its values each synapse carries.
            size = math.prod(stage["kernel"])
            _require(size <= max(matrix.size, _SMALL))
            numbered = _with_geometry(stage, np.arange(1.0, size + 1).reshape(stage["kernel"]))
            _require(numbered.shape_in == shape_in and numbered.size_out == len(matrix))
            pre, post, number = numbered.to_coo()
            kernel = np.zeros(size)
            kernel[number.astype(np.int64) - 1] = matrix[post, pre]
            return numbered.with_kernel(kernel.reshape(stage["kernel"]))
        case _:
            return None


def _with_geometry(stage: dict[str, Any], kernel: FloatArray) -> Convolution:
    return Convolution(
        stage["shape_in"],
        kernel,
        stage["strides"],
        stage["dilation"],
        tuple((before, after) for before, after in stage["padding"]),
        stage["groups"],
        stage["transposed"],
        stage["output_padding"],
    )


def from_kernel(stage: dict[str, Any], node: Any, shape_in: tuple[int, ...]) -> Operator | None:
    """Return the operator that a hint proposes for a `Conv1d` or `Conv2d`, if it is written as this very node."""
    weight = np.moveaxis(np.asarray(node.weight, dtype=np.float64), (0, 1), (-1, -2))
    candidate: Operator
    try:
        match stage.get("type"):
            case "SumPool":
                candidate = SumPool(shape_in, stage["size"], stage["strides"], stage["padding"])
                sides = zip(candidate.size, candidate.padding, strict=True)
                _require(all(k + abs(after - before) <= len(weight) for k, (before, after) in sides))
            case "Dense":
                candidate = Dense(weight.reshape(weight.shape[-2:]), tuple(stage["leading"]))
            case "Convolution":
                candidate = _cut(stage, weight)
            case _:
                return None
        again = native(candidate, frozenset({type(node).__name__}))
    except _NO_HINT:
        return None
    same = (
        again is not None
        and candidate.shape_in == shape_in
        and type(again) is type(node)
        and np.array_equal(again.weight, node.weight)
        and all(
            np.array_equal(getattr(again, k), getattr(node, k)) for k in ("stride", "padding", "dilation", "groups")
        )
    )
    return candidate if same else None


def _require(fits: bool) -> None:
    """Leave a hint before anything is made that is larger than the node."""
    if not fits:
        raise GraphError("the hint says another operator than the node")


def _cut(stage: dict[str, Any], weight: FloatArray) -> Convolution:
    """Return the convolution whose taps and groups lie among the zeros of a square kernel of one group."""
    _require(math.prod(stage["kernel"]) <= weight.size)
    probe = _with_geometry(stage, np.zeros(stage["kernel"]))
    size, dilation = probe.kernel.shape[:-2], probe.dilation
    found = _square(probe)
    if found is None:
        dilated = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
        _require(max(dilated) <= len(weight))
        wide = np.zeros((*dilated, *probe.kernel.shape[-2:]))
        ones = (1,) * len(size)
        found = _square(Convolution(probe.shape_in, wide, probe.strides, ones, probe.padding, probe.groups))
        steps = dilation
    else:
        steps = (1,) * len(size)
    if found is None:
        raise GraphError("no square kernel says this")
    _require(found[1] == len(weight))
    taps = tuple(slice(f, f + (k - 1) * d + 1, d) for f, k, d in zip(found[0], size, steps, strict=True))
    per_group, filters = probe.kernel.shape[-2:]
    share = filters // probe.groups
    kernel = np.zeros(probe.kernel.shape)
    for group in range(probe.groups):
        out = slice(group * share, (group + 1) * share)
        kernel[..., out] = weight[(*taps, slice(group * per_group, (group + 1) * per_group), out)]
    return probe.with_kernel(kernel)
