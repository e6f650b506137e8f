"""Quantization: graphs in whole numbers that fit a target's arithmetic, and the proof that they do.

`strop.quantize` and `strop.certify` are here. `targets` describes the arithmetics, `integers` reads weights and
thresholds as exact whole numbers, `scales`, `rounding` and `quantize` choose them, `certify` proves bounds for all
inputs, `certificate` is what the proof is written down in.
"""
