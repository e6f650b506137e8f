"""Rounding of a graph's sums in finite precision: the float32 bound of Keras, the float64 bound of simulators.

`formats` knows the floating-point formats, `stages` the steps of a computation that the lowering records, and
`evaluation` evaluates these on real spikes. `strop.verification.bounds` derives the bounds of a comparison from them.
"""
