"""strop inside a PyNN script: two networks, noise and plasticity behind them, queues, a lesion, a reset, a check.

    python examples/inside_pynn.py [--simulator nest|brian2|neuron] [--frames 40] [--timestep 0.1]

docs/inside-pynn.md goes through it. The script sets its simulator up, builds cells of its own and runs; each network of
strop's is compared with the reference, spike for spike.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

import numpy as np

import strop
from strop.graph import with_weights


def set_up(simulator: str, timestep: float) -> Any:
    """What each simulator wants of `setup`; NEST rounds delays, so they stand a little off whole steps."""
    # strop imports PyNN's modules without their banners and warnings; `import pyNN.nest as sim` does as well.
    import_module("strop_backends.pynn.common.dialect").dialect_for(f"pyNN.{simulator}")
    sim = import_module(f"pyNN.{simulator}")
    options: dict[str, Any] = {}
    if simulator == "nest":
        options = {"max_delay": 8.25 * timestep, "spike_precision": "on_grid", "verbosity": "error", "t_flush": 5.0}
    sim.setup(timestep=timestep, min_delay=1.001 * timestep, **options)
    if simulator == "brian2":
        import_module("brian2").prefs.codegen.target = "numpy"  # for PyNN's own cells; compiling them takes a minute
    return sim


def different(network: Any, expected: dict[str, Any], start: int | None = None) -> int:
    """Count spikes in PyNN's recordings that are not as expected."""
    count = len(next(iter(expected.values())))
    found = network.spikes(count, start)
    return sum(int((found[name] != expected[name]).sum()) for name in found)


def main() -> int:
    from strop.keras.recipes import train_digits

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulator", choices=("nest", "brian2", "neuron"), default="nest")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--timestep", type=float, default=0.1)
    options = parser.parse_args()

    trained = train_digits(epochs=options.epochs, conv=False)
    frames = trained.x_test[: options.frames]
    graph = strop.lower(trained.model)
    last = graph.population_names[-1]
    expected = strop.simulate(graph, frames, "reference").spikes
    backwards = {name: spikes[::-1] for name, spikes in expected.items()}

    sim = set_up(options.simulator, options.timestep)
    left, right = strop.build(graph, sim), strop.build(graph, sim)

    # Cells of the script's own behind the left network, with noise, over synapses that learn where PyNN offers it.
    noise = sim.Population(20, sim.SpikeSourcePoisson(rate=300.0), label="noise")
    noisy = sim.Population(20, sim.IF_curr_exp(tau_m=6.0, tau_refrac=1.0, v_thresh=-60.0), label="noisy")
    sim.Projection(noise, noisy, sim.OneToOneConnector(), sim.StaticSynapse(weight=0.5, delay=1.001 * options.timestep))
    learning = sim.STDPMechanism(
        timing_dependence=sim.SpikePairRule(tau_plus=10.0, tau_minus=10.0, A_plus=0.05, A_minus=0.06),
        weight_dependence=sim.AdditiveWeightDependence(w_min=0.0, w_max=1.0),
        # Which part of a delay counts for plasticity differs, and PyNN refuses the other.
        dendritic_delay_fraction=0 if options.simulator == "brian2" else 1,
        weight=0.3,
        delay=options.timestep,
    )
    learned = sim.Projection(left.populations[last], noisy, sim.AllToAllConnector(), learning)
    before = learned.get("weight", format="array")
    noisy.record("spikes")
    left.record()
    right.record()

    # Frames queue: what is presented before the last ones have entered follows them.
    half = len(frames) // 2
    left.present(frames[:half])
    first = left.start
    end = max(left.present(frames[half:]), right.present(frames[::-1]))
    sim.run_until(end)
    wrong = [different(left, expected, first), different(right, backwards)]
    print(f"two networks at once, {options.timestep} ms a step: spikes that are not as expected: {sum(wrong)}")
    changed = np.abs(learned.get("weight", format="array") - before)
    fired = sum(len(train) for train in noisy.get_data("spikes").segments[-1].spiketrains)
    print(f"behind the network: {fired} spikes, weights changed by {changed.max():.4f}")

    # A reset, and a lesion: every third synapse of one projection is cut, in the simulator.
    sim.reset()
    pair = next(pair for pair in left.weights() if pair[0] in graph.population_names)
    weights = left.projections[pair].get("weight", format="array")
    cut = np.arange(weights.size).reshape(weights.shape) % 3 == 0
    left.projections[pair].set(weight=np.where(cut, 0.0, weights))
    lesioned = with_weights(graph, left.weights())
    sim.run_until(max(left.present(frames), right.present(frames)))
    after = strop.simulate(lesioned, frames, "reference").spikes
    wrong = [different(left, after), different(right, expected)]
    moved = sum(int((after[name] != expected[name]).sum()) for name in after)
    print(f"after a reset and a lesion that changes {moved} spikes: not as expected: {sum(wrong)}")

    # Verifying leaves all this alone: it runs in a process of its own, since the simulator is in use.
    time = sim.get_current_time()
    report = strop.verify(trained.model, frames, backends=[f"pynn-{options.simulator}"])
    print(report)
    print(f"the script's network is where it was: {sim.get_current_time() == time and left.alive}")
    sim.end()
    return 0 if report.passed and not any(wrong) else 1


if __name__ == "__main__":
    raise SystemExit(main())
