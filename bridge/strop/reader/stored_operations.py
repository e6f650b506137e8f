"""Operations on tensors in functional models (`x >= 0.5`, `2 * x - 1`, `x[:, 1:]`), as the files have them.

Keras 3's `.h5` names the operation's class and its options. Keras 2 names a function of TensorFlow; those with a
counterpart in `keras.ops` are translated, argument by argument, and all others refused by name. Neither looks up
anything that the file could choose: both names are keys of fixed tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import ModelFileError, StropError, UnsupportedLayerError
from strop.reader.classes import operation_classes
from strop.reader.config import safe_name
from strop.reader.naming import brief
from strop.reader.topology import KERAS_2_OPERATIONS, Entry

# What a call of an operation takes and gives: its arguments, tensors of Keras in them, and the output.
Operation = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def operation_from_entry(entry: Entry, where: str) -> Operation:
    """Return what an operation's entry in a functional model calls.

    Parameters
    ----------
    entry : Entry
    where : str
        File and operation, for the messages.

    Raises
    ------
    UnsupportedLayerError
        If it is not known.
    """
    config = entry.config if isinstance(entry.config, Mapping) else {}
    if entry.class_name not in KERAS_2_OPERATIONS:
        return _keras_3_operation(entry.class_name, entry.name, config, where)
    function = str(config.get("function"))
    translated = _COUNTERPARTS.get(function)
    if translated is None:
        raise UnsupportedLayerError(
            f"{where} applies tf.{function}, an operation of TensorFlow that strop does not translate; replace it by a "
            "layer, or by an operation in the table of docs/model-files.md, and save the model again"
        )
    return _named(translated, entry.name, function, where)


# Keras 3 --------------------------------------------------------------------------------------------------------------


def _keras_3_operation(class_name: str, name: str, config: Mapping[str, Any], where: str) -> Operation:
    import keras

    cls = operation_classes().get(class_name)
    if cls is None:
        raise UnsupportedLayerError(
            f"{where} is an operation {class_name!r}, which keras.ops {keras.__version__} lacks"
        )
    options = {str(key): _as_tuples(value) for key, value in config.items()}
    if not all(_is_plain(value) for value in options.values()):
        raise UnsupportedLayerError(f"{where} ({class_name}) has options that strop does not read: {config!r}")
    parameters = inspect.signature(cls).parameters
    if "name" in parameters:
        options["name"] = safe_name(name)
    else:
        options.pop("name", None)
    try:
        operation = cls(**options)
    except Exception as error:
        raise ModelFileError(f"{where} ({class_name}) cannot be rebuilt from its config: {brief(error)}") from error

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if class_name == "GetItem":
            args = (args[0], *(_as_tuples(arg) for arg in args[1:]))
            kwargs = {option: _as_tuples(value) for option, value in kwargs.items()}
        return operation(*args, **kwargs)

    return call


def _as_tuples(value: Any) -> Any:
    """Return lists as the tuples that they were before JSON."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


# Keras 2 --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counterpart:
    """What a function of TensorFlow is in `keras.ops`.

    Attributes
    ----------
    name : str
        Of the function in `keras.ops`.
    renamed : dict
        TensorFlow's names of the arguments behind the first, and those in `keras.ops`.
    fixed : dict
        Arguments that `keras.ops` does not have, and the value that they must have.
    """

    name: str
    renamed: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import keras

        translated = {}
        for option, value in kwargs.items():
            if option in self.renamed:
                translated[self.renamed[option]] = value
            elif option != "name" and value is not None and not _is_fixed(value, self.fixed.get(option)):
                raise UnsupportedLayerError(f"is called with {option}={value!r}, which strop does not translate")
        return getattr(keras.ops, self.name)(*args, **translated)


def _is_fixed(value: Any, expected: Any) -> bool:
    return type(value) is type(expected) and bool(value == expected)


def _named(translated: Operation, name: str, function: str, where: str) -> Operation:
    """Return the operation under the name that it has in the file: Keras numbers its own names across models."""
    import keras

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        constants = _constants_as_tensors(args, kwargs)
        try:
            output = translated(*constants)
        except StropError as error:
            raise UnsupportedLayerError(f"{where} (tf.{function}) {error}") from error
        taken = {id(tensor) for tensor in keras.tree.flatten((args, kwargs))}
        for tensor in keras.tree.flatten(output):
            if id(tensor) not in taken:
                tensor._keras_history.operation.name = safe_name(name)
        return output

    return call


def _constants_as_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn lists of fractions into arrays of the tensor's dtype, which TensorFlow made of them."""
    import keras

    dtypes = [
        tensor.dtype
        for tensor in keras.tree.flatten((args, kwargs))
        if isinstance(tensor, keras.KerasTensor) and str(tensor.dtype).startswith("float")
    ]
    dtype = dtypes[0] if dtypes else "float32"

    def constant(value: Any) -> Any:
        if isinstance(value, list) and _fractions(value):
            return np.asarray(value, dtype=dtype)
        return value

    return tuple(constant(arg) for arg in args), {option: constant(value) for option, value in kwargs.items()}


def _fractions(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_fractions(item) for item in value)
    return isinstance(value, float)


def _concat(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = args[0] if isinstance(args[0], list) else [args[0]]
    return Counterpart("concatenate", {"axis": "axis"})((values,), kwargs)


def _stack(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = args[0] if isinstance(args[0], list) else [args[0]]
    return Counterpart("stack", {"axis": "axis"})((values,), kwargs)


def _get_item(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = dict(kwargs)
    key = _as_tuples(options.pop("slice_spec", None))
    if key is None or options.pop("var", None) is not None:
        raise UnsupportedLayerError("is called without a slice")
    parts = key if isinstance(key, tuple) else (key,)
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts):
        raise UnsupportedLayerError(f"takes the places {key!r}, which are no numbers")
    return args[0][key]


def _pad(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import keras

    options = {option: value for option, value in kwargs.items() if option != "name"}
    mode = str(options.pop("mode", "CONSTANT")).lower()
    constant = options.pop("constant_values", 0)
    widths = _as_tuples(options.pop("paddings", None))
    if widths is None or options or mode not in ("constant", "reflect", "symmetric"):
        raise UnsupportedLayerError(f"pads in a way that strop does not translate: {kwargs!r}")
    if mode == "constant":
        return keras.ops.pad(args[0], widths, mode="constant", constant_values=constant)
    return keras.ops.pad(args[0], widths, mode=mode)


def _flip(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    axes = kwargs.get("axis")
    return Counterpart("flip", {"axis": "axis"})(args, {**kwargs, "axis": _as_tuples(axes)})


def _identity(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import keras

    return keras.layers.Identity()(args[0])


_TWO = {"y": "x2"}
_REDUCED = {"axis": "axis", "keepdims": "keepdims"}
_TRANSPOSED = Counterpart("transpose", {"perm": "axes"}, {"conjugate": False})
_UNARY = {
    "abs": ("math.abs", "abs"),
    "exp": ("math.exp", "exp"),
    "logical_not": ("math.logical_not",),
    "negative": ("math.negative", "negative"),
    "relu": ("nn.relu",),
    "round": ("math.round", "round"),
    "sigmoid": ("math.sigmoid", "nn.sigmoid"),
    "sign": ("math.sign", "sign"),
    "sqrt": ("math.sqrt", "sqrt"),
    "square": ("math.square", "square"),
    "tanh": ("math.tanh", "nn.tanh", "tanh"),
}
_BINARY = {
    "add": ("__operators__.add", "math.add", "add"),
    "divide": ("math.divide", "divide", "math.truediv", "truediv", "compat.v1.div"),
    "equal": ("math.equal", "equal"),
    "greater": ("math.greater", "greater"),
    "greater_equal": ("math.greater_equal", "greater_equal"),
    "less": ("math.less", "less"),
    "less_equal": ("math.less_equal", "less_equal"),
    "logical_and": ("math.logical_and",),
    "logical_or": ("math.logical_or",),
    "maximum": ("math.maximum", "maximum"),
    "minimum": ("math.minimum", "minimum"),
    "multiply": ("math.multiply", "multiply"),
    "not_equal": ("math.not_equal", "not_equal"),
    "subtract": ("math.subtract", "subtract"),
}
_COUNTERPARTS: dict[str, Operation] = {
    **{function: Counterpart(name) for name, functions in _UNARY.items() for function in functions},
    **{function: Counterpart(name, _TWO) for name, functions in _BINARY.items() for function in functions},
    **{f"math.reduce_{name}": Counterpart(name, _REDUCED) for name in ("sum", "mean", "max", "min")},
    **{f"reduce_{name}": Counterpart(name, _REDUCED) for name in ("sum", "mean", "max", "min")},
    "__operators__.getitem": _get_item,
    "argmax": Counterpart("argmax", {"axis": "axis"}, {"output_type": "int64"}),
    "broadcast_to": Counterpart("broadcast_to", {"shape": "shape"}),
    "cast": Counterpart("cast", {"dtype": "dtype"}),
    "clip_by_value": Counterpart("clip", {"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "compat.v1.pad": _pad,
    "compat.v1.transpose": _TRANSPOSED,
    "compat.v1.squeeze": Counterpart("squeeze", {"axis": "axis"}),
    "concat": _concat,
    "expand_dims": Counterpart("expand_dims", {"axis": "axis"}),
    "identity": _identity,
    "math.argmax": Counterpart("argmax", {"axis": "axis"}, {"output_type": "int64"}),
    "nn.log_softmax": Counterpart("log_softmax", {"axis": "axis"}),
    "nn.softmax": Counterpart("softmax", {"axis": "axis"}),
    "pad": _pad,
    "repeat": Counterpart("repeat", {"repeats": "repeats", "axis": "axis"}),
    "reshape": Counterpart("reshape", {"shape": "newshape"}),
    "reverse": _flip,
    "roll": Counterpart("roll", {"shift": "shift", "axis": "axis"}),
    "squeeze": Counterpart("squeeze", {"axis": "axis"}),
    "stack": _stack,
    "tile": Counterpart("tile", {"multiples": "repeats"}),
    "transpose": _TRANSPOSED,
    "where": Counterpart("where", {"x": "x1", "y": "x2"}),
}
TRANSLATED = tuple(sorted(_COUNTERPARTS))
"""The functions of TensorFlow that Keras 2's operations are translated from, without their ``tf.``"""


def counterparts() -> dict[str, list[str]]:
    """Return the functions of TensorFlow that are translated, by the function of `keras.ops` that each becomes."""
    special: dict[Operation, str] = {
        _concat: "concatenate",
        _flip: "flip",
        _get_item: "get_item",
        _identity: "identity",
        _pad: "pad",
        _stack: "stack",
    }
    found: dict[str, list[str]] = {}
    for function, translated in sorted(_COUNTERPARTS.items()):
        name = translated.name if isinstance(translated, Counterpart) else special[translated]
        found.setdefault(name, []).append(function)
    return dict(sorted(found.items()))
