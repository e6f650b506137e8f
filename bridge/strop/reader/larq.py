"""Read the layers of Larq (binarised networks, larq 0.9 to 0.14) as chains of Keras layers that compute the same.

A quantised layer of Larq quantises its input, then its kernel, and computes with both (larq 0.14, layers_base.py). Here
the *input quantiser* becomes a `Heaviside` in front of the layer, and the *kernel quantiser* is evaluated once, on the
latent kernel of the file: the plain layer gets what Larq computes with. `pad_values` becomes a padding of its own.
Larq itself is not needed, and nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from strop.errors import UnsupportedLayerError
from strop.reader.chain import Expansion, KernelQuantizer, Padding
from strop.reader.classes import KnownObjects
from strop.reader.config import layer_from_config, plain, safe_name
from strop.reader.topology import as_mapping

_LAYERS = {
    "QuantConv1D": "Conv1D",
    "QuantConv2D": "Conv2D",
    "QuantConv2DTranspose": "Conv2DTranspose",
    "QuantConv3D": "Conv3D",
    "QuantConv3DTranspose": "Conv3DTranspose",
    "QuantDense": "Dense",
    "QuantDepthwiseConv2D": "DepthwiseConv2D",
    "QuantSeparableConv1D": "SeparableConv1D",
    "QuantSeparableConv2D": "SeparableConv2D",
}
_ALIASES = {
    "approx_sign": "ApproxSign",
    "dorefa_quantizer": "DoReFa",
    "DoReFaQuantizer": "DoReFa",
    "magnitude_aware_sign": "MagnitudeAwareSign",
    "NoOpQuantizer": "NoOp",
    "ste_heaviside": "SteHeaviside",
    "ste_sign": "SteSign",
    "ste_tern": "SteTern",
    "swish_sign": "SwishSign",
}
# They differ in their gradients alone: all give 1 for x >= 0, and -1 elsewhere (larq 0.14, math.py).
_SIGNS = frozenset(["ApproxSign", "SteSign", "SwishSign"])
_QUANTIZERS = _SIGNS | {"DoReFa", "MagnitudeAwareSign", "NoOp", "SteHeaviside", "SteTern"}
_NOT_TWO_VALUED = {
    "DoReFa": "gives as many values as its bits say",
    "MagnitudeAwareSign": "multiplies with the mean of the frame itself",
    "SteTern": "gives three values",
}
_KERNELS = {"kernel_quantizer": "kernel", "depthwise_quantizer": "kernel", "pointwise_quantizer": "pointwise_kernel"}


def expansion(class_name: str, config: Mapping[str, Any], where: str, known: KnownObjects) -> Expansion | None:
    """Return the chain for a layer of Larq, or for a Keras layer with a quantiser as its activation; else None.

    Raises
    ------
    UnsupportedLayerError
        For quantisers whose values are not two, or that are not known.
    """
    short = class_name.rpartition(">")[2]
    name = safe_name(str(config["name"]))
    if _ALIASES.get(short, short) in _QUANTIZERS:
        parts = _activation({"class_name": short, "config": config}, name, where)
        return Expansion(parts[:-1], parts[-1])
    quantizer = _known_quantizer(config.get("activation"), known)
    behind = _activation(config["activation"], f"{name}_activation", where) if quantizer else ()
    if quantizer:
        config = {**config, "activation": "linear"}
    if short not in _LAYERS:
        if not quantizer:
            return None
        main = layer_from_config(class_name, config, where, known)
        return Expansion((), main, behind)
    return _quantized(_LAYERS[short], config, where, known, behind)


def _quantized(
    class_name: str, config: Mapping[str, Any], where: str, known: KnownObjects, behind: tuple[Any, ...]
) -> Expansion:
    settings = dict(config)
    before: tuple[Any, ...] = ()
    input_quantizer = settings.pop("input_quantizer", None)
    if input_quantizer is not None:
        before = _activation(input_quantizer, f"{safe_name(str(config['name']))}_input_quantizer", where)
    quantizers = {
        weight: _kernel_quantizer(settings.pop(option), f"{where}: {option}")
        for option, weight in _KERNELS.items()
        if settings.get(option) is not None
    }
    if class_name.startswith("Separable") and "kernel" in quantizers:
        quantizers["depthwise_kernel"] = quantizers.pop("kernel")
    settings = {option: value for option, value in settings.items() if option not in _KERNELS}
    padding = _padding(settings, input_quantizer, where)
    main = layer_from_config(class_name, settings, where, known)
    return Expansion(before, main, behind, padding, quantizers)


def _padding(settings: dict[str, Any], input_quantizer: Any, where: str) -> Padding | None:
    """Take the padding out of a layer's settings, where it is one with a constant other than zero."""
    value = plain(settings.pop("pad_values", 0.0))
    if value == 0.0 or settings.get("padding") != "same":
        return None
    low = 0.0 if _quantizer_name(input_quantizer) == "SteHeaviside" else -1.0
    constant = np.float32(value) if isinstance(value, int | float) else np.float32(np.nan)
    exact = all((np.float32(v) - constant) + constant == np.float32(v) for v in (low, 1.0))
    if input_quantizer is None or not exact:
        raise UnsupportedLayerError(
            f"{where} pads with pad_values={value!r}, which strop carries over for inputs of an input quantiser and "
            "values such as 1 and -1 alone"
        )
    kernel = tuple(plain(settings["kernel_size"]))
    settings["padding"] = "valid"
    return Padding(
        float(value),
        f"{safe_name(str(settings['name']))}_padding",
        kernel,
        tuple(plain(settings.get("strides", (1,) * len(kernel)))),
        tuple(plain(settings.get("dilation_rate", (1,) * len(kernel)))),
        str(settings.get("data_format") or "channels_last"),
    )


def _quantizer_name(value: Any) -> str:
    """Return Larq's name of the class of a quantiser, given as a record, or by its name."""
    name = value.get("class_name") if isinstance(value, Mapping) else value
    short = str(name).rpartition(">")[2]
    return _ALIASES.get(short, short)


def _known_quantizer(value: Any, known: KnownObjects) -> bool:
    if not isinstance(value, str | Mapping) or _quantizer_name(value) not in _QUANTIZERS:
        return False
    name = value if isinstance(value, str) else str(value.get("registered_name") or value.get("class_name"))
    return known.find(name) is None


def _activation(value: Any, name: str, where: str) -> tuple[Any, ...]:
    """Return the layers that give what an input quantiser gives."""
    import keras

    from strop.keras import Heaviside

    kind = _quantizer_name(value)
    if kind in _SIGNS:
        return (Heaviside(0.0, -1.0, 1.0, name=name),)
    if kind == "SteHeaviside":
        # 1 for x > 0, so 0 for -x >= 0: no threshold above 0 is small enough where denormal numbers are flushed to 0.
        return (keras.layers.Rescaling(-1.0, name=f"{name}_negative"), Heaviside(0.0, 1.0, 0.0, name=name))
    if kind == "NoOp":
        return (keras.layers.Identity(name=name),)
    if kind in _NOT_TWO_VALUED:
        raise UnsupportedLayerError(
            f"{where} quantises its input by Larq's {kind}, which {_NOT_TWO_VALUED[kind]}, so that it is no threshold; "
            "train with ste_sign, approx_sign, swish_sign or ste_heaviside instead"
        )
    raise UnsupportedLayerError(f"{where} has an input quantiser {kind!r}, which is none of Larq's")


# Kernels --------------------------------------------------------------------------------------------------------------


def _kernel_quantizer(value: Any, where: str) -> KernelQuantizer:
    """Return the function by which Larq quantises a kernel (larq 0.14, quantizers.py)."""
    kind = _quantizer_name(value)
    config = plain(as_mapping(value.get("config", {}), where)) if isinstance(value, Mapping) else {}
    if kind == "NoOp":
        return lambda kernel: kernel
    if kind in _SIGNS:
        return _sign
    if kind == "SteHeaviside":
        return lambda kernel: _where(kernel > 0, 1.0, 0.0)
    if kind == "MagnitudeAwareSign":
        return _magnitude_aware_sign
    if kind == "SteTern":
        return _ternary(float(config.get("threshold_value", 0.05)), bool(config.get("ternary_weight_networks", False)))
    if kind == "DoReFa" and config.get("mode", "activations") == "weights":
        return _dorefa(int(config.get("k_bit", 2)))
    if kind == "DoReFa":
        return _clipped(int(config.get("k_bit", 2)))
    raise UnsupportedLayerError(f"{where} {kind!r} is none of Larq's, so the kernel that it gives is not known")


def _where(condition: Any, one: float, other: float) -> Any:
    import keras

    return keras.ops.where(condition, keras.ops.cast(one, "float32"), keras.ops.cast(other, "float32"))


def _sign(kernel: Any) -> Any:
    return _where(kernel >= 0, 1.0, -1.0)


def _magnitude_aware_sign(kernel: Any) -> Any:
    import keras

    axes = tuple(range(len(kernel.shape) - 1))
    return keras.ops.mean(keras.ops.abs(kernel), axis=axes) * _sign(kernel)


def _ternary(threshold: float, by_mean: bool) -> KernelQuantizer:
    def quantize(kernel: Any) -> Any:
        import keras

        ops = keras.ops
        t = 0.7 * ops.sum(ops.abs(kernel)) / ops.cast(ops.size(kernel), "float32") if by_mean else threshold
        return ops.sign(ops.sign(kernel + t) + ops.sign(kernel - t))

    return quantize


def _steps(values: Any, bits: int) -> Any:
    import keras

    levels = 2**bits - 1
    return keras.ops.round(values * levels) / levels


def _clipped(bits: int) -> KernelQuantizer:
    def quantize(kernel: Any) -> Any:
        import keras

        return _steps(keras.ops.clip(kernel, 0.0, 1.0), bits)

    return quantize


def _dorefa(bits: int) -> KernelQuantizer:
    def quantize(kernel: Any) -> Any:
        import keras

        limited = keras.ops.tanh(kernel)
        largest = keras.ops.max(keras.ops.abs(limited))
        normed = limited / (2.0 * largest) if float(largest) else keras.ops.zeros_like(limited)
        return 2.0 * _steps(normed + 0.5, bits) - 1.0

    return quantize
