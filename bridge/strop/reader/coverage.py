"""Table of the layers that can be read from each model file format, for docs/model-files.md.

The tests write every row in every format with the real Keras 3 and the real Keras 2, and read it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strop.reader.classes import BUILT_IN

FORMATS = ("Keras 3 .keras", "Keras 3 .h5", "Keras 2 .h5", "Keras 2 .keras", "Keras 2 SavedModel")
_KERAS_3, _KERAS_2 = FORMATS[:2], FORMATS[2:]

_NOT_IN_KERAS_2 = """
    AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D
    AdaptiveMaxPooling2D AdaptiveMaxPooling3D AugMix CutMix MixUp RandAugment RandomColorDegeneration
    RandomColorJitter RandomElasticTransform RandomErasing RandomGaussianBlur RandomGrayscale RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomSaturation RandomSharpness RandomShear
    """
NOT_IN_KERAS_2 = frozenset(_NOT_IN_KERAS_2.split())
"""Layers that Keras 3 has and Keras 2 (tf_keras 2.21) has not."""

NOT_WRITTEN_AS_H5 = frozenset(
    ["RandomBrightness", "RandomColorDegeneration", "RandomPosterization", "RandomSaturation", "RandomSharpness"]
)
"""Layers whose config Keras 3 (3.15) fails to copy when it writes `.h5`: "cannot pickle 'module' object"."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    name : str
        Of a layer of `keras.layers`, or what else a model is made of.
    reasons : mapping
        Why a format cannot hold it; formats that are not in it can be read.
    """

    name: str
    reasons: Mapping[str, str] = field(default_factory=dict)

    def readable(self, file_format: str) -> bool:
        """Tell whether what the row names can be read from a format."""
        return file_format not in self.reasons


def _not_in(formats: tuple[str, ...], reason: str) -> dict[str, str]:
    return dict.fromkeys(formats, reason)


def layer_rows() -> list[Row]:
    """Return a row for each layer of `keras.layers` that the lowering carries or lets vanish."""
    from strop.reader.not_carried import REASONS

    absent = _not_in(_KERAS_2, "Keras 2 has no such layer")
    unwritten = {"Keras 3 .h5": "Keras 3 fails to write it"}
    return [
        Row(
            name,
            {
                **(absent if name in NOT_IN_KERAS_2 else {}),
                **(unwritten if name in NOT_WRITTEN_AS_H5 else {}),
            },
        )
        for name in sorted(BUILT_IN)
        if name not in REASONS
    ]


OTHER_ROWS = (
    Row("spiking layers and `SoftmaxDecode`, by their names here and in Whetstone"),
    Row("`Heaviside`", _not_in(_KERAS_2, "strop's own, which is written for Keras 3")),
    Row("layers of your own, registered or in `custom_objects`"),
    Row("functions of your own as activations, registered or in `custom_objects`"),
    Row("Sequential models"),
    Row("nested models, shared and frozen layers"),
    Row("inputs and outputs in dictionaries"),
    Row("`TimeDistributed` models"),
    Row("`Normalization` after `adapt`"),
    Row("operations: arithmetic, comparisons, `where`"),
    Row("operations that move values or reduce axes"),
    Row("quantised layers of Larq and QKeras", _not_in(_KERAS_3, "both are written for Keras 2")),
)
"""What models are made of beside the layers of `keras.layers`."""
