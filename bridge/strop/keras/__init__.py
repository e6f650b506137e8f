"""Training side of strop: spiking activations, sharpeners and the decoder, on Keras 3.

A network is trained with smooth activations, which a sharpener turns into thresholds during training (the Whetstone
method, arXiv:1810.11521). `strop.lower` takes the sharpened network.

>>> import keras, strop.keras as sk
>>> model = keras.Sequential([
...     keras.Input((28, 28)),
...     keras.layers.Flatten(),
...     keras.layers.Dense(256), keras.layers.BatchNormalization(), sk.SpikingBReLU(surrogate_width=1.0),
...     keras.layers.Dense(100), keras.layers.BatchNormalization(), sk.SpikingBReLU(surrogate_width=1.0),
...     sk.SoftmaxDecode(sk.key_generator(10, 100, seed=0)),
... ])
>>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
>>> model.fit(x, y, epochs=100, validation_data=(x_val, y_val), callbacks=[sk.AutoSharpener(checkpoint="run")])
>>> model.save("net.keras")

Without the surrogate gradient, as the method was published, take Adadelta with a rate of 4: Adam can then lose most of
the accuracy while a layer sharpens. ``docs/training.md`` has figures.

Models load again with nothing but this module imported; those that name the layers of the original Whetstone
(`Spiking_BRelu`, `Spiking_Sigmoid`, `Softmax_Decode`) open as the layers here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from warnings import warn

from strop.keras.framework import choose_framework

try:
    choose_framework()
    import keras
except ImportError as error:  # Keras itself, or the framework that it runs on
    raise ImportError(
        f"strop.keras needs Keras 3 and what it runs on ({error}); install them with: pip install 'strop[keras]' "
        "(TensorFlow), 'strop[keras-jax]' or 'strop[keras-torch]'"
    ) from error

if int(keras.__version__.split(".", 1)[0]) < 3:
    raise ImportError(
        f"strop.keras needs Keras 3, found {keras.__version__}; update it with: pip install 'strop[keras]'"
    )

from strop.keras.activations import SpikingActivation, SpikingBReLU, SpikingSigmoid
from strop.keras.conversion.convert import from_relu
from strop.keras.decoder import SoftmaxDecode, key_generator
from strop.keras.graph_parts import FirstOf, InputEncoding, SpikeReadout, SpikingThreshold
from strop.keras.linear_map import LinearMap
from strop.keras.sharpening.adaptive import AdaptiveSharpener
from strop.keras.sharpening.auto import AutoSharpener
from strop.keras.sharpening.logger import SharpeningLogger
from strop.keras.sharpening.scheduled import ScheduledSharpener, SimpleSharpener
from strop.keras.sharpening.sharpener import Sharpener
from strop.keras.sharpening.silent_neurons import NeuronReport, neuron_report
from strop.keras.sharpness import get_sharpness, set_sharpness, spiking_layers
from strop.keras.thresholds import Heaviside, declare_threshold

Spiking_BRelu = SpikingBReLU
Spiking_Sigmoid = SpikingSigmoid
Softmax_Decode = SoftmaxDecode

LEGACY_OBJECTS: dict[str, type] = {
    "Spiking_BRelu": SpikingBReLU,
    "Spiking_Sigmoid": SpikingSigmoid,
    "Softmax_Decode": SoftmaxDecode,
}
"""Class names in files of the original Whetstone, and the layers that they stand for."""

# Only names that are still free: a user's own layer of the same name keeps it.
for _name, _layer in LEGACY_OBJECTS.items():
    keras.saving.get_custom_objects().setdefault(_name, _layer)

__all__ = [
    "LEGACY_OBJECTS",
    "AdaptiveSharpener",
    "AutoSharpener",
    "FirstOf",
    "Heaviside",
    "InputEncoding",
    "LinearMap",
    "NeuronReport",
    "ScheduledSharpener",
    "Sharpener",
    "SharpeningLogger",
    "SimpleSharpener",
    "SoftmaxDecode",
    "Softmax_Decode",
    "SpikeReadout",
    "SpikingActivation",
    "SpikingBReLU",
    "SpikingSigmoid",
    "SpikingThreshold",
    "Spiking_BRelu",
    "Spiking_Sigmoid",
    "declare_threshold",
    "from_relu",
    "get_sharpness",
    "key_generator",
    "neuron_report",
    "set_sharpness",
    "spiking_layers",
]


# Old names, which work until 0.3, and where each is now.
_RENAMED = {
    "UnitReport": ("strop.keras", "NeuronReport"),
    "unit_report": ("strop.keras", "neuron_report"),
    "write_training_page": ("strop.display", "write_training_page"),
}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        module, new_name = _RENAMED[name]
        warn(f"strop.keras.{name} is {module}.{new_name} now", DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), new_name)
    raise AttributeError(f"module 'strop.keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
