"""strop inside a Brian2 script: several networks, noise and plasticity behind them, a lesion, a reset, other processes.

    python examples/inside_brian2.py [--frames 40]

docs/inside-brian2.md goes through it. What the script sets for itself (single precision, a clock of its own) is left
alone, and changes no spike of the networks: each is compared with the reference.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import brian2 as b2
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

    # The script's own settings, for what it builds itself.
    b2.prefs.codegen.target = "numpy"
    b2.prefs.core.default_float_dtype = np.float32
    b2.defaultclock.dt = 0.1 * b2.ms

    # Two networks of the same graph, and one of other steps, in one Brian2 network.
    left = strop.build(graph, "brian2", target="numpy", prefix="left_")
    right = strop.build(graph, "brian2", target="numpy", prefix="right_")
    slow = strop.build(graph, "brian2", target="numpy", dt=2e-3)
    networks = (left, right, slow)
    monitors = [b2.SpikeMonitor(net.units) for net in networks]

    # Behind the left one: noisy neurons on the script's own clock, over synapses that learn from pairs of spikes
    # (STDP). That they lead from one clock to another is meant.
    b2.BrianLogger.suppress_name("synapses_dt_mismatch")
    noisy = b2.NeuronGroup(
        20, "du/dt = -u / (5*ms) + 0.2 * xi / sqrt(5*ms) : 1", threshold="u > 1", reset="u = 0", method="euler"
    )
    learning = b2.Synapses(
        left.populations[last],
        noisy,
        "weight : 1\ndpre/dt = -pre / (10*ms) : 1 (event-driven)\ndpost/dt = -post / (10*ms) : 1 (event-driven)",
        on_pre="u_post += weight\npre += 0.01\nweight = clip(weight + post, 0, 0.2)",
        on_post="post -= 0.012\nweight = clip(weight + pre, 0, 0.2)",
    )
    learning.connect(p=0.3)
    learning.weight = 0.08
    heard = b2.SpikeMonitor(noisy)
    together = b2.Network([net.objects for net in networks], monitors, noisy, learning, heard)
    together.store()

    left.present(frames)
    right.present(frames[::-1])
    slow.present(frames)
    together.run(slow.duration(frames))
    different = sum(
        wrong(net, monitor, shown, 0)
        for net, monitor, shown in zip(networks, monitors, (frames, frames[::-1], frames), strict=True)
    )
    changed = float(np.abs(learning.weight - 0.08).mean())
    print(f"behind the network: {heard.num_spikes} spikes, weights changed by {changed:.4f} on average")
    print(f"three networks at once: spikes that are not as expected: {different}")

    # A lesion: a third of all synapses falls silent, in place; the spikes are those of the graph without them.
    rng = np.random.default_rng(0)
    lesioned = {pair: values * (rng.random(len(values)) > 1 / 3) for pair, values in left.weights().items()}
    left.set_weights(lesioned)
    left.present(frames)
    together.run(left.duration())
    different += wrong(left, monitors[0], frames, left.drive.starts[-1], with_weights(graph, lesioned))
    print(f"after the lesion: spikes that are not as expected: {different}")

    # Brian2's own reset: back to where the network was stored, weights and waiting frames included.
    together.restore()
    left.present(frames[::-1])
    together.run(left.duration())
    different += wrong(left, monitors[0], frames[::-1], 0)
    print(f"after the reset: spikes that are not as expected: {different}")

    # Other processes: a graph is sent to them as it is.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        counts = list(pool.map(count_spikes, [graph] * 2, [frames, frames[::-1]]))
    expected = int(sum(spikes.sum() for spikes in strop.simulate(graph, frames, "reference").spikes.values()))
    print(f"spikes in two other processes: {counts}, expected {expected} in each")

    report = strop.verify(model, frames, labels, backends=["brian2"], options={"brian2": {"target": "numpy"}})
    print(report)
    return 0 if report.passed and different == 0 and counts == [expected] * 2 else 1


def count_spikes(graph: Graph, frames: np.ndarray) -> int:
    """Simulate in this process and return how many spikes there were."""
    result = strop.simulate(graph, frames, "brian2", target="numpy")
    return int(sum(spikes.sum() for spikes in result.spikes.values()))


def wrong(net: b2.Network, monitor: b2.SpikeMonitor, frames: np.ndarray, start: int, graph: Graph | None = None) -> int:
    """Return how many spikes of frames that entered from step `start` on are not those of the reference."""
    expected = strop.simulate(graph or net.graph, frames, "reference").spikes
    steps = np.rint(np.asarray(monitor.t / net.strop_clock.dt)).astype(int)
    different = 0
    for name, spikes in expected.items():
        span, first = net.spans[name], start + net.graph.depth(name)
        seen = np.zeros((len(frames), span.stop - span.start), dtype=bool)
        unit = np.asarray(monitor.i)
        own = (unit >= span.start) & (unit < span.stop) & (steps >= first) & (steps < first + len(frames))
        seen[steps[own] - first, unit[own] - span.start] = True
        different += int((seen != spikes.reshape(seen.shape)).sum())
    return different


if __name__ == "__main__":
    raise SystemExit(main())
