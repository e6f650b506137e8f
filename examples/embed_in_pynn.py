"""Embed a sharpened network in your own PyNN script, on NEST: record its layers, add a cell of your own, draw a raster.

    python examples/embed_in_pynn.py [--frames 40] [--raster raster_pynn.png]

The script sets NEST up and runs it; strop adds populations and projections. A small classifier of scikit-learn's
digits is trained first, in some seconds; `strop.load_model("yours.keras")` goes in its place.
"""

from __future__ import annotations

import argparse

import numpy as np
import pyNN.nest as sim
from rasters import draw

import strop
from strop.graph import with_weights
from strop.keras.recipes import train_digits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--raster", default="raster_pynn.png", help="draw a raster of all layers to this file")
    options = parser.parse_args()

    trained = train_digits(epochs=options.epochs, conv=False)
    model, frames, labels = trained.model, trained.x_test[: options.frames], trained.y_test[: options.frames]
    graph = strop.lower(model)

    # Spikes on the grid, and no delay shorter than a time step: that is what units without memory need of NEST.
    sim.setup(timestep=1.0, min_delay=1.0, max_delay=4.0, spike_precision="on_grid", verbosity="error")
    network = strop.build(graph, sim)

    # Everything of yours goes in as usual: recordings, and a leaky cell that listens to the last layer.
    layers = {name: network.populations[name] for name in graph.population_names}
    for population in layers.values():
        population.record("spikes")
    listener = sim.Population(1, sim.IF_curr_exp(tau_m=5.0, v_thresh=-60.0), label="listener")
    listener.record(["spikes", "v"])
    last = layers[graph.population_names[-1]]
    sim.Projection(last, listener, sim.AllToAllConnector(), sim.StaticSynapse(weight=0.05, delay=1.0))

    # Noise for the listener alone: the network's own cells keep to their spikes.
    sim.NoisyCurrentSource(mean=0.0, stdev=0.05, dt=1.0).inject_into(listener)

    sim.run_until(network.present(frames))  # one frame enters at every tick

    # Population P answers frame n at tick start + n + depth(P).
    expected = strop.simulate(graph, frames, "reference").spikes
    trains = {name: population.get_data("spikes").segments[0].spiketrains for name, population in layers.items()}
    different, rasters = 0, {}
    for name, population in layers.items():
        seen = np.zeros((len(frames), population.size), dtype=bool)
        for unit, train in enumerate(trains[name]):
            answered = np.rint(train.rescale("ms").magnitude).astype(int) - network.start - graph.depth(name)
            seen[answered[(answered >= 0) & (answered < len(frames))], unit] = True
        rasters[name] = seen
        different += int((seen != expected[name].reshape(seen.shape)).sum())
        print(f"{name}: {seen.sum()} spikes in {len(frames)} frames")
    print(f"spikes in this script's recordings that are not as expected: {different}")

    # A lesion in place, in the graph's own units, through PyNN's own interface; and the same frames once more.
    source, target = pair = next(pair for pair in network.projections if pair[1] == graph.population_names[-1])
    projection = network.projections[pair]
    table = projection.get("weight", format="array")
    table[::2] = np.where(np.isnan(table[::2]), np.nan, 0.0)
    projection.set(weight=table)
    sim.run_until(network.present(frames))
    lesioned = strop.simulate(with_weights(graph, network.weights()), frames, "reference").spikes[target]
    wrong = int((network.spikes()[target] != lesioned).sum())
    print(f"after a lesion of half of {source!r}, spikes of {target!r} that are not as expected: {wrong}")
    different += wrong
    heard = listener.get_data().segments[0]
    print(f"the listener fired {len(heard.spiketrains[0])} times; its potential rose to {heard.analogsignals[0].max()}")
    draw(graph, rasters, options.raster, "A sharpened network in PyNN, on NEST")
    sim.end()

    report = strop.verify(model, frames, labels, backends=["pynn-nest"])
    print(report)
    return 0 if report.passed and different == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
