"""`from_relu`: an ordinary Keras network as one that is ready to be sharpened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError, UnsupportedLayerError
from strop.keras.activations import checked_fraction
from strop.keras.conversion.measure import measure
from strop.keras.conversion.nhot import nhot_head
from strop.keras.conversion.program import Program, program_of
from strop.keras.conversion.rebuild import Rebuilt
from strop.keras.sharpness import spiking_layers

L = keras.layers

_FRAMES = 2048


def from_relu(
    model: Any,
    frames: Any,
    head: Literal["linear", "nhot"] = "linear",
    *,
    percentile: float = 95.0,
    normalise: bool = True,
    surrogate_width: float = 1.0,
    width: int | None = None,
    seed: int = 0,
) -> Any:
    """Return a copy of an ordinary network with activations that can be sharpened, its weights kept.

    >>> model = keras.models.load_model("cnn.keras")     # ReLU, trained or not
    >>> ready = strop.keras.from_relu(model, x_train)
    >>> ready.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> ready.fit(x, y, epochs=20, validation_data=(x_val, y_val), callbacks=[AutoSharpener()])

    ReLU and its kin become `SpikingBReLU`, a ramp from 0 to 1 that is as wide as the activations on `frames` reach;
    sigmoid and tanh become `SpikingSigmoid`. The weights are rescaled layer by layer, so that before sharpening the new
    network computes what the old one does, but for what ramps cut off: activations beyond `percentile`, and negative
    ones of LeakyReLU, ELU and the like. What nothing but the outputs of the model follows (a softmax, say) is kept.
    ``docs/own-network.md`` has the table.

    The model itself is not changed. The new one is functional and flat: layers of nested models are layers of its own.
    All of it is trainable, in float32, and not compiled.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, trained or untrained; one that was never built is built from `frames`.
    frames : array, shape (n, *input_shape), or a list or dict of them for several inputs
        Some of the frames that it is trained with, as it takes them; up to 2,048 are looked at. uint8 is scaled by
        1/255 unless the model begins with a layer that scales.
    head : "linear" or "nhot"
        Whether the last dense layer of a classifier stays, a linear read-out of spikes, or becomes an n-hot code of
        spikes (`SoftmaxDecode`). With "nhot" the outputs are probabilities, even where they were logits.
    percentile : float, in (0, 100]
        So many of the activations above zero lie within the ramp.
    normalise : bool
        Put a `BatchNormalization` in front of each activation that has none. It begins as the identity, and keeps
        inputs around the threshold while the network sharpens. Lowering folds it away.
    surrogate_width : float, in [0, 1]
        Of the new activations.
    width : int, optional
        Neurons of the n-hot code; by default 20 for each class.
    seed : int
        Of the key of the n-hot code.

    Returns
    -------
    keras.Model

    Raises
    ------
    UnsupportedLayerError
        If a layer or an activation has no counterpart, or the model is subclassed; names the layer.
    DataError
        If the frames do not fit, or the model has no activation to convert.
    """
    if head not in ("linear", "nhot"):
        raise DataError(f"head must be 'linear' or 'nhot', got {head!r}")
    if not isinstance(percentile, int | float) or not 0.0 < percentile <= 100.0:
        raise DataError(f"percentile must be a number above 0 and at most 100, got {percentile!r}")
    checked_fraction(surrogate_width, "surrogate_width", "from_relu")
    build(model, frames)
    program = program_of(model)
    if not program.activations and head == "linear":
        spiking = ", ".join(layer.name for layer in spiking_layers(model))
        why = f"{spiking} can be sharpened as they are" if spiking else "it is linear up to its output"
        raise DataError(f"model {model.name!r} has no activation to convert: {why}")
    arrays = _arrays(program, frames)
    nhot = nhot_head(program, width, seed) if head == "nhot" else None
    measured = measure(program, arrays, float(percentile), None if nhot is None else nhot.step)
    return Rebuilt(program, measured, normalise, surrogate_width, nhot).model()


def build(model: Any, frames: Any) -> None:
    """Build a model that was never built, from the shape of its frames.

    Raises
    ------
    UnsupportedLayerError
        If it is not a Keras model, or a subclassed one.
    DataError
        If the frames do not fit its layers.
    """
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(f"from_relu takes a Keras model, got {type(model).__name__}")
    if model.built or not isinstance(model, keras.Sequential):
        return
    shape = np.shape(frames)
    if len(shape) < 2:
        raise DataError(f"model {model.name!r} was never built, and frames of the shape {shape} do not tell its input")
    try:
        model.build((None, *shape[1:]))
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"model {model.name!r} cannot be built for frames of the shape {shape}: {reason}") from error


def _arrays(program: Program, frames: Any) -> list[NDArray[Any]]:
    """Return some frames, one array for each input, checked."""
    names = [tensor._keras_history.operation.name for tensor in program.inputs]
    if isinstance(frames, Mapping):
        missing = [name for name in names if name not in frames]
        if missing:
            raise DataError(f"frames lack the input {missing[0]!r}; they are given for {', '.join(map(str, frames))}")
        parts = [frames[name] for name in names]
    else:
        parts = list(frames) if isinstance(frames, list | tuple) and len(names) > 1 else [frames]
    if len(parts) != len(names):
        raise DataError(f"model {program.model.name!r} has the inputs {', '.join(names)}; got {len(parts)} arrays")
    arrays = []
    for name, tensor, part in zip(names, program.inputs, parts, strict=True):
        array = np.asarray(part)
        shape = tuple(tensor.shape[1:])
        fits = array.ndim > 0 and len(array) and len(array.shape) == len(shape) + 1
        if not fits or any(want not in (None, got) for want, got in zip(shape, array.shape[1:], strict=True)):
            raise DataError(f"frames for input {name!r} have the shape {array.shape}, the model takes (n, {shape})")
        if array.dtype.kind not in "buif":
            raise DataError(f"frames for input {name!r} have dtype {array.dtype}; give numbers")
        array = array[:: -(-len(array) // _FRAMES)]
        if array.dtype == np.uint8 and not _is_scaled(program, tensor):
            array = array.astype(np.float32) / np.float32(255)
        if not np.isfinite(array).all():
            raise DataError(f"frames for input {name!r} hold values that are not finite")
        arrays.append(array.astype(tensor.dtype if "int" in str(tensor.dtype) else "float32"))
    if len({len(array) for array in arrays}) != 1:
        raise DataError(f"the inputs have different numbers of frames: {[len(array) for array in arrays]}")
    return arrays


def _is_scaled(program: Program, tensor: Any) -> bool:
    """Whether the model itself scales an input."""
    following = program.consumers()[id(tensor)]
    if any(isinstance(step.operation, L.Rescaling | L.Normalization) for step in following):
        return True
    same = [s for s in following if s.kind in ("same", "other")]
    return any(_is_scaled(program, output) for step in same for output in step.outputs)
