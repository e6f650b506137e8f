"""Translate the layer configs of Keras 2 (and of Keras 3's legacy format) into arguments for Keras 3 layers.

Built-in layers and strop's own get plain values only, and each option must be known. Layers of the user's own, which
this process knows (`classes`), are given their config as they would be by Keras.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader.classes import BUILT_IN, KnownObjects, function_of_name, is_spiking, layer_class, strop_classes
from strop.reader.naming import brief
from strop.reader.safety import check_records

_RENAMED_OPTIONS = {("LeakyReLU", "alpha"): "negative_slope"}
# Without hard_sigmoid: Keras 2 and Keras 3 mean different functions by that name.
_ACTIVATIONS = """
    celu elu exponential gelu glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """
_OWN_ACTIVATION = (
    "strop runs no code from a file, so give it a built-in or spiking activation and save it again; if it is a "
    "function of your own, register it with keras.saving.register_keras_serializable before, or pass it to "
    "strop.load_model(..., custom_objects={name: function})"
)
NOTHING_KNOWN = KnownObjects()
_DTYPES = frozenset(["float16", "float32", "float64", "mixed_float16", "mixed_bfloat16"])
_INFERRED_DTYPES = frozenset(["infer", "_infer"])  # TensorFlow 1.13 to 2.1: "the dtype of the inputs"

# Options that make no difference to a trained network, or that only say how Keras 2 was to compute it.
_IGNORED_OPTIONS = frozenset(
    [
        "batch_input_shape",
        "batch_shape",
        "build_input_shape",
        "force_generator",
        "fused",
        "implementation",
        "input_dtype",
        "input_length",
        "input_shape",
        "renorm_clipping",
        "renorm_momentum",
        "rng_type",
        "seed",
    ]
)
# What Keras 2 adds to the config of every layer, and Keras 3's layers do not take.
_UNDERSTOOD_BY_KERAS_2 = frozenset(["autocast", "batch_input_shape", "batch_shape", "build_input_shape", "input_dtype"])
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


def layer_from_config(
    class_name: str,
    config: Mapping[str, Any],
    where: str,
    known: KnownObjects = NOTHING_KNOWN,
    inner: Any = None,
) -> Any:
    """Build one layer from its config.

    Parameters
    ----------
    class_name : str
    config : mapping
        As in the file; `plain` is applied here.
    where : str
        File and layer, for the messages.
    known : KnownObjects
        What the file may name beside Keras's and strop's own.
    inner : keras.layers.Layer, optional
        What a wrapper (`TimeDistributed`) wraps, in place of the config's `layer`.

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
    cls = layer_class(class_name, where, known)
    if not is_own_class(cls):
        return _custom_layer(cls, config, where, known)
    if inner is not None:
        config = {option: value for option, value in config.items() if option != "layer"}
    arguments = _arguments(cls, config, where, known)
    if inner is not None:
        arguments["layer"] = inner
    try:
        layer = cls(**arguments)
        if is_spiking(layer) and arguments.get("sharpness") is None:
            layer.weights[0].assign(math.nan)  # must come from the stored weights then, or be missed
        return layer
    except Exception as error:
        raise ModelFileError(f"{where} ({class_name}) cannot be rebuilt from its config: {brief(error)}") from error


def is_own_class(cls: type) -> bool:
    """Tell whether a class is a built-in layer of the allow-list or a spiking layer of strop's."""
    import keras

    return cls in strop_classes().values() or (cls.__name__ in BUILT_IN and getattr(keras.layers, cls.__name__) is cls)


def _custom_layer(cls: Any, config: Mapping[str, Any], where: str, known: KnownObjects) -> Any:
    """Build a layer of a class that the user passed or registered, from its own `from_config`."""
    settings = {option: value for option, value in config.items() if option not in _UNDERSTOOD_BY_KERAS_2}
    settings["dtype"] = dtype_name(config.get("dtype"), where)
    for option in ("dynamic", "activity_regularizer"):
        if settings.get(option) in (None, False):
            settings.pop(option, None)
    if "name" in settings:
        settings["name"] = safe_name(str(settings["name"]))
    # Whatever from_config builds from records inside must be known as well.
    check_records(settings, where, known)
    try:
        with known.scope():
            return cls.from_config(plain(settings))
    except Exception as error:
        raise ModelFileError(
            f"{where}: {cls.__name__}.from_config does not take the config in the file: {brief(error)}"
        ) from error


def _arguments(cls: type, config: Mapping[str, Any], where: str, known: KnownObjects) -> dict[str, Any]:
    if config.get("sharpness", ...) is None:
        config = {option: value for option, value in config.items() if option != "sharpness"}
    accepted = _accepted_options(cls)
    arguments: dict[str, Any] = {"dtype": dtype_name(config.get("dtype"), where)}
    for written, raw in config.items():
        option = _RENAMED_OPTIONS.get((cls.__name__, written), written)
        value = plain(raw)
        if option in _UNUSED_OPTIONS:
            if option == "quantization_config" and value is not None:
                raise UnsupportedLayerError(f"{where}: its weights are quantised by Keras; save the model before that")
            if value not in _UNUSED_OPTIONS[option]:
                raise UnsupportedLayerError(f"{where} uses {option}={value!r}, which strop cannot carry over")
        elif option in _IGNORED_OPTIONS or option.endswith(_IGNORED_ENDINGS) or option == "dtype":
            continue
        elif option == "activation":
            arguments[option] = _activation(raw, where, known)
        elif option in accepted:
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


def _accepted_options(cls: type) -> set[str]:
    """Return the options that a layer takes, itself or, where it passes the rest on, by its bases."""
    import keras

    accepted = {"name"}
    for base in cls.__mro__:
        if base is keras.layers.Layer:
            return accepted | {"trainable"}
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters
            accepted |= {*parameters}
            if "kwargs" not in parameters:
                return accepted
    return accepted


def safe_name(name: str) -> str:
    """Return a layer name without slashes: TensorFlow 1 wrote them, Keras 3 refuses them."""
    return name.replace("/", "_")


def _single_axis(axis: Any, where: str) -> int:
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int):
        raise UnsupportedLayerError(f"{where} normalises over axis={axis!r}; strop reads a single axis")
    return axis


def _activation(value: Any, where: str, known: KnownObjects) -> Any:
    """Return an `activation` argument: None, the name of a built-in function, a known function, or a layer."""
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")  # Keras writes functions that are not its own as such a record
    if value is None:
        return None
    if isinstance(value, str):
        return _activation_of_name(value, where, known)
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        registered = value.get("registered_name")
        named = registered if isinstance(registered, str) and ">" in registered else value.get("class_name")
        return layer_from_config(str(named), value["config"], f"{where}: activation {str(named)!r}", known)
    raise UnsupportedLayerError(f"{where} has an activation of an unknown kind; {_OWN_ACTIVATION}")


def _activation_of_name(name: str, where: str, known: KnownObjects) -> Any:
    import keras

    function = function_of_name(name, known)
    if function is not None:
        return function
    if name in _ACTIVATIONS.split():
        return name
    if name.rpartition(">")[2] in strop_classes() or isinstance(known.find(name), type):
        return layer_from_config(name, {}, f"{where}: activation {name!r}", known)
    if name == "hard_sigmoid":
        raise UnsupportedLayerError(
            f"{where} has an activation {name!r}, a built-in one that is no threshold, and of which Keras 2 and "
            "Keras 3 have different versions; give it a spiking activation and save the model again"
        )
    if hasattr(keras.activations, name):
        raise UnsupportedLayerError(
            f"{where} has an activation {name!r}, a built-in one of Keras that strop does not read from this format; "
            "give it a spiking activation and save the model again"
        )
    raise UnsupportedLayerError(
        f"{where} has an activation {name!r}, which is neither one of Keras's nor one of strop's; {_OWN_ACTIVATION}"
    )
