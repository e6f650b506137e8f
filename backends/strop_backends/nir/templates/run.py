#!/usr/bin/env python
"""Template: `write_nir` in `../export.py` copies this file as it is into a standalone folder, as `run.py`.

It evaluates a NIR graph by NIR's published equations, and compares every spike with what is expected.

    python run.py [--limit N]

It needs NumPy and nir, and shows what the nodes mean: a frame per time step, every node evaluated in the order of the
data. Threshold: 1 where v > v_thr. LIF: a step of Euler's method with dt = tau, so that v = r x, and 1 where
v > v_threshold. Affine, Linear: W x + b. Conv1d, Conv2d: cross-correlation with weights
(out, in / groups, ...), as in PyTorch. SumPool2d: sums of windows. Delay: x(t - tau), tau in steps.

Beside this script are
    standalone.py  what the scripts for all simulators share
    network.nir    the graph
    frames.npz     "input:NODE": the input of a node; "expected:NODE": the spikes of each population; "step"; "labels"

It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import standalone


def correlate(x: Any, node: Any) -> Any:
    """Return the cross-correlation of x, shape (t, in, *spatial), with a convolution's weight, plus its bias."""
    weight = np.asarray(node.weight)
    axes = weight.ndim - 2
    stride, padding, dilation = (np.broadcast_to(v, (axes,)) for v in (node.stride, node.padding, node.dilation))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    extents = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], weight.shape[2:], stride, dilation, strict=True)
    ]
    groups = int(node.groups)
    inside, outside = weight.shape[1], weight.shape[0] // groups
    y = np.zeros((len(x), weight.shape[0], *extents), dtype=np.result_type(x, weight))
    for tap in np.ndindex(*weight.shape[2:]):
        where = tuple(
            slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in zip(tap, dilation, extents, stride, strict=True)
        )
        for g in range(groups):
            seen = x[(slice(None), slice(g * inside, (g + 1) * inside), *where)]
            kernel = weight[(slice(g * outside, (g + 1) * outside), slice(None), *tap)]
            y[:, g * outside : (g + 1) * outside] += np.moveaxis(np.tensordot(seen, kernel, axes=([1], [1])), -1, 1)
    return y + np.asarray(node.bias).reshape(-1, *(1,) * axes)


def pool(x: Any, node: Any) -> Any:
    """Return the sums of windows of x, shape (t, channels, height, width)."""
    (kh, kw), (sh, sw), (ph, pw) = (np.broadcast_to(v, (2,)) for v in (node.kernel_size, node.stride, node.padding))
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    height, width = (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1
    y = np.zeros((*x.shape[:2], height, width), dtype=x.dtype)
    for i in range(kh):
        for j in range(kw):
            y += x[:, :, i : i + (height - 1) * sh + 1 : sh, j : j + (width - 1) * sw + 1 : sw]
    return y


def steps_of(node: Any, dt: float) -> int:
    """Return the steps by which a node delays its input."""
    return int(np.rint(node.delay.reshape(-1)[0] / dt)) if isinstance(node, nir.Delay) else 0


def answer(node: Any, x: Any, dt: float) -> Any:
    """Return the output of a node for its input x, shape (t, *input_type), in steps of length dt."""
    match node:
        case nir.Threshold():
            return (x > node.threshold).astype(x.dtype)
        case nir.LIF() if (node.tau == dt).all():
            # v + dt / tau (v_leak - v + r x) is r x, for dt = tau and v_leak = 0, whatever v was.
            return (node.r * x > node.v_threshold).astype(x.dtype)
        case nir.Affine():
            return x @ node.weight.T + node.bias
        case nir.Linear():
            return x @ node.weight.T
        case nir.Scale():
            return x * node.scale
        case nir.Conv1d() | nir.Conv2d():
            return correlate(x, node)
        case nir.SumPool2d():
            return pool(x, node)
        case nir.Flatten():
            shape, start = x.shape[1:], int(node.start_dim)
            end = int(node.end_dim) % len(shape)
            return x.reshape(len(x), *shape[:start], -1, *shape[end + 1 :])
        case nir.Delay():
            steps = steps_of(node, dt)
            late = np.zeros_like(x)
            late[steps:] = x[: len(x) - steps]
            return late
        case nir.Output():
            return x
    raise SystemExit(f"no equation for {type(node).__name__}")


def evaluate(graph: Any, inputs: dict[str, Any], dt: float = 1.0) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values of every node, and the step at which it answers the input of step 0."""
    values, times = dict(inputs), dict.fromkeys(inputs, 0)
    waiting = [name for name in graph.nodes if name not in inputs]
    while waiting:
        name = next(n for n in waiting if all(a in values for a, b in graph.edges if b == n))
        waiting.remove(name)
        before = [a for a, b in graph.edges if b == name]
        node = graph.nodes[name]
        values[name] = answer(node, sum(values[a] for a in before), dt)
        times[name] = steps_of(node, dt) + max(times[a] for a in before)
    return values, times


def main() -> int:
    """Evaluate, compare."""
    parser = standalone.parser("Evaluate the graph, and compare every spike with what is expected.")
    limit = parser.parse_args().limit
    graph = nir.read(standalone.HERE / "network.nir")
    frames = standalone.load("frames.npz")
    inputs = {key.removeprefix("input:"): frames[key][:limit] for key in frames if key.startswith("input:")}
    count = len(next(iter(inputs.values())))
    # Delays make answers late; zeros enter behind the last frame until it is answered.
    dt = float(frames["step"])
    room = sum(steps_of(node, dt) for node in graph.nodes.values())
    padded = {k: np.concatenate([v, np.zeros((room, *v.shape[1:]), v.dtype)]) for k, v in inputs.items()}
    values, times = evaluate(graph, padded, dt)
    comparison = standalone.Comparison("neurons", "size", width=40)
    for key in frames:
        if key.startswith("expected:"):
            name = key.removeprefix("expected:")
            found = values[name][times[name] : times[name] + count] > 0.5
            comparison.add(name, frames[key][:limit], found)
    if "labels" in frames:
        readout = json.loads(str(frames["readout"]))
        out = readout["output"]
        scores = values[out][times[out] : times[out] + count].reshape(count, -1)
        standalone.print_accuracy(standalone.decide(readout, frames, scores), frames["labels"][:limit])
    return comparison.finish()


if __name__ == "__main__":
    sys.exit(main())
