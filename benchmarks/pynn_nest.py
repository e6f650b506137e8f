"""PyNN-NEST as strop builds it against PyNEST by hand: the same network, the same frames, in one process.

    python benchmarks/pynn_nest.py MODEL --data mnist.npz --limit 1000

Prints build and run time of both, their ratio, and whether every spike is the same; ends with 1 if one is
not, or if PyNN-NEST runs at less than half the speed. With --wide, times the building of a Conv2D(48, 5) on
14 x 14 x 32 instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

import strop
from strop.graph import Convolution, Graph, Input, Population
from strop.running.encode import as_frames, encode
from strop.running.oracle import host_spikes
from strop.running.simulate import chunks


def by_hand(graph: Graph, signals: list[dict]) -> tuple[float, float, list[dict]]:
    """What somebody would write who knows PyNEST: one neuron per unit, arrays to Connect."""
    import nest

    begin = time.perf_counter()
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = 1.0
    nodes, generators = {}, {}
    for population in graph.populations:
        if population.name in graph.host_populations:
            generators[population.name] = nest.Create("spike_generator", population.size)
            nodes[population.name] = nest.Create("parrot_neuron", population.size)
            nest.Connect(generators[population.name], nodes[population.name], "one_to_one", {"delay": 1.0})
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
        source, target = (np.asarray(nodes[name].tolist()) for name in (p.source, p.target))
        syn = {
            "synapse_model": "static_synapse",
            "weight": weight,
            "delay": np.full(len(weight), float(p.delay)),
        }
        nest.Connect(source[pre], target[post], "one_to_one", syn)
    recorder = nest.Create("spike_recorder")
    recorded = {name: ids for name, ids in nodes.items() if name not in generators}
    for ids in recorded.values():
        nest.Connect(ids, recorder, syn_spec={"delay": 1.0})
    build = time.perf_counter() - begin
    begin = time.perf_counter()
    results = []
    for part in signals:
        count = len(next(iter(part.values())))
        hosted = host_spikes(graph, part)
        start = round(nest.biological_time) + 2
        for name, ids in generators.items():
            unit, frame = np.nonzero(hosted[name].reshape(count, -1).T)
            times = frame + start - 1.0 + graph.depth(name)
            ids.set([{"spike_times": x} for x in np.split(times, np.searchsorted(unit, np.arange(1, len(ids))))])
        nest.Simulate(count + graph.total_depth + 3.0)
        events = recorder.get("events")
        recorder.n_events = 0
        found = {}
        for name, ids in recorded.items():
            first = ids[0].global_id
            ours = (events["senders"] >= first) & (events["senders"] < first + len(ids))
            frame = np.rint(events["times"][ours]).astype(int) - start - graph.depth(name)
            keep = (frame >= 0) & (frame < count)
            raster = np.zeros((count, len(ids)), dtype=bool)
            raster[frame[keep], events["senders"][ours][keep] - first] = True
            found[name] = raster
        results.append(found)
    return build, time.perf_counter() - begin, results


def through_strop(graph: Graph, signals: list[dict]) -> tuple[float, float, list[dict]]:
    """The backend, as `strop verify` drives it."""
    from strop.running.registry import get_backend

    begin = time.perf_counter()
    runner = get_backend("pynn-nest").prepare(graph)
    build = time.perf_counter() - begin
    begin = time.perf_counter()
    results = [runner.run(part) for part in signals]
    run = time.perf_counter() - begin
    runner.close()
    return build, run, results


def compare(path: str, data: str, limit: int) -> int:
    graph = strop.lower(strop.load_model(path))
    frames = as_frames(graph, np.load(data)["x_test"][:limit])
    signals = [encode(graph, part) for part in chunks(frames, 1000)]
    through_strop(graph, [encode(graph, part) for part in chunks({k: v[:2] for k, v in frames.items()}, 2)])  # imports
    ways: dict[str, Callable] = {"PyNEST by hand": by_hand, "pynn-nest": through_strop}
    seen, rates = [], []
    for name, way in ways.items():
        build, run, results = way(graph, signals)
        rates.append(limit / run)
        seen.append(results)
        print(f"{name:16s} build {build:6.2f} s   run {run:7.2f} s   {limit / run:7.0f} frames/s")
    same = all(
        np.array_equal(raster, theirs[name].reshape(raster.shape))
        for ours, theirs in zip(*seen, strict=True)
        for name, raster in ours.items()
    )
    print(f"ratio {rates[1] / rates[0]:.2f}, spikes {'equal' if same else 'DIFFERENT'}")
    return 0 if same and rates[1] >= 0.5 * rates[0] else 1


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
    parser.add_argument("--wide", action="store_true")
    given = parser.parse_args()
    sys.exit(wide() if given.wide else compare(given.model, given.data, given.limit))
