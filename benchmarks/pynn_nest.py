"""PyNN-NEST as strop builds it against PyNEST by hand: the same network, the same frames, in one process.

    python benchmarks/pynn_nest.py MODEL --data mnist.npz --limit 1000
    python benchmarks/pynn_nest.py MODEL --data mnist.npz --limit 300 --settings

Both with layers one tick apart and 16 (`layer_ticks`), in alternation: prints medians of build and run time and of the
seconds of the CPU, ratios, and whether every spike is the same; ends with 1 if one is not, or if PyNN-NEST runs at less
than half the speed of PyNEST with the same ticks. With --settings, PyNEST by hand with one setting of NEST's changed
after the other. With --wide, times the building of a Conv2D(48, 5) on 14 x 14 x 32 instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import strop
from strop.graph import Convolution, Graph, Input, Population
from strop.running.encode import as_frames, encode
from strop.running.frame_source import frame_source
from strop.running.oracle import host_spikes

LAYER_TICKS = 16
# Build and run in seconds, run in seconds of the CPU, spikes of each chunk.
Run = tuple[float, float, float, list[dict[str, Any]]]


def by_hand(
    graph: Graph,
    signals: list[dict],
    layer_ticks: int = 1,
    threads: int = 1,
    synapse: str = "static_synapse",
    shuffled: bool = False,
    **kernel: Any,
) -> Run:
    """What somebody would write who knows PyNEST: one NEST neuron per neuron, arrays to Connect."""
    import nest

    begin = time.perf_counter()
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = 1.0
    hop = float(layer_ticks)
    nest.set(local_num_threads=threads, **kernel)
    nest.set(min_delay=hop, max_delay=hop * max(p.delay for p in graph.projections))
    nodes, generators = {}, {}
    for population in graph.populations:
        if population.name in graph.host_populations:
            generators[population.name] = nest.Create("spike_generator", population.size)
            nodes[population.name] = nest.Create("parrot_neuron", population.size)
            nest.Connect(generators[population.name], nodes[population.name], "one_to_one", {"delay": hop})
        else:
            tau = 2.0**-10
            nodes[population.name] = nest.Create(
                "iaf_psc_delta",
                population.size,
                {"C_m": tau, "tau_m": tau, "E_L": 0.0, "V_reset": -100.0, "t_ref": 0.0},
            )
            nodes[population.name].V_th = population.threshold.reshape(-1).tolist()
            nodes[population.name].I_e = population.bias.reshape(-1).tolist()
    for p in graph.projections:
        if p.target in generators:
            continue
        pre, post, weight = p.operator.to_coo()
        if shuffled:
            order = np.random.default_rng(0).permutation(len(pre))
            pre, post, weight = pre[order], post[order], weight[order]
        source, target = (np.asarray(nodes[name].tolist()) for name in (p.source, p.target))
        syn = {
            "synapse_model": synapse,
            "weight": weight,
            "delay": np.full(len(weight), hop * p.delay),
        }
        nest.Connect(source[pre], target[post], "one_to_one", syn)
    recorder = nest.Create("spike_recorder")
    recorded = {name: ids for name, ids in nodes.items() if name not in generators}
    for ids in recorded.values():
        nest.Connect(ids, recorder, syn_spec={"delay": hop})
    build = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    results = []
    for part in signals:
        count = len(next(iter(part.values())))
        hosted = host_spikes(graph, part)
        start = round(nest.biological_time) + 1 + layer_ticks
        for name, ids in generators.items():
            unit, frame = np.nonzero(hosted[name].reshape(count, -1).T)
            times = frame + start - hop + layer_ticks * graph.depth(name)
            ids.set([{"spike_times": x} for x in np.split(times, np.searchsorted(unit, np.arange(1, len(ids))))])
        nest.Simulate(count + hop * (graph.total_depth + 2) + 1.0)
        events = recorder.get("events")
        recorder.n_events = 0
        found = {}
        for name, ids in recorded.items():
            first = ids[0].global_id
            ours = (events["senders"] >= first) & (events["senders"] < first + len(ids))
            frame = np.rint(events["times"][ours]).astype(int) - start - layer_ticks * graph.depth(name)
            keep = (frame >= 0) & (frame < count)
            raster = np.zeros((count, len(ids)), dtype=bool)
            raster[frame[keep], events["senders"][ours][keep] - first] = True
            found[name] = raster
        results.append(found)
    run, cpu = time.perf_counter() - begin, time.process_time() - cpu
    # strop leaves a kernel that is in use alone, and runs in another process.
    nest.ResetKernel()
    return build, run, cpu, results


def through_strop(graph: Graph, signals: list[dict], **options: Any) -> Run:
    """The backend, as `strop verify` drives it."""
    from strop.running.registry import get_backend

    begin = time.perf_counter()
    runner = get_backend("pynn-nest").prepare(graph, **options)
    build = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    results = [runner.run(part) for part in signals]
    run, cpu = time.perf_counter() - begin, time.process_time() - cpu
    runner.close()
    return build, run, cpu, results


# Of NEST 3.10; it always sorts connections by source.
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "synapses in random order": {"shuffled": True},
    "static_synapse_hpc": {"synapse": "static_synapse_hpc"},
    "static_synapse_lbl, as PyNN's": {"synapse": "static_synapse_lbl"},
    "use_compressed_spikes off": {"use_compressed_spikes": False},
    "keep_source_table off": {"keep_source_table": False},
    "buffers that never shrink": {"spike_buffer_shrink_limit": 0.0},
    "two threads": {"threads": 2},
}


def compare(path: str, data: str, limit: int, rounds: int, settings: bool) -> int:
    graph = Graph.load(path) if path.endswith(".strop") else strop.lower(strop.load_model(path))
    frames = as_frames(graph, np.load(data)["x_test"][:limit])
    signals = [encode(graph, chunk.frames) for chunk in frame_source(graph, frames).chunks(1000)]
    through_strop(graph, [{name: values[:2] for name, values in signals[0].items()}])  # imports
    near = {"layer_ticks": LAYER_TICKS}
    ways: dict[str, Callable[..., Run]] = {
        "PyNEST by hand": by_hand,
        "pynn-nest, layer_ticks=1": partial(through_strop, layer_ticks=1),
        f"PyNEST, {LAYER_TICKS} ticks": partial(by_hand, **near),
        "pynn-nest": through_strop,
    }
    if settings:
        ways = {name: partial(by_hand, **near, **options) for name, options in SETTINGS.items()}
    done: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            done[name].append(way(graph, signals))
    first = next(iter(done.values()))[0][3]
    same = all(
        np.array_equal(raster, theirs[name].reshape(raster.shape))
        for runs in done.values()
        for run in runs
        for ours, theirs in zip(first, run[3], strict=True)
        for name, raster in ours.items()
    )
    medians = {name: np.median([run[:3] for run in runs], axis=0) for name, runs in done.items()}
    before = next(iter(medians.values()))
    for name, (build, run, cpu) in medians.items():
        print(
            f"{name:30s} build {build:6.2f} s   run {run:7.2f} s ({limit / run:7.0f} frames/s)   CPU {cpu:7.2f} s   "
            f"of the first: {run / before[1]:.2f}, CPU {cpu / before[2]:.2f}"
        )
    print(f"spikes {'equal' if same else 'DIFFERENT'}")
    by_ticks = list(medians.values())
    pairs = zip(by_ticks[::2], by_ticks[1::2], strict=True)
    slow = not settings and any(theirs[1] > 2 * ours[1] for ours, theirs in pairs)
    return 0 if same and not slow else 1


def wide() -> int:
    rng = np.random.default_rng(0)
    shape = (14, 14, 32)
    layer = Convolution(shape, rng.normal(size=(5, 5, 32, 48)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    graph = Graph.from_nodes(
        [Input("x", shape, "binary")],
        [Population("conv", layer.shape_out, 0.5, 0.0)],
        [("x", "conv", layer)],
        outputs=["conv"],
    )
    from strop.running.registry import get_backend

    backend = get_backend("pynn-nest")
    tiny = Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("y", (1,), 0.5, 0.0)],
        [("x", "y", strop.graph.Dense(np.eye(1)))],
        outputs=["y"],
    )
    backend.prepare(tiny).close()  # imports
    begin = time.perf_counter()
    backend.prepare(graph).close()
    seconds = time.perf_counter() - begin
    each = 1e6 * seconds / graph.synapses
    print(f"{graph.synapses:,} synapses in {seconds:.2f} s: {each:.2f} microseconds each")
    return 0 if each <= 1.0 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("--wide", action="store_true")
    given = parser.parse_args()
    sys.exit(wide() if given.wide else compare(given.model, given.data, given.limit, given.rounds, given.settings))
