"""Layers that are known and refused; the reasons stand in `strop.reader.not_carried`."""

from __future__ import annotations

import keras

from strop.lowering.rules import refuses
from strop.reader.not_carried import REASONS

for _name, _words in REASONS.items():
    # Every layer is a Layer: those that nothing is known of are refused where no handler is found.
    if _name != "Layer" and hasattr(keras.layers, _name):
        refuses(getattr(keras.layers, _name), *_words)
