"""How fast Brian2 streams, beside a plain C event loop, `model.predict`, and one frame at a time.

    python benchmarks/brian2_streaming.py MODEL --data mnist.npz [--frames 1000] [--repeats 5] [--standalone]
        [--convolutions kernel]

Everything is measured in one run, round by round, and reported as the median over the rounds. The C loop walks the
same synapses for the same spikes: for every frame and layer it clears the potentials, adds the weights of each spike's
synapses (sorted by source, int32 target and float64 weight) and compares with the thresholds. It is compiled here with
the C compiler on the PATH, -O3 -march=native. "One frame at a time" is the ordinary way to present images to a
simulator: `run` for as many steps as the network is deep, for each frame anew. The ratios to the C loop are also given
in CPU seconds, which depend less on what else the machine does; with `--standalone` those of Brian2's C++ program too,
its start and its files included.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import strop
from strop.cli.data_files import read_data
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend

C_LOOP = r"""
#include <stdint.h>
#include <string.h>
/* One population after the other, frame by frame; returns the number of synaptic events. */
int64_t event_loop(int64_t frames, int64_t units, const int64_t *first, const int32_t *target, const double *weight,
                   const double *bias, const double *threshold, int64_t played, const int64_t *ends,
                   const int32_t *spikes, int64_t layers, const int64_t *bounds, double *v, int32_t *fired,
                   int64_t *count)
{
    int64_t events = 0;
    for (int64_t f = 0; f < frames; f++) {
        int64_t n = 0;
        memcpy(v, bias, units * sizeof(double));
        for (int64_t s = ends[f]; s < ends[f + 1]; s++) fired[n++] = spikes[s];
        int64_t from = 0;
        for (int64_t layer = 0; layer <= layers; layer++) {
            int64_t upto = n;
            for (int64_t s = from; s < upto; s++) {
                int64_t begin = first[fired[s]], end = first[fired[s] + 1];
                for (int64_t i = begin; i < end; i++) v[target[i]] += weight[i];
                events += end - begin;
            }
            from = upto;
            if (layer < layers)
                for (int64_t j = bounds[layer]; j < bounds[layer + 1]; j++)
                    if (v[j] >= threshold[j]) fired[n++] = (int32_t) j;
        }
        *count += n;
    }
    return events;
}
"""


def compile_loop(folder: Path) -> ctypes.CDLL:
    source, library = folder / "loop.c", folder / "loop.so"
    source.write_text(C_LOOP)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
    loop = ctypes.CDLL(str(library))
    loop.event_loop.restype = ctypes.c_int64
    return loop


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class CLoop:
    """The C loop over the synapses that Brian2 has, fed with the stimulus spikes of Brian2."""

    def __init__(self, loop: ctypes.CDLL, network: object, graph: strop.Graph, spikes: dict[str, np.ndarray]) -> None:
        self.loop, self.graph = loop, graph
        assert all(p.delay == 1 for p in graph.projections), "the C loop knows chains only"
        (synapses,) = network.synapses
        pre = np.asarray(synapses.i[:])
        self.units = len(network.units)
        self.first = np.searchsorted(pre, np.arange(self.units + 1)).astype(np.int64)
        self.target = np.ascontiguousarray(synapses.j[:], dtype=np.int32)
        self.weight = np.ascontiguousarray(synapses.w[:], dtype=np.float64)
        self.bias = np.array(network.units.bias[:])
        self.threshold = np.array(network.units.th[:])
        played = [name for name, span in network.spans.items() if span.stimulus]
        rest = [network.spans[name] for name in graph.population_names if name not in played]
        self.bounds = np.array([rest[0].start, *(span.stop for span in rest)], dtype=np.int64)
        rows, units = [], []
        for name in played:
            row, unit = np.nonzero(spikes[name].reshape(len(spikes[name]), -1))
            rows.append(row)
            units.append(unit + network.spans[name].start)
        row, unit = np.concatenate(rows), np.concatenate(units)
        order = np.lexsort((unit, row))
        self.spikes = unit[order].astype(np.int32)
        self.frames = len(next(iter(spikes.values())))
        self.ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=self.frames))]).astype(np.int64)

    def run(self) -> tuple[float, float, int, int]:
        """Return seconds, CPU seconds, events and spikes."""
        v, fired, count = np.empty(self.units), np.empty(2 * self.units, np.int32), np.zeros(1, np.int64)
        begin, cpu = time.perf_counter(), time.process_time()
        events = self.loop.event_loop(
            ctypes.c_int64(self.frames),
            ctypes.c_int64(self.units),
            *map(pointer, (self.first, self.target, self.weight, self.bias, self.threshold)),
            ctypes.c_int64(0),
            *map(pointer, (self.ends, self.spikes)),
            ctypes.c_int64(len(self.bounds) - 1),
            *map(pointer, (self.bounds, v, fired, count)),
        )
        return time.perf_counter() - begin, time.process_time() - cpu, events, int(count[0])


def of_children() -> float:
    """CPU seconds of the processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of Keras, or a .strop file")
    parser.add_argument("--data", required=True)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--convolutions", default="expanded", choices=("expanded", "kernel"))
    parser.add_argument("--standalone", action="store_true", help="the C++ program as well; it is compiled first")
    parser.add_argument("--singly", type=int, default=20, help="frames presented one at a time")
    options = parser.parse_args()

    frames, _ = read_data(options.data, options.frames)
    # A saved graph runs where Keras is not installed.
    saved = options.model.endswith(".strop")
    model = None if saved else strop.load_model(options.model)
    graph = strop.Graph.load(options.model) if model is None else strop.lower(model)
    ready = as_frames(graph, frames)
    signals = encode(graph, ready)
    oracle = evaluate(graph, signals)
    runner = get_backend("brian2").prepare(graph, convolutions=options.convolutions)
    network = runner.network
    # The C loop takes its synapses from here.
    expanded = strop.build(graph, "brian2", target="numpy", convolutions="expanded")
    stepping: list[float] = []
    brian2_run = network.run

    def timed(*args: object, **kwargs: object) -> None:
        cpu = time.process_time()
        brian2_run(*args, **kwargs)
        stepping.append(time.process_time() - cpu)

    network.run = timed
    program = (
        get_backend("brian2-standalone").prepare(graph, frames_at_once=len(frames)) if options.standalone else None
    )
    from strop_backends.brian2.run import Brian2Runner

    assert isinstance(runner, Brian2Runner)
    single = [{name: values[n : n + 1] for name, values in signals.items()} for n in range(options.singly)]
    batch = next(iter(ready.values()))

    with tempfile.TemporaryDirectory() as folder:
        c_loop = CLoop(compile_loop(Path(folder)), expanded, graph, oracle)
        spikes = runner.run(signals)  # compiles, or finds the compiled code
        assert all(np.array_equal(spikes[name], oracle[name]) for name in oracle), "Brian2 and the oracle differ"
        runner.run(single[0])
        if model is not None:
            model.predict(batch, batch_size=256, verbose=0)
        cpu_times: dict[str, list[float]] = {name: [] for name in ("stepping", "program", "c")}
        times: dict[str, list[float]] = {name: [] for name in ("brian2", "stepping", "c", "predict", "singly")}
        for _ in range(options.repeats):
            begin = time.perf_counter()
            runner.run(signals)
            times["brian2"].append(time.perf_counter() - begin)
            times["stepping"].append(runner.stepping_seconds)
            cpu_times["stepping"].append(stepping[-1])
            if program is not None:
                cpu = of_children()
                program.run(signals)
                cpu_times["program"].append(of_children() - cpu)
            seconds, cpu, events, fired = c_loop.run()
            times["c"].append(seconds)
            cpu_times["c"].append(cpu)
            if model is not None:
                begin = time.perf_counter()
                model.predict(batch, batch_size=256, verbose=0)
                times["predict"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            for signal in single:
                runner.run(signal)
            times["singly"].append((time.perf_counter() - begin) / len(single) * len(batch))
    assert fired == sum(int(values.sum()) for values in oracle.values()), "the C loop and the oracle differ"

    count = len(batch)
    print(
        f"{options.model}: {count} frames, {events / count:,.0f} synaptic events "
        f"and {fired / count:,.0f} spikes a frame"
    )
    rows = {
        "brian2": "Brian2 streaming, the first layer's evaluation on the host included",
        "stepping": "Brian2 streaming, its own steps alone",
        "c": "C event loop",
        "predict": "model.predict",
        "singly": "Brian2, one frame at a time",
    }
    for name, label in rows.items():
        if not times[name]:
            continue
        middle = statistics.median(times[name])
        print(f"{label:70s} {count / middle:12,.0f} frames/s {middle / events * 1e9:9.2f} ns/event")

    def ratio(a: str, b: str, times: dict[str, list[float]] = times) -> float:
        return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))

    print(f"in CPU seconds, Brian2's steps take {ratio('stepping', 'c', cpu_times):.2f} times the C loop's")
    if program is not None:
        print(f"in CPU seconds, Brian2's C++ program takes {ratio('program', 'c', cpu_times):.2f} times the C loop's")

    print(f"Brian2's steps take {ratio('stepping', 'c'):.1f} times the C loop's time (median of ratios in one round)")
    print(f"streaming is {ratio('singly', 'brian2'):.0f} times faster than one frame at a time")


if __name__ == "__main__":
    main()
