"""Read the layers of QKeras (qkeras 0.9) as chains of Keras layers that compute the same.

The kernel and bias quantisers are evaluated once, on what the file holds, operation by operation as QKeras does
(qkeras 0.9.0, quantizers.py); the plain layers get the result. Activations that are signs become a `Heaviside`.

QKeras gives `x + (q - x)` for a quantised value q, for the sake of the gradient, so that its own activations miss their
two values by the rounding of float32. Here they are these values.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from strop.errors import UnsupportedLayerError
from strop.reader.chain import Expansion, KernelQuantizer
from strop.reader.classes import KnownObjects
from strop.reader.config import layer_from_config, plain, safe_name

_LAYERS = {
    "QConv1D": "Conv1D",
    "QConv2D": "Conv2D",
    "QConv2DTranspose": "Conv2DTranspose",
    "QDense": "Dense",
    "QDepthwiseConv2D": "DepthwiseConv2D",
}
_REFUSED = """
    QAdaptiveActivation QAveragePooling2D QBatchNormalization QBidirectional QConv2DBatchnorm
    QDepthwiseConv2DBatchnorm QGlobalAveragePooling2D QGRU QLSTM QMobileNetSeparableConv2D QOctaveConv2D
    QSeparableConv1D QSeparableConv2D QSimpleRNN
    """
# The arguments of the quantisers, in their order: strings such as "quantized_bits(4,0,1)" leave out the names.
_ARGUMENTS = {
    "binary": ("use_01", "alpha", "use_stochastic_rounding"),
    "quantized_bits": ("bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding"),
    "ternary": ("alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"),
}
_WEIGHTS = {"kernel_quantizer": "kernel", "depthwise_quantizer": "kernel", "bias_quantizer": "bias"}
_UNUSED = ("kernel_range", "bias_range", "depthwise_range")
_EPSILON = 1e-7  # keras.backend.epsilon() of Keras 2


def expansion(class_name: str, config: Mapping[str, Any], where: str, known: KnownObjects) -> Expansion | None:
    """Return the chain for a layer of QKeras; None for any other.

    Raises
    ------
    UnsupportedLayerError
        For quantisers whose values are not two, or that are not known.
    """
    short = class_name.rpartition(">")[2]
    name = safe_name(str(config["name"]))
    if short == "QActivation":
        step = _activation(config.get("activation"), name, where)
        return Expansion((), step)
    if short in _REFUSED.split():
        raise UnsupportedLayerError(
            f"{where} is of class {class_name!r}, a layer of QKeras that strop does not read; build the model from "
            f"{', '.join(sorted(_LAYERS))} and QActivation, or from Keras's own layers"
        )
    if short not in _LAYERS:
        return None
    settings = {option: value for option, value in config.items() if option not in _UNUSED}
    behind: tuple[Any, ...] = ()
    if settings.get("activation") not in (None, "linear"):
        behind = (_activation(settings["activation"], f"{name}_activation", where),)
        settings["activation"] = "linear"
    quantizers = {
        weight: _weight_quantizer(settings[option], f"{where}: {option}")
        for option, weight in _WEIGHTS.items()
        if settings.get(option) is not None
    }
    settings = {option: value for option, value in settings.items() if option not in _WEIGHTS}
    main = layer_from_config(_LAYERS[short], settings, where, known)
    return Expansion((), main, behind, None, quantizers)


def _quantizer(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return the class of a quantiser and its arguments, from a record or from a string such as "binary(alpha=1)"."""
    if isinstance(value, Mapping):
        kind, config = str(value.get("class_name")), value.get("config")
        arguments = {str(option): plain(setting) for option, setting in dict(config or {}).items()}
    else:
        kind, arguments = _parsed(str(value), where)
    if kind not in _ARGUMENTS:
        raise UnsupportedLayerError(
            f"{where} quantises by {kind!r}, which strop does not read; it reads {', '.join(sorted(_ARGUMENTS))}"
        )
    if arguments.pop("use_stochastic_rounding", False) or arguments.pop("qnoise_factor", 1.0) != 1.0:
        raise UnsupportedLayerError(
            f"{where} quantises by {kind!r} at random, or in part, which strop cannot carry over"
        )
    unknown = [option for option in arguments if option not in _ARGUMENTS[kind]]
    if unknown:
        raise UnsupportedLayerError(f"{where} quantises by {kind!r} with {unknown[0]}, which strop does not read")
    return kind, arguments


def _parsed(text: str, where: str) -> tuple[str, dict[str, Any]]:
    """Take a string apart that QKeras would evaluate; nothing in it is evaluated here but literals."""
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = _ARGUMENTS.get(node.func.id, ())
            arguments = dict(zip(names, (ast.literal_eval(arg) for arg in node.args), strict=False))
            arguments.update({str(word.arg): ast.literal_eval(word.value) for word in node.keywords})
            return node.func.id, arguments
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise UnsupportedLayerError(
        f"{where} quantises by {text[:60]!r}, which is no quantiser of QKeras with plain arguments"
    )


def _activation(value: Any, name: str, where: str) -> Any:
    from strop.keras import Heaviside

    kind, arguments = _quantizer(value, where)
    alpha = arguments.get("alpha")
    is_sign = kind == "binary" or (
        kind == "quantized_bits" and arguments.get("bits", 8) == 1 and arguments.get("keep_negative", True)
    )
    if not is_sign or isinstance(alpha, str | list):
        raise UnsupportedLayerError(
            f"{where} has the activation {kind!r} of QKeras with {arguments!r}, which is no threshold with two fixed "
            "values: train with binary(alpha=1) or quantized_bits(1) instead"
        )
    high = 1.0 if alpha is None else float(alpha)
    return Heaviside(0.0, 0.0 if arguments.get("use_01") else -high, high, name=name)


# Weights --------------------------------------------------------------------------------------------------------------


def _weight_quantizer(value: Any, where: str) -> KernelQuantizer:
    kind, arguments = _quantizer(value, where)
    if arguments.get("alpha") is not None and not isinstance(arguments["alpha"], int | float):
        if arguments["alpha"] not in ("auto", "auto_po2"):
            raise UnsupportedLayerError(f"{where} scales by alpha={arguments['alpha']!r}, which strop does not read")
        automatic: dict[str, Any] = {
            "binary": _binary,
            "ternary": _automatic_ternary,
            "quantized_bits": _automatic_bits,
        }
        return lambda x: automatic[kind](x, **arguments)
    by_kind: dict[str, Any] = {"binary": _binary, "ternary": _ternary, "quantized_bits": _bits}
    return lambda x: by_kind[kind](x, **arguments)


def _through(x: Any, quantized: Any) -> Any:
    """Return what QKeras gives for a quantised value: rounded twice."""
    return x + (-x + quantized)


def _axes(x: Any) -> tuple[int, ...] | None:
    return tuple(range(len(x.shape) - 1)) if len(x.shape) > 1 else None


def _power_of_two(scale: Any) -> Any:
    import keras

    ops = keras.ops
    return ops.power(2.0, ops.round(ops.log(scale + _EPSILON) / math.log(2.0)))


def _scale(alpha: Any, x: Any, q: Any) -> Any:
    """Return the scale of `_get_scale`: the least squares fit of q to x, for each channel."""
    import keras

    ops = keras.ops
    if not isinstance(alpha, str):
        return 1.0 if alpha is None else float(alpha)
    axes = _axes(x)
    qx, qq = x * q, q * q
    if axes is not None:
        qx, qq = (ops.mean(value, axis=axes, keepdims=True) for value in (qx, qq))
    scale = qx / (qq + _EPSILON)
    return _power_of_two(scale) if alpha == "auto_po2" else scale


def _sign(x: Any) -> Any:
    """1 for x >= 0 and -1 elsewhere."""
    import keras

    sign = keras.ops.sign(x)
    return sign + (1.0 - keras.ops.abs(sign))


def _binary(x: Any, use_01: bool = False, alpha: Any = None) -> Any:
    import keras

    sign = _sign(x)
    q = (sign + 1.0) / 2.0 if use_01 else sign
    x = keras.ops.tanh(x) if alpha is None else x
    return _through(x, _scale(alpha, x, q) * q)


def _ternary(x: Any, alpha: Any = None, threshold: Any = None, number_of_unrolls: int = 5) -> Any:
    import keras

    ops = keras.ops
    q = ops.cast(ops.abs(x) >= (0.33 if threshold is None else threshold), "float32") * ops.sign(x)
    x = ops.tanh(x) if alpha is None else x
    return _through(x, (1.0 if alpha is None else float(alpha)) * q)


def _automatic_ternary(x: Any, alpha: str, threshold: Any = None, number_of_unrolls: int = 5) -> Any:
    import keras

    ops = keras.ops
    scale = 2 * ops.max(ops.abs(x), axis=_axes(x), keepdims=True) / 3.0
    scale = _power_of_two(scale) if alpha == "auto_po2" else scale
    q = ops.zeros_like(x)
    for _ in range(number_of_unrolls):
        v = scale * _through(x / scale, ops.round(x / scale))
        q = ops.cast(ops.abs(v) >= scale / 2.0, "float32") * ops.sign(x)
        scale = _scale(alpha, x, q)
    return _through(x, scale * q)


def _bits(
    x: Any, bits: int = 8, integer: int = 0, symmetric: Any = 0, keep_negative: Any = True, alpha: Any = None
) -> Any:
    import keras

    ops = keras.ops
    unsigned = int(bits) - int(keep_negative)
    m, m_i = 2.0**unsigned, 2.0 ** int(integer)
    if unsigned > 0:
        p = x * m / m_i
        q = m_i * ops.clip(_through(p, ops.round(p)), int(keep_negative) * (-m + int(symmetric)), m - 1) / m
    else:
        q = _sign(x) if keep_negative else (_sign(x) + 1.0) / 2.0
    return _through(x, (1.0 if alpha is None else float(alpha)) * q)


def _automatic_bits(
    x: Any, alpha: str, bits: int = 8, integer: int = 0, symmetric: Any = True, keep_negative: Any = True
) -> Any:
    """`quantized_bits` with alpha="auto" or "auto_po2", which is symmetric whatever is asked for."""
    import keras

    ops = keras.ops
    m, m_i = 2.0 ** (int(bits) - int(keep_negative)), 2.0 ** int(integer)
    levels = (2 ** (int(bits) - 1) - 1) * 2
    x = x / m_i
    scale = (ops.max(ops.abs(x), axis=_axes(x), keepdims=True) * 2) / levels

    def rounded(scale: Any) -> Any:
        v = ops.floor(ops.abs(x) / scale + 0.5)
        return ops.sign(x) * ops.where(v < levels / 2, v, ops.ones_like(v) * levels / 2)

    z = rounded(scale)
    if alpha == "auto_po2":
        scale = _power_of_two(scale)
        for _ in range(5):
            z = rounded(scale)
            scale = _scale("auto_po2", x, z)
    x = m_i * x
    return _through(x, (scale * m) * (m_i * z / m))
