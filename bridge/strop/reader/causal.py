"""Separable convolutions with causal padding, which Keras 2 has and Keras 3 does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from strop.reader.chain import Expansion
from strop.reader.classes import KnownObjects
from strop.reader.config import layer_from_config, plain, safe_name


def expansion(class_name: str, config: Mapping[str, Any], where: str, known: KnownObjects) -> Expansion | None:
    """Return zeros in front and the layer without padding, for a `SeparableConv1D` that is causal; else None.

    As tf_keras 2.21 does (`_compute_causal_padding` in layers/convolutional/base_conv.py).
    """
    if class_name not in ("SeparableConv1D", "SeparableConvolution1D") or config.get("padding") != "causal":
        return None
    import keras

    size, dilation = (int(np.ravel(plain(config.get(option, 1)))[0]) for option in ("kernel_size", "dilation_rate"))
    zeros = keras.layers.ZeroPadding1D(
        (dilation * (size - 1), 0),
        data_format=config.get("data_format"),
        name=f"{safe_name(str(config['name']))}_padding",
    )
    return Expansion((zeros,), layer_from_config(class_name, {**config, "padding": "valid"}, where, known))
