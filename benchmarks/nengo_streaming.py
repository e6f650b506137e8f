"""Frames per second of strop's Nengo backend, beside a bare NumPy loop that does the same matrix products.

    python benchmarks/nengo_streaming.py model.strop --data mnist.npz --limit 2000

Both take one frame at a time through every layer of the same graph, in one process, in alternating rounds;
the best round of each counts. The loop is what somebody would write by hand for this very network: a
matrix-vector product per dense layer, gathered windows and one product per convolution, a comparison, and the
spikes kept. The first layer is in both: under the encoding "host" strop evaluates it in one go before it
streams, and that time is counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import strop
from strop.graph import Convolution, Dense, Operator, Select, SumPool, stages_of
from strop.running.encode import as_frames, encode
from strop.running.registry import get_backend

Step = Callable[[Any], Any]


def windows(op: Convolution | SumPool, size: tuple[int, ...]) -> Step:
    """Return a function from a frame to its windows, shape (*positions, channels, *size)."""
    axes = tuple(range(len(size)))
    stride = tuple(slice(None, None, s) for s in op.strides)
    padded = any(before or after for before, after in op.padding)

    def gather(x: Any) -> Any:
        x = x.reshape(op.shape_in)
        if padded:
            x = np.pad(x, (*op.padding, (0, 0)))
        return np.lib.stride_tricks.sliding_window_view(x, size, axes)[stride]

    return gather


def one_frame(op: Operator) -> Step:
    """Return a function that applies one operator to one frame."""
    if isinstance(op, Dense) and not op.leading:
        weight = np.ascontiguousarray(op.weight.T)
        return lambda x: weight @ x.reshape(-1)
    if isinstance(op, Select) and op.is_reshape:
        return lambda x: x.reshape(op.shape_out)
    if isinstance(op, SumPool):
        gather, axes = windows(op, op.size), tuple(range(-len(op.size), 0))
        return lambda x: gather(x).sum(axis=axes)
    if isinstance(op, Convolution) and op.groups == 1 and not op.transposed and set(op.dilation) == {1}:
        size = op.kernel.shape[:-2]
        gather, filters = windows(op, size), op.kernel.shape[-1]
        kernel = np.moveaxis(op.kernel, -2, 0).reshape(-1, filters)
        return lambda x: (gather(x).reshape(-1, len(kernel)) @ kernel).reshape(op.shape_out)
    raise SystemExit(f"this benchmark has no bare loop for {type(op).__name__}")


def bare_loop(graph: strop.Graph) -> Callable[[dict[str, Any]], dict[str, Any]]:
    layers = [
        (
            population.name,
            population.bias,
            population.threshold,
            [
                (p.source, [one_frame(stage) for stage in stages_of(p.operator)])
                for p in graph.incoming(population.name)
            ],
        )
        for population in graph.populations
    ]

    def run(signals: dict[str, Any]) -> dict[str, Any]:
        count = len(next(iter(signals.values())))
        spikes = {p.name: np.zeros((count, *p.shape), dtype=bool) for p in graph.populations}
        for n in range(count):
            known = {name: values[n].astype(np.float64) for name, values in signals.items()}
            for name, bias, threshold, incoming in layers:
                total = bias
                for source, steps in incoming:
                    x = known[source]
                    for step in steps:
                        x = step(x)
                    total = total + x.reshape(bias.shape)
                fired = total >= threshold
                spikes[name][n] = fired
                known[name] = fired.astype(np.float64)
        return spikes

    return run


def measure(graph: strop.Graph, frames: Any, rounds: int) -> dict[str, Any]:
    signals = encode(graph, as_frames(graph, frames))
    begin = time.perf_counter()
    runner = get_backend("nengo").prepare(graph)
    build = time.perf_counter() - begin
    contenders = {"nengo": runner.run, "bare loop": bare_loop(graph)}
    warm = {name: values[:20] for name, values in signals.items()}
    best = dict.fromkeys(contenders, float("inf"))
    answers: dict[str, Any] = {}
    for run in contenders.values():
        run(warm)
    for _ in range(rounds):
        for name, run in contenders.items():
            begin = time.perf_counter()
            answers[name] = run(signals)
            best[name] = min(best[name], time.perf_counter() - begin)
    for name in graph.population_names:
        if not np.array_equal(answers["nengo"][name], answers["bare loop"][name]):
            raise SystemExit(f"spikes of {name} differ")
    speed = {name: len(frames) / seconds for name, seconds in best.items()}
    return {
        "graph": graph.name,
        "encoding": graph.inputs[0].encoding,
        "frames": len(frames),
        "build_seconds": round(build, 3),
        **{f"{name}_frames_per_second": round(value) for name, value in speed.items()},
        "ratio": round(speed["nengo"] / speed["bare loop"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Nengo beside a bare NumPy loop")
    parser.add_argument("models", nargs="+", type=Path, help="saved .strop graphs, or Keras models")
    parser.add_argument("--data", type=Path, required=True, help="an .npz with x, or Keras's mnist.npz")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoding", default="host", help="for Keras models")
    options = parser.parse_args()
    data = np.load(options.data, allow_pickle=False)
    frames = data["x_test" if "x_test" in data else "x"][: options.limit]
    for path in options.models:
        if path.suffix == ".strop":
            graph = strop.Graph.load(path)
        else:
            graph = strop.lower(strop.load_model(path), options.encoding)
        print(json.dumps({"model": path.name, **measure(graph, frames, options.rounds)}), flush=True)


if __name__ == "__main__":
    main()
