"""Layers of `keras.layers` that no spiking graph can hold, each with the reason and what to do instead.

The reader refuses them in files, the lowering in models; docs/layers.md lists the same reasons.
"""

from __future__ import annotations

_WHOLE_FRAME = (
    "it divides by a statistic of the frame itself, which is no sum of spikes",
    "use BatchNormalization, which folds into the weights",
)
_STATE = (
    "it carries a state from step to step, and threshold neurons keep none",
    "use causal convolutions (Conv1D with padding='causal')",
)
_PRODUCT = ("it multiplies signals with one another, which is no sum of spikes", "use Dense or convolutional layers")
_LOOKUP = ("it takes numbers of categories or strings, not frames", "encode them before the network")
_PREPARATION = ("it prepares images or sound", "do it before the network, and give strop what comes out")
_FOREIGN = ("it runs code of another framework, which strop cannot see", "rebuild it from Keras layers")
_MASK = (
    "it sets a mask, which changes what later layers do without being seen",
    "leave it out: zeros are no spikes as they are",
)
_UNKNOWN = ("what it computes is not known", "build the model from layers in the table of docs/layers.md")

REASONS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("GroupNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization"), _WHOLE_FRAME
    ),
    **dict.fromkeys(
        (
            *("Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "GRUCell", "LSTM", "LSTMCell", "RNN"),
            *("SimpleRNN", "SimpleRNNCell", "StackedRNNCells"),
        ),
        _STATE,
    ),
    **dict.fromkeys(
        ("AdditiveAttention", "Attention", "Dot", "GroupQueryAttention", "MultiHeadAttention"),
        _PRODUCT,
    ),
    **dict.fromkeys(
        (
            *("CategoryEncoding", "Discretization", "Embedding", "HashedCrossing", "Hashing", "IntegerLookup"),
            *("ReversibleEmbedding", "StringLookup", "TextVectorization"),
        ),
        _LOOKUP,
    ),
    **dict.fromkeys(
        (
            *("AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "MaxNumBoundingBoxes"),
            *("MelSpectrogram", "Pipeline", "RandomCrop", "STFTSpectrogram", "Solarization"),
        ),
        _PREPARATION,
    ),
    **dict.fromkeys(("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"), _FOREIGN),
    **dict.fromkeys(("Lambda", "Layer", "Wrapper"), _UNKNOWN),
    "Masking": _MASK,
}
"""Reason and advice for each layer of `keras.layers` that is refused whatever its arguments."""
