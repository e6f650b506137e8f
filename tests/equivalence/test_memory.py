"""What is estimated before a network is built is no less than what building and running it takes, on every backend.

A process of its own measures the peak; with a limit a little below that, the same network must be refused.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from strop.errors import CapacityError
from strop.graph import Convolution, Dense, Graph, Input, Population, compose
from strop.graph.operators import Select
from strop.running.registry import get_backend

# Backends that expand convolutions into synapses.
EXPANDING = {"brian2", "brian2-standalone", "pynn-nest", "pynn-brian2", "pynn-neuron"}


def dense_network() -> Graph:
    """400,000 synapses, in one projection."""
    weight = np.random.default_rng(0).normal(size=(632, 632))
    return Graph.from_nodes(
        [Input("x", (632,), "binary")], [Population("a", (632,), 1.0, 0.0)], [("x", "a", Dense(weight))], (), ["a"]
    )


def image_network() -> Graph:
    """390,000 synapses, and 3,872 neurons: two convolutions and a few sums."""
    rng, n = np.random.default_rng(0), 15
    padding = ((2, 2), (2, 2))
    first = Convolution((n, n, 1), rng.normal(size=(5, 5, 1, 8)), (1, 1), (1, 1), padding)
    second = Convolution((n, n, 8), rng.normal(size=(5, 5, 8, 8)), (1, 1), (1, 1), padding)
    last = compose(Select((n, n, 8), np.arange(n * n * 8)), Dense(rng.normal(size=(n * n * 8, 10))))
    assert last is not None
    links = [("x", "a", first), ("a", "b", second), ("b", "c", last)]
    populations = [Population(name, link.shape_out, 3.0, 0.0) for _, name, link in links]
    return Graph.from_nodes([Input("x", (n, n, 1), "binary")], populations, links, (), ["c"])


# Brian2 would keep convolutions as kernels where their synapses do not fit.
OPTIONS = {"brian2": {"convolutions": "expanded"}}
NETWORKS = {"dense": dense_network, "image": image_network}


def measure(backend: str, network: str) -> int:
    """Return the bytes that one network takes at the peak, beyond what the simulator takes anyway."""
    import threading

    import psutil

    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], process.memory_info().rss)

    small = Graph.from_nodes(
        [Input("x", (3,), "binary")], [Population("a", (3,), 1.0, 0.0)], [("x", "a", Dense(np.eye(3)))], (), ["a"]
    )
    graph = NETWORKS[network]()
    for each in (small, graph):
        before = process.memory_info().rss
        watching = threading.Thread(target=watch)
        if each is graph:
            watching.start()
        runner = get_backend(backend).prepare(each, **OPTIONS.get(backend, {}))
        runner.run({"x": np.ones((2, *each.inputs[0].shape), dtype=bool)})
        if each is small:
            runner.close()
    done.set()
    watching.join()
    return peak[0] - before


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_let_through_fits(backend: str, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend not in EXPANDING:
        pytest.skip(f"{backend} keeps convolutions as they are")
    graph = NETWORKS[network]()
    run = subprocess.run([sys.executable, __file__, backend, network], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    taken = int(run.stdout.split()[-1])
    # More than the weights alone, or the measurement says nothing.
    assert taken > 16 * graph.synapses
    monkeypatch.setenv("STROP_MEMORY_LIMIT", str(round(0.95 * taken)))
    with pytest.raises(CapacityError, match="expanding"):
        get_backend(backend).prepare(graph, **OPTIONS.get(backend, {}))


if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
