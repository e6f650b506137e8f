"""Allow-list of the classes and functions that a model file may name; anything else is refused.

A name leads to one of the built-in layers below, to one of strop's own, or to a class or function that this process
knows already, because the user passed it (`custom_objects`) or registered it with Keras. The message of a refusal
says which kind it is: a built-in layer that strop refuses, one that Keras 3 no longer has, or code that
would have to come from the file.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from strop.errors import UnsupportedLayerError

_BUILT_IN = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AlphaDropout AugMix Average
    AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization CenterCrop Concatenate Conv1D
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D Cropping3D CutMix Dense
    DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
    GlobalMaxPooling3D GroupNormalization Identity LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum Minimum MixUp Multiply Normalization PReLU Permute RMSNormalization RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomElasticTransform
    RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom
    ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization Subtract TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
BUILT_IN = tuple(_BUILT_IN.split())
"""The layers of `keras.layers` that the legacy formats are rebuilt from, those that only the lowering refuses
included."""

SEQUENTIAL = frozenset(["Sequential"])
FUNCTIONAL = frozenset(["Functional", "Model", "Network"])
MODEL_CLASSES = SEQUENTIAL | FUNCTIONAL

_FORMER_NAMES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
# Layers of Keras 2 that Keras 3 does not have.
_GONE = """
    CuDNNGRU CuDNNLSTM DenseFeatures LocallyConnected1D LocallyConnected2D RandomHeight RandomWidth
    SequenceFeatures ThresholdedReLU
    """
_FOREIGN_CODE = frozenset(["Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"])
_OPERATION_OF_TF_2_3 = "TensorFlowOpLayer"


@dataclass(frozen=True)
class KnownObjects:
    """The classes and functions that a file may name beside Keras's and strop's own.

    Attributes
    ----------
    passed : mapping
        By name, as Keras takes them for `custom_objects`.
    """

    passed: Mapping[str, Any] = field(default_factory=dict)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the scope in which Keras itself knows what was passed."""
        import keras

        return keras.saving.custom_object_scope(dict(self.passed))  # type: ignore[no-any-return]  # no types in Keras

    def explicit(self, name: str) -> Any:
        """Return what was passed under a name, with or without the package that the file gives; else None."""
        return self.passed.get(name, self.passed.get(name.rpartition(">")[2]))

    def find(self, name: str) -> Any:
        """Return what was registered (`register_keras_serializable`) or passed under a name, or None.

        As in Keras, what is registered comes first.
        """
        import keras

        found = keras.saving.get_registered_object(name)
        return self.explicit(name) if found is None else found


def trains_by_default(class_name: str) -> bool:
    """Tell whether a built-in layer takes itself to be in training, as augmentation does, unless it is told otherwise.

    Keras 3 writes its default into the file as if it had been called so; `predict` tells it otherwise.
    """
    import keras

    cls = getattr(keras.layers, class_name, None) if class_name in BUILT_IN else None
    training = inspect.signature(cls.call).parameters.get("training") if cls else None
    return training is not None and training.default is True


@cache
def operation_classes() -> dict[str, type]:
    """Return the classes behind `keras.ops`, which Keras exports under no public name, by their names."""
    import keras

    homes = {sys.modules.get(getattr(getattr(keras.ops, name), "__module__", "")) for name in dir(keras.ops)}
    return {
        name: cls
        for home in homes
        if home is not None and home.__name__.startswith("keras.src.ops.")
        for name, cls in vars(home).items()
        if isinstance(cls, type) and issubclass(cls, keras.Operation) and cls.__module__ == home.__name__
    }


def refuse_foreign_code(class_name: str, where: str) -> None:
    """Raise `UnsupportedLayerError` for a class that would run code from the file or from elsewhere."""
    if class_name in _FOREIGN_CODE:
        raise UnsupportedLayerError(
            f"{where} is a {'Lambda' if class_name == '__lambda__' else class_name}: it would run code that "
            "comes with the file, which strop never does; replace it by built-in Keras layers and save the "
            "model again"
        )


def strop_classes() -> dict[str, type]:
    """Return strop's spiking layers by the names they go by in files, whatever package registered them.

    `Heaviside` is not among them: others have layers of that name, so it is known by its full name alone.
    """
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


def layer_class(class_name: str, where: str, known: KnownObjects) -> type:
    """Return the class that a config names; anything that is not known is refused.

    Parameters
    ----------
    class_name : str
        As in the file: ``"Dense"``, ``"Spiking_BRelu"``, or with the package it was registered under
        (``"whetstone>Spiking_BRelu"``).
    where : str
        File and layer, for the message.
    known : KnownObjects

    Raises
    ------
    UnsupportedLayerError
    """
    import keras

    refuse_foreign_code(class_name, where)
    name = _FORMER_NAMES.get(class_name, class_name)
    found = known.find(class_name)
    if found is None:
        found = strop_classes().get(class_name.rpartition(">")[2])
    if found is None and name in BUILT_IN:
        found = getattr(keras.layers, name, None)
    if isinstance(found, type) and issubclass(found, keras.layers.Layer):
        return found
    if found is not None:
        raise UnsupportedLayerError(
            f"{where} is of class {class_name!r}, but what this process knows by that name is {found!r}, which is "
            "no layer of Keras 3; pass the layer class in custom_objects"
        )
    raise UnsupportedLayerError(f"{where} {_why_not(class_name)}")


def _why_not(class_name: str) -> str:
    """Say of a class that cannot be read what it is, and what to do."""
    import keras

    from strop.reader.not_carried import REASONS

    if class_name in REASONS:
        reason, advice = REASONS[class_name]
        return f"is of class {class_name!r}, a built-in Keras layer that strop refuses: {reason}; {advice}"
    if class_name in BUILT_IN:
        return (
            f"is of class {class_name!r}, a built-in layer of newer versions of Keras than the installed "
            f"{keras.__version__}: pip install -U keras"
        )
    if class_name in _GONE.split():
        return (
            f"is of class {class_name!r}, a layer of Keras 2 that Keras 3 no longer has; replace it by other layers "
            "and save the model again"
        )
    if class_name == _OPERATION_OF_TF_2_3:
        return (
            f"is of class {class_name!r}, an operation as TensorFlow before 2.4 wrote it, in a form of its own; open "
            "the model with tf_keras and build it again, or replace the operation by a layer"
        )
    if hasattr(keras.layers, class_name):
        return (
            f"is of class {class_name!r}, a built-in Keras layer that strop does not read from this format; save the "
            "model as .keras with Keras 3"
        )
    if class_name == "Heaviside":
        return (
            "is of class 'Heaviside' without a package: strop's own is 'strop>Heaviside', and others have layers of "
            "that name. If it is strop's, pass it to strop.load_model(..., custom_objects={'Heaviside': "
            "strop.keras.Heaviside})"
        )
    return (
        f"is of class {class_name!r}, which is neither one of Keras's layers nor one of strop's, and no code is taken "
        "from a file: register the class with keras.saving.register_keras_serializable before, or pass it to "
        f"strop.load_model(..., custom_objects={{{class_name.rpartition('>')[2]!r}: ...}})"
    )


def model_kind(class_name: Any, where: str, known: KnownObjects) -> Any:
    """Return which of `MODEL_CLASSES` a class of models is: one of the user's own stands for its base.

    What is no such class is returned as it is.

    Raises
    ------
    UnsupportedLayerError
        If that class has a `call` of its own.
    """
    import keras

    from strop.keras.walk import functional_class

    cls = known.find(class_name) if isinstance(class_name, str) and class_name not in MODEL_CLASSES else None
    if not isinstance(cls, type) or not issubclass(cls, keras.Model):
        return class_name
    sequential = issubclass(cls, keras.Sequential)
    # A class of functional models becomes one below `functional_class` when its first model is made.
    bases = (keras.Sequential,) if sequential else (keras.Model, functional_class())
    if any(getattr(cls, name) not in [getattr(base, name) for base in bases] for name in ("call", "__call__")):
        raise UnsupportedLayerError(
            f"{where}: model class {class_name!r} overrides call(), so what it computes is not known: use a Sequential "
            "or functional model"
        )
    return "Sequential" if sequential else "Functional"


def function_of_name(name: str, known: KnownObjects) -> Callable[..., Any] | None:
    """Return the function that was passed or registered under a name, or None."""
    found = known.find(name)
    return found if callable(found) and not isinstance(found, type) else None
