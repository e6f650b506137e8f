"""A network of the paper's size is lowered without expanding: about 110 million synapses stay six kernels."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.costs.inspection import inspect_graph  # noqa: E402
from strop.errors import CapacityError  # noqa: E402
from strop.graph.capacity import memory_limit  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator  # noqa: E402

L = keras.layers


@pytest.fixture(scope="module")
def model() -> keras.Model:
    layers: list[keras.layers.Layer] = [L.Input((28, 28, 1))]
    for n, (size, filters) in enumerate(((7, 32), (7, 64), (5, 64), (5, 64), (3, 128), (3, 128))):
        layers += [L.Conv2D(filters, size, padding="same"), SpikingBReLU(1.0)]
        if n % 2:
            layers.append(L.MaxPooling2D(2))
    layers += [L.Flatten(), L.Dense(200), SpikingBReLU(1.0), SoftmaxDecode(key_generator(10, 200, seed=0))]
    model = keras.Sequential(layers)
    randomise(model, np.random.default_rng(0))
    return model


def test_lowering_expands_nothing(model: keras.Model) -> None:
    strop.lower(model)  # imports and first calls are not what is measured
    tracemalloc.start()
    begin = time.process_time()
    graph = strop.lower(model)
    seconds = time.process_time() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bounds of the design are 2 s and 300 MB; an expanded convolution would cost gigabytes and minutes.
    assert peak < 300e6
    assert seconds < 2.0 * 4, "tracing allocations makes everything slower, but not this much"
    assert graph.synapses == pytest.approx(110e6, rel=0.1)


def test_quantising_and_proving_expand_nothing(model: keras.Model) -> None:
    graph = strop.quantize(strop.lower(model), "spinnaker")
    tracemalloc.start()
    certificate = strop.certify(graph, "spinnaker")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert certificate.holds
    assert peak < 500e6
    assert graph.synapses > 100e6


def test_inspection_says_what_expanding_would_cost(model: keras.Model) -> None:
    graph = strop.lower(model)
    found = inspect_graph(graph)
    by_name = {row.name: row for row in found.populations}
    first = by_name[graph.population_names[0]]
    # 28 x 28 windows of 7 x 7, less what hangs over the border: (28 * 7 - 2 * (1 + 2 + 3)) squared.
    assert first.synapses == 184**2 * 32
    assert first.fan_in == 49
    assert found.totals["expanded_bytes"] == 24 * graph.synapses
    assert found.totals["stored_bytes"] < found.totals["expanded_bytes"] / 50


@pytest.mark.several_extras
def test_simulators_refuse_what_does_not_fit_before_they_allocate(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("brian2")
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e9")
    assert memory_limit() == 10**9
    with pytest.raises(CapacityError, match=r"Brian2 synapses needs about .* GB, the limit is 1.0 GB"):
        strop.build(strop.lower(model), "brian2", convolutions="expanded")


@pytest.mark.several_extras
def test_brian2_keeps_kernels_where_synapses_do_not_fit(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("brian2")
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e9")
    frames = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    graph = strop.lower(model)
    wanted = strop.simulate(graph, frames, "reference").spikes
    found = strop.simulate(graph, frames, "brian2", target="numpy").spikes
    for name, spikes in wanted.items():
        np.testing.assert_array_equal(found[name], spikes)


def test_the_oracle_runs_it_unexpanded(model: keras.Model) -> None:
    frames = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    graph = strop.lower(model)
    result = strop.simulate(graph, frames, "reference")
    assert result.output.shape == (2, 10)
    assert result.spikes[graph.population_names[0]].any()
