"""Rounding of a graph's sums in finite precision: the float32 bound of Keras, the float64 bound of simulators.

`formats` knows the floating-point formats, `stages` the steps of a computation that the lowering records, and
`evaluation` puts real spikes through them. `strop.verification.bounds` makes a verdict's bounds of it.
"""
