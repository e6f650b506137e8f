"""Frames per second of strop's Nengo backend, beside a bare NumPy loop that does the same matrix products.

    python benchmarks/nengo_streaming.py model.strop --data mnist.npz --limit 2000
    python benchmarks/nengo_streaming.py lenet:32,48:0.05 --data mnist.npz --against ../other-checkout

Both take one frame at a time through every layer of the same graph, in one process, in alternating rounds;
the best round of each counts. The loop is what somebody would write by hand for this very network: a
matrix-vector product per dense layer, gathered windows and one product per convolution, a comparison, and the
spikes kept. The first layer is in both: under the encoding "host" strop evaluates it in one go before it
streams, and that time is counted.

`lenet:32,48:0.05` is a network made up: the LeNet of so many filters with random weights, and thresholds at which that
share of each layer fires. `--against` measures another checkout of strop instead of the loop, in alternating rounds
(`alternation.py`): CPU and wall seconds for all frames, the medians and their ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from alternation import alternate, serve

import strop
from strop.graph import (
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Projection,
    Select,
    SumPool,
    compose,
    stages_of,
)
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


def lenet(frames: Any, filters: tuple[int, int], density: float) -> Graph:
    """Return a LeNet of random weights in which about a share `density` of each layer fires for these frames."""
    rng = np.random.default_rng(0)
    known = {"image": frames.reshape(-1, 28, 28, 1) / 255.0}
    populations, projections = [], []

    def add(name: str, source: str, *operators: Operator | None) -> None:
        operator = compose(*operators)
        assert operator is not None
        potentials = operator.apply(known[source])
        threshold = 0.5 if isinstance(operator, SumPool) else np.quantile(potentials, 1.0 - density)
        shape = operator.shape_out
        populations.append(Population(name, shape, np.full(shape, threshold), np.zeros(shape)))
        projections.append(Projection(source, name, operator))
        known[name] = potentials >= threshold

    def kernel(*shape: int) -> Any:
        return rng.normal(size=shape)

    first, second = filters
    same, valid, flat = ((2, 2), (2, 2)), ((0, 0), (0, 0)), 25 * second
    add("conv1", "image", Convolution((28, 28, 1), kernel(5, 5, 1, first), (1, 1), (1, 1), same))
    add("pool1", "conv1", SumPool((28, 28, first), (2, 2), (2, 2), valid))
    add("conv2", "pool1", Convolution((14, 14, first), kernel(5, 5, first, second), (1, 1), (1, 1), valid))
    add("pool2", "conv2", SumPool((10, 10, second), (2, 2), (2, 2), valid))
    add("dense1", "pool2", Select((5, 5, second), np.arange(flat)), Dense(kernel(flat, 120)))
    add("dense2", "dense1", Dense(kernel(120, 84)))
    add("dense3", "dense2", Dense(kernel(84, 100)))
    name = f"lenet:{first},{second}:{density}"
    return Graph((Input("image", (28, 28, 1)),), tuple(populations), tuple(projections), (), ("dense3",), name)


def measured(path: Path, data: Path) -> dict[str, Callable[[], Any]]:
    """Return what is measured in each of two checkouts: a run of the frames; it says how many spikes there were."""
    graph, frames = strop.Graph.load(path), np.load(data)
    signals = encode(graph, as_frames(graph, frames))
    runner = get_backend("nengo").prepare(graph)
    runner.run({name: values[:20] for name, values in signals.items()})

    def run() -> str:
        return " ".join(str(int(np.count_nonzero(raster))) for raster in runner.run(signals).values())

    return {"nengo": run}


def compared(graph: strop.Graph, frames: Any, rounds: int, other: Path) -> dict[str, Any]:
    """Measure this checkout and another one in alternating rounds."""
    with tempfile.TemporaryDirectory() as folder:
        saved, data = Path(folder) / "graph.strop", Path(folder) / "frames.npy"
        graph.save(saved)
        np.save(data, frames)
        found = alternate(__file__, [str(saved), str(data)], ["nengo"], other, rounds)
    return {"graph": graph.name, "frames": len(frames), **found["nengo"]}


def loaded(name: str, encoding: str, frames: Any) -> strop.Graph:
    if name.startswith("lenet:"):
        _, filters, density = name.split(":")
        first, second = map(int, filters.split(","))
        return lenet(frames[:200], (first, second), float(density))
    return strop.Graph.load(name) if name.endswith(".strop") else strop.lower(strop.load_model(name), encoding)


def main() -> None:
    parser = argparse.ArgumentParser(description="Nengo beside a bare NumPy loop, or another checkout")
    parser.add_argument("models", nargs="+", help="saved .strop graphs, Keras models, or lenet:FILTERS,FILTERS:SHARE")
    parser.add_argument("--data", type=Path, required=True, help="an .npz with x, or Keras's mnist.npz")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoding", default="host", help="for Keras models")
    parser.add_argument("--against", type=Path, help="another checkout of strop")
    options = parser.parse_args()
    data = np.load(options.data, allow_pickle=False)
    frames = data["x_test" if "x_test" in data else "x"][: options.limit]
    for name in options.models:
        graph = loaded(name, options.encoding, frames)
        if options.against is None:
            found = measure(graph, frames, options.rounds)
        else:
            found = compared(graph, frames, options.rounds, options.against)
        print(json.dumps({"model": Path(name).name, **found}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(measured(Path(sys.argv[2]), Path(sys.argv[3])))
    else:
        main()
