"""Quantization: graphs in whole numbers that fit a target's arithmetic, and the proof that they do.

`strop.quantize` and `strop.certify` are here. `targets` describes the arithmetics, `integers` reads weights and
thresholds as exact whole numbers, `kernels` takes operators apart, `neurons` chooses scales and rounds, `certify`
proves bounds for all inputs, and `certificate` is what the proof is written down in.
"""
