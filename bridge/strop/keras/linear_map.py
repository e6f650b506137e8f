"""`LinearMap`: a linear operator of a graph as a Keras layer, for operators that no layer of Keras's own says.

`strop.to_keras` uses it for sums over windows, index maps, lists of synapses, and convolutions with a padding of their
own. `strop.lower` turns it back into the same operator.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from strop.errors import DataError
from strop.graph import Operator
from strop.graph.files.layout import CLASS_NAMES, OPERATORS

# A list of synapses is multiplied as a matrix of up to so many entries, and added up synapse by synapse beyond.
_LARGEST_MATRIX = 1 << 22

# The fields of an operator: numbers and names as they are, {"extents": [...]} for an array, lists of stages.
Description = Mapping[str, Any]
Arrays = Mapping[str, Any]


def describe(operator: Operator, path: str = "") -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return an operator as a JSON-able description, and its arrays by their paths in it.

    Raises
    ------
    DataError
        If it is none of strop's own operators.
    """
    kind = CLASS_NAMES.get(type(operator))
    if kind is None:
        raise DataError(
            f"a Keras layer cannot hold the operator {type(operator).__name__}; known are {', '.join(OPERATORS)} (any "
            "linear map can be written as Sparse, from to_coo())"
        )
    described: dict[str, Any] = {"type": kind}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for key, attribute, form in OPERATORS[kind][1]:
        value = getattr(operator, attribute)
        if form in ("float64", "int64"):
            arrays[f"{path}{key}"] = value
            described[key] = {"extents": list(value.shape)}
        elif form == "operators":
            parts = [describe(stage, f"{path}{n}.") for n, stage in enumerate(value)]
            described[key] = [part for part, _ in parts]
            for _, found in parts:
                arrays.update(found)
        else:
            described[key] = [list(v) for v in value] if form == "pairs" else _plain(value)
    return described, arrays


def _plain(value: Any) -> Any:
    return [int(n) for n in value] if isinstance(value, tuple) else value


def rebuild(described: Description, arrays: Mapping[str, npt.NDArray[Any]], path: str = "") -> Operator:
    """Return the operator of a description and its arrays."""
    make, rows = OPERATORS[described["type"]]
    fields: dict[str, Any] = {}
    for key, attribute, form in rows:
        value = described[key]
        if form in ("float64", "int64"):
            fields[attribute] = np.asarray(arrays[f"{path}{key}"], dtype=form)
        elif form == "operators":
            fields[attribute] = tuple(rebuild(stage, arrays, f"{path}{n}.") for n, stage in enumerate(value))
        elif form == "pairs":
            fields[attribute] = tuple((before, after) for before, after in value)
        else:
            fields[attribute] = tuple(value) if isinstance(value, (list, tuple)) else value
    return make(**fields)


def _arrays_of(described: Description, path: str = "") -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield the path, dtype and shape of each array of a description."""
    for key, _, form in OPERATORS[described["type"]][1]:
        if form in ("float64", "int64"):
            yield f"{path}{key}", form, tuple(described[key]["extents"])
        elif form == "operators":
            for n, stage in enumerate(described[key]):
                yield from _arrays_of(stage, f"{path}{n}.")


@keras.saving.register_keras_serializable(package="strop")
class LinearMap(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A linear map that is given as an operator of `strop.graph`, without bias.

    >>> LinearMap(SumPool((28, 28, 6), (2, 2), (2, 2), ((0, 0), (0, 0))))

    Weights and factors are trainable weights; indices are weights that are not. Sums of whole numbers are exact in
    any order, as long as float32 holds them.

    Parameters
    ----------
    operator : strop.graph.Operator, or its description
        A description (as `get_config` gives it) holds the extents of arrays; their values are those of the weights.
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.

    Raises
    ------
    DataError
        If it is none of strop's own operators, or a description is damaged.
    """

    def __init__(self, operator: Operator | Description, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given: dict[str, npt.NDArray[Any]] | None = None
        if isinstance(operator, Operator):
            operator, given = describe(operator)
        try:
            arrays = list(_arrays_of(operator))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"layer {self.name!r} holds no description of a linear map: {error!r}") from error
        # In a tuple, so that Keras does not wrap it.
        self._described = (operator,)
        self._held: dict[str, Any] = {}
        for path, form, extents in arrays:
            whole = form == "int64"
            # Index arrays of 32 bits: a frame has fewer values.
            weight = self.add_weight(
                name=path.replace(".", "_"),
                shape=extents,
                dtype="int32" if whole else None,
                initializer="zeros",
                trainable=not whole,
            )
            if given is not None:
                weight.assign(given[path])
            self._held[path] = weight

    @property
    def description(self) -> Description:
        """The operator without the values of its arrays."""
        return self._described[0]

    @property
    def operator(self) -> Operator:
        """The operator, with the weights as they are now, in float64."""
        return rebuild(
            self.description,
            {path: np.asarray(ops.convert_to_numpy(weight)) for path, weight in self._held.items()},
        )

    def call(self, inputs: Any) -> Any:
        """Apply the map to a batch of frames of shape `(n, *shape_in)`."""
        return _applied(self.description, self._held, inputs, "")

    def get_config(self) -> dict[str, Any]:
        """Return a JSON-able config: the operator without the values of its arrays."""
        return {**super().get_config(), "operator": dict(self.description)}


# Computation ----------------------------------------------------------------------------------------------------------


def _applied(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    return _KINDS[described["type"]](described, arrays, x, path)


def _dense(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    return ops.matmul(x, arrays[f"{path}weight"])


def _scale(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    return ops.multiply(x, arrays[f"{path}factor"])


def _select(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    size, shape = math.prod(described["shape_in"]), described["index"]["extents"]
    # One zero behind each frame, which index -1 leads to.
    flat = ops.pad(ops.reshape(x, (-1, size)), ((0, 0), (0, 1)))
    index = ops.reshape(arrays[f"{path}index"], (-1,))
    return ops.reshape(ops.take(flat, ops.where(index < 0, size, index), axis=1), (-1, *shape))


def _sparse(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    rows, columns = math.prod(described["shape_in"]), math.prod(described["shape_out"])
    pre, post, weight = (arrays[f"{path}{key}"] for key in ("pre", "post", "weight"))
    weight = ops.cast(weight, x.dtype)
    flat = ops.reshape(x, (-1, rows))
    if rows * columns <= _LARGEST_MATRIX:
        matrix = ops.scatter(
            ops.stack([ops.cast(pre, "int32"), ops.cast(post, "int32")], axis=1), weight, (rows, columns)
        )
        found = ops.matmul(flat, matrix)
    else:
        sent = ops.take(ops.transpose(flat), ops.cast(pre, "int32"), axis=0) * weight[:, None]
        found = ops.transpose(ops.segment_sum(sent, ops.cast(post, "int32"), num_segments=columns))
    return ops.reshape(found, (-1, *described["shape_out"]))


def _sum_pool(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    """Add up windows, one axis after the other: as exact as any other order."""
    x = _padded(x, described["padding"])
    for axis, (size, stride) in enumerate(zip(described["size"], described["strides"], strict=True), start=1):
        count = (x.shape[axis] - size) // stride + 1
        if count == 1:
            x = ops.sum(_cut(x, axis, 0, size, 1), axis=axis, keepdims=True)
            continue
        parts = [_cut(x, axis, start, start + (count - 1) * stride + 1, stride) for start in range(size)]
        x = sum(parts[1:], start=parts[0])
    return x


def _convolution(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    """Add up the products of all taps.

    Not by Keras's convolutions: TensorFlow 2.21 on CPUs takes equal strides only for some of them, fails on some with a
    kernel of one tap, and gives wrong numbers for single channels with strides that leave one column.
    """
    kernel = ops.cast(arrays[f"{path}kernel"], x.dtype)
    *size, per_group, filters = described["kernel"]["extents"]
    strides, dilation, padding = (described[key] for key in ("strides", "dilation", "padding"))
    if described["transposed"]:
        # The adjoint: zeros between the values that enter, and the kernel turned round.
        extra = described["output_padding"] or [0] * len(strides)
        reach = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        padding = [(r - before, r - after + e) for r, (before, after), e in zip(reach, padding, extra, strict=True)]
        for axis, stride in enumerate(strides, start=1):
            x = _spread(x, axis, stride)
        kernel = ops.flip(kernel, axis=tuple(range(len(strides))))
        strides = [1] * len(strides)
    x = _padded(x, padding)
    spans = [n - d * (k - 1) for n, d, k in zip(x.shape[1:], dilation, size, strict=False)]
    groups = described["groups"]
    total: Any = None
    for tap in itertools.product(*map(range, size)):
        places = zip(tap, dilation, spans, strides, strict=True)
        part = x[(slice(None), *(slice(t * d, t * d + span, stride) for t, d, span, stride in places))]
        if groups == 1:
            product = ops.matmul(part, kernel[tap])
        else:
            part = ops.reshape(part, (-1, *part.shape[1:-1], groups, per_group))
            weights = ops.reshape(kernel[tap], (per_group, groups, filters // groups))
            product = ops.einsum("...gi,igo->...go", part, weights)
            product = ops.reshape(product, (-1, *product.shape[1:-2], filters))
        total = product if total is None else total + product
    return total


def _composed(described: Description, arrays: Arrays, x: Any, path: str) -> Any:
    for n, stage in enumerate(described["stages"]):
        x = _applied(stage, arrays, x, f"{path}{n}.")
    return x


_KINDS: dict[str, Callable[[Description, Arrays, Any, str], Any]] = {
    "Dense": _dense,
    "Scale": _scale,
    "Select": _select,
    "Sparse": _sparse,
    "SumPool": _sum_pool,
    "Convolution": _convolution,
    "Composed": _composed,
}


def _cut(x: Any, axis: int, start: int, stop: int, step: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def _padded(x: Any, padding: Any) -> Any:
    """Pad the axes behind the batch with zeros; a negative number cuts."""
    for axis, (before, after) in enumerate(padding, start=1):
        if before < 0 or after < 0:
            x = _cut(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0), 1)
    grown = [(max(before, 0), max(after, 0)) for before, after in padding]
    return ops.pad(x, ((0, 0), *grown, (0, 0))) if any(map(any, grown)) else x


def _spread(x: Any, axis: int, step: int) -> Any:
    """Put `step - 1` zeros between the values along an axis."""
    if step == 1:
        return x
    extents = [-1 if extent is None else extent for extent in x.shape]
    count = extents[axis]
    x = ops.expand_dims(x, axis + 1)
    x = ops.pad(x, [(0, step - 1) if place == axis + 1 else (0, 0) for place in range(len(x.shape))])
    extents[axis] = count * step
    return _cut(ops.reshape(x, extents), axis, 0, (count - 1) * step + 1, 1)
