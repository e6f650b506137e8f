"""A network whose synapses do not fit into memory, on Brian2 with its convolutions kept as kernels.

    python benchmarks/brian2_kernels.py [--frames 10] [--width 1.0] [--repeats 5]

The network is the six-convolution one of the Whetstone paper without its pools: 28 x 28 frames, kernels of 7, 7, 5, 5,
3 and 3, `width` times 32, 64, 64, 64, 128 and 128 filters, and 100 neurons for the classes. Weights are random;
thresholds lie where one neuron in eight fires. Every spike is compared with the oracle's. Then a network of a sixth
of that width is run both ways, in turns: what an event costs with kernels and with synapses.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np

from strop.graph import Convolution, Dense, Graph, Input, Operator, Population, Select, compose, fan_out
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend

LAYERS = ((7, 32), (7, 64), (5, 64), (5, 64), (3, 128), (3, 128))


def network(width: float, frames: np.ndarray) -> Graph:
    rng = np.random.default_rng(0)
    shape, signal = (28, 28, 1), frames
    populations, projections, source = [], [], "image"
    operators: list[tuple[str, Operator]] = []
    for n, (size, filters) in enumerate(LAYERS):
        kernel = rng.normal(size=(size, size, shape[-1], max(1, round(filters * width))))
        padding = ((size // 2, size // 2),) * 2
        operators.append((f"conv{n + 1}", Convolution(shape, kernel, (1, 1), (1, 1), padding)))
        shape = operators[-1][1].shape_out
    size = int(np.prod(shape))
    classes = compose(Select(shape, np.arange(size)), Dense(rng.normal(size=(size, 100))))
    assert classes is not None
    for name, operator in (*operators, ("classes", classes)):
        sums = operator.apply(signal)
        threshold = float(np.quantile(sums, 7 / 8))
        populations.append(Population(name, operator.shape_out, threshold, 0.0))
        projections.append((source, name, operator))
        signal, source = sums >= threshold, name
    return Graph.from_nodes([Input("image", (28, 28, 1), "host")], populations, projections, (), ["classes"])


def events_of(graph: Graph, spikes: dict[str, np.ndarray]) -> int:
    """Synaptic events of all frames: the synapses of every spike."""
    return sum(
        int(spikes[p.source].reshape(-1, p.operator.size_in).sum(axis=0) @ fan_out(p.operator).reshape(-1))
        for p in graph.projections
        if p.source in spikes
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    frames = np.random.default_rng(1).random((options.frames, 28, 28, 1)).astype(np.float32)

    graph = network(options.width, frames)
    signals = encode(graph, as_frames(graph, frames))
    oracle = evaluate(graph, signals)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    runner = get_backend("brian2").prepare(graph, convolutions="kernel")
    built = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    spikes = runner.run(signals)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    assert all(np.array_equal(spikes[name], oracle[name]) for name in oracle), "Brian2 and the oracle differ"
    events = events_of(graph, oracle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{graph.neurons:,} neurons, {graph.synapses:,} synapses, {events / options.frames:,.0f} events a frame")
    print(f"built in {built:.1f} s, {options.frames} frames in {seconds:.2f} s ({cpu:.2f} s of CPU time)")
    print(f"peak memory {peak / 1024:,.0f} MiB, {before / 1024:,.0f} MiB of it before (imports, graph, oracle)")

    frames = np.random.default_rng(2).random((20, 28, 28, 1)).astype(np.float32)
    graph = network(options.width / 6, frames)
    signals = encode(graph, as_frames(graph, frames))
    oracle = evaluate(graph, signals)
    ways = ("kernel", "expanded")
    runners = {way: get_backend("brian2").prepare(graph, convolutions=way) for way in ways}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(options.repeats + 1):
        for way in ways:
            cpu = time.process_time()
            spikes = runners[way].run(signals)
            if turn:
                times[way].append(time.process_time() - cpu)
            assert all(np.array_equal(spikes[name], oracle[name]) for name in oracle), f"{way} and the oracle differ"
    events = events_of(graph, oracle)
    for way in ways:
        print(f"{graph.synapses:,} synapses, {way}: {statistics.median(times[way]) / events * 1e9:.2f} ns an event")
    ratio = statistics.median(a / b for a, b in zip(times["kernel"], times["expanded"], strict=True))
    print(f"an event of a kernel takes {ratio:.2f} times that of a synapse (CPU time, median of ratios in one round)")


if __name__ == "__main__":
    main()
