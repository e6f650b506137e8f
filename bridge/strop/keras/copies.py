"""Copies of Keras models with their weights, as `clone_model` and `set_weights` alone do not make them."""

from __future__ import annotations

from typing import Any

import keras


def copied(model: Any) -> Any:
    """Return a copy of a model with its weights, not compiled."""
    copy = keras.models.clone_model(model)
    # Keras 3.15 compiles the copy as well (keras/src/models/cloning.py).
    copy.optimizer, copy.compiled = None, False
    copy.set_weights(model.get_weights())
    use_weights(copy)
    return copy


def use_weights(layer: Any) -> None:
    """Have a layer, and all within it, compute with the weights that it was given.

    An adapted `Normalization` computes with copies of its weights, which `set_weights` leaves as they were.
    """
    for own in layer._flatten_layers():
        if isinstance(own, keras.layers.Normalization):
            own.finalize_state()
