"""strop inside a Nengo script: a configured parent, learning and noise behind it, a lesion, several simulators.

    python examples/inside_nengo.py [--frames 40]

docs/inside-nengo.md goes through it. What the script configures for its own ensembles, connections and probes changes
no spike of the networks: each is compared with the reference.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import nengo
import numpy as np

import strop
from strop.graph import Graph, with_weights


def main() -> int:
    # Here, and not above: other processes read this file too, and need no Keras.
    from strop.keras.recipes import train_digits

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    trained = train_digits(epochs=options.epochs, conv=False)
    model, frames, labels = trained.model, trained.x_test[: options.frames], trained.y_test[: options.frames]
    graph = strop.lower(model)
    last = graph.population_names[-1]
    count = len(frames)

    with nengo.Network(label="mine", seed=1) as mine:
        # For what this script builds itself.
        mine.config[nengo.Ensemble].noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.05), seed=1)
        mine.config[nengo.Connection].synapse = nengo.Lowpass(0.01)
        mine.config[nengo.Probe].synapse = nengo.Lowpass(0.02)
        left = strop.build(graph, "nengo", probes=True, adjustable=True, prefix="left.")
        right = strop.build(graph, "nengo", probes=True, prefix="right.")

        # Behind the left one: a noisy ensemble that learns how busy its last layer is (PES). The error is what the
        # connection gives less what is to be learned.
        units = left.populations[last].n_neurons
        busy = nengo.Node(lambda t, x: x.mean(), size_in=units, size_out=1)
        nengo.Connection(left.populations[last].neurons, busy, synapse=None)
        ensemble, error = nengo.Ensemble(60, dimensions=1), nengo.Node(size_in=1)
        learning = nengo.Connection(ensemble, error, function=lambda x: 0.0, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(busy, error, transform=-1)
        nengo.Connection(error, learning.learning_rule)
        followed = nengo.Probe(error)

    left.present(frames)
    right.present(frames[::-1])
    with nengo.Simulator(mine, progress_bar=False) as simulator:
        simulator.run_steps(count)
        different = wrong(simulator, left, frames, 0) + wrong(simulator, right, frames[::-1], 0)
        print(f"two networks at once: spikes that are not as expected: {different}")

        # A lesion: a third of all synapses falls silent, in this simulator; then the spikes are those of the graph
        # without them.
        rng = np.random.default_rng(0)
        weights = left.weights(simulator)
        lesioned = {pair: values * (rng.random(len(values)) > 1 / 3) for pair, values in weights.items()}
        left.set_weights(simulator, lesioned)
        left.present(frames)
        simulator.run_steps(count)
        different += wrong(simulator, left, frames, count, with_weights(graph, lesioned))
        print(f"after the lesion: spikes that are not as expected: {different}")

        # Nengo's own reset: step 0, the weights of the network, and what was presented last.
        simulator.reset()
        simulator.run_steps(count)
        different += wrong(simulator, left, frames, 0)
        print(f"after the reset: spikes that are not as expected: {different}")
        print(f"behind the network: an error of {np.abs(simulator.data[followed][-5:]).mean():.3f} at the end")

    # A second simulator of the same network, with other steps; and a copy, which has frames of its own.
    copy = mine.copy()
    for network, dt in ((mine, 0.01), (copy, 0.001)):
        with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
            simulator.run_steps(count)
            different += wrong(simulator, network.networks[0], frames, 0)
    print(f"in other simulators: spikes that are not as expected: {different}")

    # Other processes: a graph is sent to them as it is.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        counts = list(pool.map(count_spikes, [graph] * 2, [frames, frames[::-1]]))
    expected = int(sum(spikes.sum() for spikes in strop.simulate(graph, frames, "reference").spikes.values()))
    print(f"spikes in two other processes: {counts}, expected {expected} in each")

    report = strop.verify(model, frames, labels, backends=["nengo"])
    print(report)
    return 0 if report.passed and different == 0 and counts == [expected] * 2 else 1


def count_spikes(graph: Graph, frames: np.ndarray) -> int:
    """Simulate in this process and return how many spikes there were."""
    result = strop.simulate(graph, frames, "nengo")
    return int(sum(spikes.sum() for spikes in result.spikes.values()))


def wrong(simulator: Any, network: Any, frames: np.ndarray, start: int, graph: Graph | None = None) -> int:
    """Return how many spikes of frames that entered from step `start` on are not those of the reference."""
    expected = strop.simulate(graph or network.graph, frames, "reference").spikes
    different = 0
    for name, spikes in expected.items():
        seen = simulator.data[network.probed[name]][start : start + len(frames)] > 0.5
        different += int((seen != spikes.reshape(seen.shape)).sum())
    return different


if __name__ == "__main__":
    raise SystemExit(main())
