"""Embed a sharpened network in your own Brian2 script: monitor a layer, add neurons of your own, draw a raster.

    python examples/embed_in_brian2.py [--frames 40] [--raster raster.png]

A network with random weights stands in for a trained one, so that the script needs nothing but Keras and Brian2; put
`strop.load_model("your_model.keras")` in its place.
"""

from __future__ import annotations

import argparse

import brian2 as b2
import keras
import numpy as np

import strop
from strop.keras import SpikingBReLU


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(6, 3),
            SpikingBReLU(1.0),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(30, name="hidden_sums"),
            SpikingBReLU(1.0, name="hidden"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--raster", help="draw a raster of all layers to this file (needs matplotlib)")
    options = parser.parse_args()

    model = network()
    frames = np.random.default_rng(0).random((options.frames, 12, 12, 1), np.float32)
    graph = strop.lower(model)

    # A brian2.Network; its populations are Subgroups, by the names that they have in Keras. For a few frames, NumPy is
    # quicker than waiting for the compiler; leave both lines out for thousands.
    b2.prefs.codegen.target = "numpy"
    net = strop.build(graph, "brian2", target="numpy")
    hidden = net.populations["hidden"]

    # Everything of yours goes in as usual: a monitor, and a leaky neuron that listens to the hidden layer.
    monitors = {name: b2.SpikeMonitor(group) for name, group in net.populations.items()}
    listener = b2.NeuronGroup(1, "du/dt = -u / (5*ms) : 1", threshold="u > 2", reset="u = 0", clock=net.strop_clock)
    ears = b2.Synapses(hidden, listener, on_pre="u_post += 0.1", clock=net.strop_clock)
    ears.connect()
    voice = b2.SpikeMonitor(listener)
    net.add(*monitors.values(), listener, ears, voice)

    net.present(frames)  # one frame enters at every time step
    net.run(net.duration(frames))

    # Population P answers frame n at step n + depth(P).
    steps = np.asarray(np.round(monitors["hidden"].t / net.strop_clock.dt), dtype=int) - graph.depth("hidden")
    seen = np.zeros((options.frames, hidden.N), dtype=bool)
    inside = (steps >= 0) & (steps < options.frames)
    seen[steps[inside], np.asarray(monitors["hidden"].i)[inside]] = True
    expected = model.predict(frames, verbose=0) >= 0.5
    print(f"hidden layer: {seen.sum()} spikes in {options.frames} frames; Keras has {expected.sum()}")
    print(f"spikes that differ from Keras: {(seen != expected).sum()}")
    print(f"the listener fired {voice.num_spikes} times")
    if options.raster:
        draw(monitors, net, options.raster)
    if (seen != expected).any():
        raise SystemExit(1)


def draw(monitors: dict[str, b2.SpikeMonitor], net: b2.Network, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(monitors), 1, sharex=True, figsize=(8, 2 * len(monitors)))
    for axis, (name, monitor) in zip(np.atleast_1d(axes), monitors.items(), strict=True):
        axis.plot(monitor.t / net.strop_clock.dt, monitor.i, "k.", markersize=2)
        axis.set_ylabel(name)
    axis.set_xlabel("time step")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
