"""Translate the layer configs of Keras 2 (and of Keras 3's legacy format) into arguments for Keras 3 layers.

This is the allow-list that keeps foreign code out: a config only ever names one of the built-in layers below
or one of strop's own, and only passes it plain values. Anything else is refused by name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader.naming import brief

_BUILT_IN = """
    Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU
    Embedding Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    Identity LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply
    PReLU Permute ReLU RepeatVector Rescaling Reshape SeparableConv1D SeparableConv2D Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D Subtract UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
_FORMER_NAMES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
_RENAMED_OPTIONS = {("LeakyReLU", "alpha"): "negative_slope"}
# Without hard_sigmoid: Keras 2 and Keras 3 mean different functions by that name.
_ACTIVATIONS = """
    celu elu exponential gelu glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """
_DTYPES = frozenset(["float16", "float32", "float64", "mixed_float16", "mixed_bfloat16"])
_INFERRED_DTYPES = frozenset(["infer", "_infer"])  # TensorFlow 1.13 to 2.1: "whatever comes in"

# Options that make no difference to a trained network, or that only say how Keras 2 was to compute it.
_IGNORED_OPTIONS = frozenset(
    [
        "batch_input_shape",
        "batch_shape",
        "build_input_shape",
        "fused",
        "implementation",
        "input_dtype",
        "input_length",
        "input_shape",
        "renorm_clipping",
        "renorm_momentum",
    ]
)
_IGNORED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
# Options that may only be there with the value that means "not used".
_UNUSED_OPTIONS: dict[str, tuple[Any, ...]] = {
    "adjustment": (None,),
    "dynamic": (False, None),
    "lora_rank": (None,),
    "quantization_config": (None,),
    "ragged": (False, None),
    "renorm": (False, None),
    "sparse": (False, None),
    "virtual_batch_size": (None,),
}
_FOREIGN_CODE = frozenset(["Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"])


def refuse_foreign_code(class_name: str, where: str) -> None:
    """Raise `UnsupportedLayerError` for a class that would run code from the file or from elsewhere."""
    if class_name in _FOREIGN_CODE:
        raise UnsupportedLayerError(
            f"{where} is a {'Lambda' if class_name == '__lambda__' else class_name}: it would run code that "
            "comes with the file, which strop never does; replace it by built-in Keras layers and save the "
            "model again"
        )


def strop_classes() -> dict[str, type]:
    """Return strop's own layer classes by the names they go by in files, old and new."""
    from strop import keras as spiking

    own = (spiking.SpikingBReLU, spiking.SpikingSigmoid, spiking.SoftmaxDecode)
    return {**spiking.LEGACY_OBJECTS, **{cls.__name__: cls for cls in own}}


def is_spiking(layer: Any) -> bool:
    """Tell whether a layer is one of strop's spiking activations."""
    from strop.keras import SpikingActivation

    return isinstance(layer, SpikingActivation)


def is_decoder(layer: Any) -> bool:
    """Tell whether a layer is strop's decoder."""
    from strop.keras import SoftmaxDecode

    return isinstance(layer, SoftmaxDecode)


def layer_class(class_name: str, where: str) -> type:
    """Return the Keras or strop class that a config names; anything else is refused.

    Parameters
    ----------
    class_name : str
        As in the file: ``"Dense"``, ``"Spiking_BRelu"``, or with the package it was registered under
        (``"whetstone>Spiking_BRelu"``).
    where : str
        File and layer, for the message.

    Raises
    ------
    UnsupportedLayerError
    """
    import keras

    refuse_foreign_code(class_name, where)
    own = strop_classes().get(class_name.rpartition(">")[2])
    if own is not None:
        return own
    name = _FORMER_NAMES.get(class_name, class_name)
    if name in _BUILT_IN.split() and hasattr(keras.layers, name):
        return getattr(keras.layers, name)  # type: ignore[no-any-return]  # Keras ships no types
    raise UnsupportedLayerError(
        f"{where} is of class {class_name!r}, which is neither a built-in Keras layer that strop can rebuild "
        "nor one of its own; replace it by built-in layers and save the model again"
    )


def plain(value: Any) -> Any:
    """Unwrap the containers that Keras writes into JSON: tuples, tensor shapes and arrays.

    >>> plain({"class_name": "__tuple__", "items": [None, {"type": "ndarray", "value": 28}]})
    (None, 28)
    """
    if isinstance(value, Mapping):
        if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
            return tuple(plain(item) for item in value["items"])
        if value.keys() == {"type", "value"}:
            return value["value"]
        if value.get("class_name") == "__numpy__" and isinstance(value.get("config"), Mapping):
            return value["config"].get("value")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def dtype_name(value: Any, where: str) -> str:
    """Return the dtype policy that a config means: a name, or a policy object of any Keras version."""
    if isinstance(value, Mapping):
        value = value.get("config", {}).get("name")
    if value is None or value in _INFERRED_DTYPES:
        return "float32"
    if value not in _DTYPES:
        raise UnsupportedLayerError(f"{where} computes in {value!r}; strop reads floating-point layers only")
    return str(value)


def layer_from_config(class_name: str, config: Mapping[str, Any], where: str) -> Any:
    """Build one layer of the allow-list from its config.

    Parameters
    ----------
    class_name : str
    config : mapping
        As in the file; `plain` is applied here.
    where : str
        File and layer, for the messages.

    Returns
    -------
    keras.layers.Layer
        Not built yet.

    Raises
    ------
    UnsupportedLayerError
        If the class or one of its options is not known.
    ModelFileError
        If the options make no layer.
    """
    cls = layer_class(class_name, where)
    arguments = _arguments(cls, config, where)
    try:
        layer = cls(**arguments)
        if is_spiking(layer) and arguments.get("sharpness") is None:
            layer.weights[0].assign(math.nan)  # must come from the stored weights then, or be missed
        return layer
    except Exception as error:
        raise ModelFileError(f"{where} ({class_name}) cannot be rebuilt from its config: {brief(error)}") from error


def _arguments(cls: type, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    if config.get("sharpness", ...) is None:
        config = {option: value for option, value in config.items() if option != "sharpness"}
    parameters = inspect.signature(cls).parameters
    known = {*parameters, "name"} | ({"trainable"} if "kwargs" in parameters else set())
    arguments: dict[str, Any] = {"dtype": dtype_name(config.get("dtype"), where)}
    for written, raw in config.items():
        option = _RENAMED_OPTIONS.get((cls.__name__, written), written)
        value = plain(raw)
        if option in _UNUSED_OPTIONS:
            if value not in _UNUSED_OPTIONS[option]:
                raise UnsupportedLayerError(f"{where} uses {option}={value!r}, which strop cannot carry over")
        elif option in _IGNORED_OPTIONS or option.endswith(_IGNORED_ENDINGS) or option == "dtype":
            continue
        elif option == "activation":
            arguments[option] = _activation(raw, where)
        elif option in known:
            arguments[option] = value
        elif value is not None and option != "trainable" and not (option == "groups" and value == 1):
            raise UnsupportedLayerError(
                f"{where} uses {option}={value!r}, an option that Keras 3's {cls.__name__} does not have"
            )
    if cls.__name__ == "BatchNormalization":
        arguments["axis"] = _single_axis(arguments.get("axis", -1), where)
    if cls.__name__ == "SoftmaxDecode":
        arguments.pop("size", None)  # would draw a new random key
        if arguments.get("key") is None:
            raise ModelFileError(f"{where} has no key in its config, so its outputs have no meaning")
    if "name" in arguments:
        arguments["name"] = safe_name(str(arguments["name"]))
    return arguments


def safe_name(name: str) -> str:
    """Return a layer name without slashes: TensorFlow 1 wrote them, Keras 3 refuses them."""
    return name.replace("/", "_")


def _single_axis(axis: Any, where: str) -> int:
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int):
        raise UnsupportedLayerError(f"{where} normalises over axis={axis!r}; strop reads a single axis")
    return axis


def _activation(value: Any, where: str) -> Any:
    """Return an `activation` argument: None, the name of a built-in function, or a layer of the allow-list."""
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")  # Keras 3 writes functions that are not its own as such a record
    if value is None:
        return None
    if isinstance(value, str):
        if value in _ACTIVATIONS.split():
            return value
        if value.rpartition(">")[2] in strop_classes():
            return layer_from_config(value, {}, f"{where}: activation {value!r}")
    elif isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        class_name = str(value.get("class_name"))
        return layer_from_config(class_name, value["config"], f"{where}: activation {class_name!r}")
    named = repr(value) if isinstance(value, str) else "of an unknown kind"
    raise UnsupportedLayerError(
        f"{where} has an activation {named}, which is neither one of Keras's nor one of strop's; "
        "strop runs no code from a file, so give it a built-in or spiking activation and save it again"
    )
