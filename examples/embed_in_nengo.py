"""Embed a sharpened network in your own Nengo script: probe its layers, add an ensemble of your own, draw a raster.

    python examples/embed_in_nengo.py [--frames 40] [--raster raster_nengo.png]

The network is an ordinary `nengo.Network`; its ensembles have the names of the layers, and every layer answers frame n
in step n. A small classifier of scikit-learn's digits is trained first, in some seconds;
`strop.load_model("yours.keras")` goes in its place.
"""

from __future__ import annotations

import argparse

import nengo
import numpy as np
from rasters import draw

import strop
from strop.graph import with_weights
from strop.keras.recipes import train_digits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--raster", default="raster_nengo.png", help="draw a raster of all layers to this file")
    options = parser.parse_args()

    trained = train_digits(epochs=options.epochs, conv=False)
    model, frames, labels = trained.model, trained.x_test[: options.frames], trained.y_test[: options.frames]
    graph = strop.lower(model)
    last = graph.population_names[-1]

    network = strop.build(graph, "nengo", adjustable=True)  # weights that can be changed while it runs
    with network:
        probes = {name: nengo.Probe(ensemble.neurons) for name, ensemble in network.populations.items()}
        # Everything of yours goes in as usual: an ordinary ensemble, which follows how busy the last layer is.
        activity = nengo.Ensemble(50, dimensions=1, seed=1)
        units = network.populations[last].n_neurons
        share = np.full((1, units), 1 / units)
        nengo.Connection(network.populations[last].neurons, activity, transform=share, synapse=0.005)
        followed = nengo.Probe(activity, synapse=0.005)

    network.present(frames)  # one frame enters at every time step
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(len(frames))
        # A lesion in place, in the graph's own units, and the same frames once more, behind the first.
        pair = next(pair for pair in network.weights(simulator) if pair[1] == last)
        weights = network.weights(simulator)[pair]
        weights[::2] = 0.0
        network.set_weights(simulator, {pair: weights})
        network.present(frames)
        simulator.run_steps(len(frames))

    expected = strop.simulate(graph, frames, "reference").spikes
    spikes = {name: simulator.data[probe] > 0.5 for name, probe in probes.items()}
    rasters = {name: raster[: len(frames)] for name, raster in spikes.items()}
    different = 0
    for name, seen in rasters.items():
        different += int((seen != expected[name].reshape(seen.shape)).sum())
        print(f"{name}: {seen.sum()} spikes in {len(frames)} frames")
    print(f"spikes in this script's probes that are not as expected: {different}")
    lesioned = strop.simulate(with_weights(graph, {pair: weights}), frames, "reference").spikes[last]
    wrong = int((spikes[last][len(frames) :] != lesioned.reshape(len(frames), -1)).sum())
    print(f"after a lesion of half the synapses into {last!r}, spikes that are not as expected: {wrong}")
    different += wrong
    print(f"share of {last!r} that fires: {rasters[last].mean():.3f}; "
          f"followed by the ensemble: {simulator.data[followed][len(frames) // 2 :].mean():.3f}")  # fmt: skip
    draw(graph, rasters, options.raster, "A sharpened network in Nengo", together=True)

    report = strop.verify(model, frames, labels, backends=["nengo"])
    print(report)
    return 0 if report.passed and different == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
