"""Embed a sharpened network in your own Brian2 script: monitors, a neuron that learns, a lesion, a raster.

    python examples/embed_in_brian2.py [--frames 40] [--raster raster_brian2.png]

A small classifier of scikit-learn's digits is trained first, in some seconds; `strop.load_model("yours.keras")` goes in
its place.
"""

from __future__ import annotations

import argparse

import brian2 as b2
import numpy as np
from rasters import draw

import strop
from strop.graph import with_weights
from strop.keras.recipes import train_digits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--raster", default="raster_brian2.png", help="draw a raster of all layers to this file")
    options = parser.parse_args()

    trained = train_digits(epochs=options.epochs, conv=False)
    model, frames, labels = trained.model, trained.x_test[: options.frames], trained.y_test[: options.frames]
    graph = strop.lower(model)
    last = graph.population_names[-1]

    # A brian2.Network; its populations are Subgroups, by the names that they have in Keras. For a few frames, NumPy is
    # quicker than waiting for the compiler; leave both mentions of it out for thousands.
    b2.prefs.codegen.target = "numpy"
    net = strop.build(graph, "brian2", target="numpy")

    # Everything of yours goes in as usual: monitors, and a leaky neuron that listens to the last layer.
    monitors = {name: b2.SpikeMonitor(net.populations[name]) for name in graph.population_names}
    listener = b2.NeuronGroup(1, "du/dt = -u / (5*ms) : 1", threshold="u > 5", reset="u = 0", clock=net.strop_clock)
    ears = b2.Synapses(net.populations[last], listener, on_pre="u_post += 0.05", clock=net.strop_clock)
    ears.connect()
    voice = b2.SpikeMonitor(listener)
    net.add(*monitors.values(), listener, ears, voice)

    # The synapses from your neuron's ears learn (a pair-based STDP); the network's own do not.
    ears_learn = b2.Synapses(
        net.populations[last],
        listener,
        "w : 1\ndpre/dt = -pre / (20*ms) : 1 (event-driven)\ndpost/dt = -post / (20*ms) : 1 (event-driven)",
        on_pre="u_post += w; pre += 0.01; w = clip(w - post, 0, 0.2)",
        on_post="post += 0.01; w = clip(w + pre, 0, 0.2)",
        clock=net.strop_clock,
    )
    ears_learn.connect()
    ears_learn.w = 0.02
    net.add(ears_learn)

    net.present(frames)  # one frame enters at every time step
    net.run(net.duration())
    different = compare(graph, monitors, net, frames, start=0)
    print(f"spikes in this script's monitors that are not as expected: {different}")
    print(f"the plastic synapses went from 0.02 to {float(np.mean(ears_learn.w)):.4f} on average")

    # A lesion in place, in the graph's own units, and the same frames once more, at whatever step comes next.
    pair = next(pair for pair in net.weights() if pair[1] == last)
    weights = net.weights()[pair]
    weights[::2] = 0.0
    net.set_weights({pair: weights})
    start = net.next_step
    net.present(frames)
    net.run(net.duration())
    wrong = compare(with_weights(graph, {pair: weights}), monitors, net, frames, start)
    print(f"after a lesion of half the synapses into {last!r}, spikes that are not as expected: {wrong}")
    different += wrong
    print(f"the listener fired {voice.num_spikes} times")
    rasters = {name: spikes_by_frame(graph, name, monitor, net, len(frames), 0) for name, monitor in monitors.items()}
    draw(graph, rasters, options.raster, "A sharpened network in Brian2")

    report = strop.verify(model, frames, labels, backends=["brian2"], options={"brian2": {"target": "numpy"}})
    print(report)
    return 0 if report.passed and different == 0 else 1


def compare(
    graph: strop.Graph, monitors: dict[str, b2.SpikeMonitor], net: b2.Network, frames: np.ndarray, start: int
) -> int:
    """Count the spikes that differ from the reference's."""
    expected = strop.simulate(graph, frames, "reference").spikes
    different = 0
    for name, monitor in monitors.items():
        seen = spikes_by_frame(graph, name, monitor, net, len(frames), start)
        different += int((seen != expected[name].reshape(seen.shape)).sum())
        print(f"{name}: {seen.sum()} spikes in {len(frames)} frames")
    return different


def spikes_by_frame(
    graph: strop.Graph, name: str, monitor: b2.SpikeMonitor, net: b2.Network, count: int, start: int
) -> np.ndarray:
    """Return which neurons answered each frame: population P answers frame n at step start + n + depth(P)."""
    seen = np.zeros((count, net.populations[name].N), dtype=bool)
    steps = np.round(np.asarray(monitor.t / net.strop_clock.dt)).astype(int) - start - graph.depth(name)
    inside = (steps >= 0) & (steps < count)
    seen[steps[inside], np.asarray(monitor.i)[inside]] = True
    return seen


if __name__ == "__main__":
    raise SystemExit(main())
