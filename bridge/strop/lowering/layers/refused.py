"""Registers the Keras layers that are refused, with the reasons in `strop.reader.not_carried`."""

from __future__ import annotations

import keras

from strop.lowering.rules import refuses
from strop.reader.not_carried import REASONS

for _name, _words in REASONS.items():
    # Every layer is a Layer: unknown ones are refused where no handler is found.
    if _name != "Layer" and hasattr(keras.layers, _name):
        refuses(getattr(keras.layers, _name), *_words)
