"""The conformance suite: golden cases on which any backend can be tested.

    pytest --pyargs strop.conformance --strop-backend NAME

Each case is a small graph (`golden/NAME.strop`), frames, and the spikes of every neuron (`golden/NAME.npz`),
made in exact rational arithmetic by `strop.conformance.exact`. The suite needs pytest and the backend,
neither Keras nor TensorFlow.
"""

from strop.conformance.golden import Case, golden_case, golden_names

__all__ = ["Case", "golden_case", "golden_names"]
