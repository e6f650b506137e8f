"""A strop network in a Nengo script of one's own: add a probe and an ensemble that listens, run, look.

    python examples/nengo_own_script.py [net.strop]

Without a file, the digits classifier of the conformance suite is taken. The network is an ordinary `nengo.Network`: its
ensembles carry the names of the layers, and every layer answers frame n in step n.
"""

from __future__ import annotations

import sys

import nengo
import numpy as np

import strop
from strop.conformance import golden_case


def main(arguments: list[str]) -> None:
    case = golden_case("classifier")
    graph = strop.Graph.load(arguments[0]) if arguments else case.graph
    frames = np.random.default_rng(0).random((20, *graph.inputs[0].shape)) if arguments else case.frames["image"]

    network = strop.build(graph, "nengo")
    last = graph.population_names[-1]
    with network:
        spikes = nengo.Probe(network.populations[last].neurons, label=last)
        # An ordinary Nengo ensemble, which follows how busy the last layer is.
        activity = nengo.Ensemble(50, dimensions=1, radius=1.0, seed=1)
        share = np.full((1, network.populations[last].n_neurons), 1 / network.populations[last].n_neurons)
        nengo.Connection(network.populations[last].neurons, activity, transform=share, synapse=0.005)
        followed = nengo.Probe(activity, synapse=0.005)

    network.present(frames)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(len(frames))

    fired = simulator.data[spikes] > 0.5
    expected = strop.simulate(graph, frames, "reference").spikes[last].reshape(len(frames), -1)
    print(f"{last}: {int(fired.sum())} spikes in {len(frames)} frames, {int((fired != expected).sum())} different")
    print(
        f"activity followed by the ensemble: {float(simulator.data[followed][-1, 0]):.3f}, "
        f"spikes per unit and frame: {fired.mean():.3f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
