#!/usr/bin/env python
"""Evaluate a NIR graph by NIR's published equations, and compare every spike with what is expected.

    python run.py [--limit N]

It needs NumPy and nir, and shows what the nodes mean: a frame per time step, every node evaluated in the order of the
data. Threshold: 1 where v > v_thr. Affine, Linear: W x + b. Conv1d, Conv2d: cross-correlation with weights
(out, in / groups, ...), as in PyTorch. SumPool2d: sums of windows. Delay: x(t - tau), tau in steps.

Beside this script lie
    network.nir   the graph
    frames.npz    "input:NODE": what enters; "expected:NODE": the spikes of each Threshold; "labels"

It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np

HERE = Path(__file__).resolve().parent


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


def answer(node: Any, x: Any) -> Any:
    """Return what a node gives for x, shape (t, *input_type)."""
    match node:
        case nir.Threshold():
            return (x > node.threshold).astype(x.dtype)
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
            steps = int(np.rint(node.delay.reshape(-1)[0]))
            late = np.zeros_like(x)
            late[steps:] = x[: len(x) - steps]
            return late
        case nir.Output():
            return x
    raise SystemExit(f"no equation for {type(node).__name__}")


def evaluate(graph: Any, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what every node gives, and the step at which it answers what enters at step 0."""
    values, times = dict(inputs), dict.fromkeys(inputs, 0)
    waiting = [name for name in graph.nodes if name not in inputs]
    while waiting:
        name = next(n for n in waiting if all(a in values for a, b in graph.edges if b == n))
        waiting.remove(name)
        before = [a for a, b in graph.edges if b == name]
        node = graph.nodes[name]
        values[name] = answer(node, sum(values[a] for a in before))
        own = int(np.rint(node.delay.reshape(-1)[0])) if isinstance(node, nir.Delay) else 0
        times[name] = own + max(times[a] for a in before)
    return values, times


def decide(readout: dict[str, Any], data: Any, scores: Any) -> Any:
    """Return the class of each frame: the one with the largest score, the lower of equals."""
    if readout["clip"]:
        scores = np.clip(scores, *readout["clip"])
    if readout["function"] == "sigmoid":
        scores = 1.0 / (1.0 + np.exp(-scores))
    elif readout["function"]:
        groups = scores.reshape(len(scores), -1, readout["group"])
        groups = groups - groups.max(axis=2, keepdims=True)
        groups = groups - np.log(np.exp(groups).sum(axis=2, keepdims=True))
        scores = (groups if readout["function"] == "log_softmax" else np.exp(groups)).reshape(len(scores), -1)
    if "readout_after" in data:
        scores = scores @ data["readout_after"]
    return scores[:, 0] > readout["above"] if readout["above"] is not None else scores.argmax(axis=1)


def main() -> int:
    """Evaluate, compare."""
    parser = argparse.ArgumentParser(description="Evaluate the graph, and compare every spike with what is expected.")
    parser.add_argument("--limit", type=int, help="only so many frames")
    limit = parser.parse_args().limit
    graph = nir.read(HERE / "network.nir")
    frames = np.load(HERE / "frames.npz", allow_pickle=False)
    inputs = {key.removeprefix("input:"): frames[key][:limit] for key in frames.files if key.startswith("input:")}
    count = len(next(iter(inputs.values())))
    # Delays make answers late; zeros enter behind the last frame until it is answered.
    room = sum(int(n.delay.reshape(-1)[0]) for n in graph.nodes.values() if isinstance(n, nir.Delay))
    padded = {k: np.concatenate([v, np.zeros((room, *v.shape[1:]), v.dtype)]) for k, v in inputs.items()}
    values, times = evaluate(graph, padded)
    different = 0
    print(f"{'Threshold':40s} {'units':>8s} {'expected':>10s} {'spikes':>10s} {'different':>10s}")
    for key in frames.files:
        if key.startswith("expected:"):
            name = key.removeprefix("expected:")
            expected, found = frames[key][:limit], values[name][times[name] : times[name] + count] > 0.5
            wrong = int((found != expected).sum())
            different += wrong
            print(f"{name:40s} {expected[0].size:8d} {expected.sum():10d} {found.sum():10d} {wrong:10d}")
    if "labels" in frames.files:
        readout = json.loads(str(frames["readout"]))
        out = readout["output"]
        classes = decide(readout, frames, values[out][times[out] : times[out] + count].reshape(count, -1))
        print(f"accuracy {100 * (classes == frames['labels'][:limit]).mean():.2f} %")
    print("every spike is as expected" if different == 0 else f"{different} spikes DIFFER")
    return 0 if different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
