"""The Nengo network: which transform says what, thresholds hit exactly, and a user's own script around it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_graphs import random_frames, random_graph

from strop.conformance import golden_case
from strop.errors import BackendError, CapacityError
from strop.export.folders import export
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Scale,
    Select,
    Sparse,
    SumPool,
)
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend
from strop_backends.nengo import load_nengo

try:
    nengo = load_nengo()
except ImportError:
    pytest.skip("nengo is not installed", allow_module_level=True)

import strop
from strop_backends.nengo.neuron import MemorylessThreshold
from strop_backends.nengo.transforms import transform_of

RNG = np.random.default_rng(11)


def run(graph: Graph, frames: Any, **options: Any) -> dict[str, Any]:
    return strop.simulate(graph, frames, "nengo", **options).spikes


# The neuron ----------------------------------------------------------------------------------------------


def test_neuron_fires_at_its_threshold_and_not_one_step_of_float64_below() -> None:
    threshold = np.array([0.5, 0.1, -0.3, 0.0, 1e-300])
    current = np.concatenate([threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)])
    output = np.full(15, 7.0)
    MemorylessThreshold().step(0.001, current, output, np.tile(threshold, 3))
    assert output.tolist() == [1.0] * 5 + [0.0] * 5 + [1.0] * 5


def test_neuron_survives_pickling_repr_and_comparison() -> None:
    neuron = MemorylessThreshold(threshold=[0.25, 0.75], amplitude=2.0)
    again = pickle.loads(pickle.dumps(neuron))
    assert again == neuron
    assert hash(again) == hash(neuron)
    assert neuron != MemorylessThreshold(threshold=[0.25, 0.5], amplitude=2.0)
    assert again.threshold.tolist() == [0.25, 0.75]
    assert repr(MemorylessThreshold(0.25)) == "MemorylessThreshold(threshold=array(0.25))"
    assert repr(MemorylessThreshold()) == "MemorylessThreshold()"
    assert eval(repr(neuron), {"MemorylessThreshold": MemorylessThreshold, "array": np.array}) == neuron
    output = np.zeros(2)
    again.step(0.001, np.array([0.5, 0.5]), output, again.threshold)
    assert output.tolist() == [2.0, 0.0]


def test_neuron_has_rates_gains_and_biases_that_agree() -> None:
    neuron = MemorylessThreshold(threshold=[0.5, 1.0])
    gain, bias = neuron.gain_bias([1.0, 1.0], [0.25, -0.5])
    assert neuron.max_rates_intercepts(gain, bias)[1].tolist() == [0.25, -0.5]
    rates = neuron.rates(np.array([0.25, -0.5, -0.75]), gain, bias)
    assert rates.tolist() == [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("threshold", [np.nan, np.inf, [[0.5]]])
def test_neuron_refuses_thresholds_that_are_none(threshold: Any) -> None:
    with pytest.raises(nengo.exceptions.ValidationError, match="finite number"):
        MemorylessThreshold(threshold)


def test_neuron_refuses_a_wrong_number_of_thresholds() -> None:
    with nengo.Network() as network:
        nengo.Ensemble(3, 1, neuron_type=MemorylessThreshold([0.5, 0.5]), gain=np.ones(3), bias=np.zeros(3))
    with pytest.raises(nengo.exceptions.ValidationError, match="2 values for 3 neurons"):
        nengo.Simulator(network, progress_bar=False)


def test_neuron_works_in_a_network_of_the_users_own() -> None:
    with nengo.Network(seed=1) as network:
        drive = nengo.Node(lambda t: 0.5 if t < 0.0035 else 0.25)
        units = nengo.Ensemble(2, 1, neuron_type=MemorylessThreshold([0.5, 0.25]), gain=np.ones(2), bias=np.zeros(2))
        nengo.Connection(drive, units.neurons, transform=np.ones((2, 1)), synapse=None)
        probe, threshold = nengo.Probe(units.neurons), nengo.Probe(units.neurons, "threshold")
    with nengo.Simulator(network, progress_bar=False) as sim:
        sim.run_steps(5)
    assert sim.data[probe].tolist() == [[1, 1]] * 3 + [[0, 1]] * 2
    assert sim.data[threshold][-1].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("optimize", [False, True])
def test_optimiser_may_merge_populations_of_equal_types(optimize: bool) -> None:
    graph = Graph.from_nodes(
        (Input("x", (3,), "current"),),
        (Population("a", (2,), [0.5, 1.0], 0.0), Population("b", (2,), [0.5, 1.0], 0.0)),
        [("x", "a", Dense(np.eye(3, 2))), ("x", "b", Dense(np.eye(3, 2)))],
        outputs=["a", "b"],
    )
    network = strop.build(graph, "nengo", probes=True)
    network.present(np.array([[0.5, 1.0, 0], [0.25, 0.5, 0], [2, 0, 0]], np.float32))
    with nengo.Simulator(network, progress_bar=False, optimize=optimize) as sim:
        sim.run_steps(3)
    for name in ("a", "b"):
        assert sim.data[network.probed[name]].tolist() == [[1, 1], [0, 0], [1, 0]]


# Transforms ----------------------------------------------------------------------------------------------


def convolution(
    padding: Any, shape: Any = (6, 5, 2), strides: Any = (1, 1), size: Any = (3, 3), **more: Any
) -> Convolution:
    groups = more.get("groups", 1)
    kernel = RNG.integers(-4, 5, (*size, shape[-1] // groups, 4)) / 4
    more.setdefault("dilation", (1,) * len(size))
    return Convolution(shape, kernel, strides, padding=padding, **more)


CASES = [
    (Dense(RNG.integers(-4, 5, (5, 3)) / 4), "SpikeDense"),
    (Dense(RNG.integers(-4, 5, (5, 3)) / 4, (2, 4)), "SpikeConvolution"),
    (Scale((2, 3), [1.0, 2.0, 0.5]), "Dense"),
    (Composed((Select((2, 3), np.arange(6)), Dense(np.eye(6, 2)))), "SpikeDense"),
    (Select((2, 3), np.arange(6)), "NoTransform"),
    (Select((2, 3), np.array([3, -1, 0])), "SpikeSparse"),
    (SumPool((5, 4, 2), (2, 2), (2, 2), ((0, 1), (0, 0))), "SpikePool"),
    (Sparse((2, 2), (3,), [0, 1, 3], [2, 2, 0], [0.5, 1.0, -1.0]), "SpikeSparse"),
    (convolution(((0, 0), (0, 0))), "SpikeConvolution"),
    (convolution(((0, 0), (0, 0)), strides=(2, 3)), "SpikeConvolution"),
    (convolution(((1, 1), (1, 1))), "SpikeConvolution"),
    (convolution(((0, 1), (1, 1)), strides=(2, 2)), "SpikeConvolution"),
    (convolution(((0, 0), (0, 0)), groups=2), "SpikeConvolution"),
    (convolution(((1, 2), (1, 2)), size=(4, 4)), "SpikeConvolution"),
    (convolution(((0, 0),), shape=(9, 2), strides=(2,), size=(3,)), "SpikeConvolution"),
    (convolution(((2, 1), (2, 1)), size=(4, 4)), "SpikeSparse"),
    (convolution(((1, 0), (1, 1)), strides=(2, 2)), "SpikeSparse"),
    (convolution(((0, 0), (1, 1))), "SpikeSparse"),
    (convolution(((2, 2), (2, 2)), dilation=(2, 2)), "SpikeSparse"),
    (convolution(((0, 0), (0, 0)), strides=(2, 2), transposed=True), "SpikeSparse"),
    (convolution(((0, 0),) * 3, shape=(4, 4, 4, 1), size=(2, 2, 2), strides=(1, 1, 1)), "SpikeSparse"),
]


@pytest.mark.parametrize(("operator", "kind"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_transform_computes_what_the_operator_says(operator: Operator, kind: str) -> None:
    transform = transform_of(operator, "here")
    assert type(transform).__name__ == kind
    # Other simulators of Nengo networks know the base class.
    assert type(transform).__module__.startswith("nengo.") or type(transform).__base__.__module__.startswith("nengo.")
    graph = Graph.from_nodes(
        (Input("x", operator.shape_in, "current"),),
        (Population("p", operator.shape_out, 0.5, 0.25),),
        [("x", "p", operator)],
        outputs=["p"],
    )
    frames = RNG.integers(-4, 5, (40, *operator.shape_in)).astype(np.float32) / 4
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))["p"]
    assert 0 < wanted.sum() < wanted.size
    assert np.array_equal(run(graph, frames)["p"], wanted)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_give_every_spike(seed: int) -> None:
    graph = random_graph(seed)
    frames = random_frames(graph, 20, seed)
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
    spikes = run(graph, frames, dt=0.0007)
    assert {name: int(values.sum()) for name, values in spikes.items()} == {
        name: int(values.sum()) for name, values in wanted.items()
    }
    assert all(np.array_equal(spikes[name], wanted[name]) for name in wanted)


def test_random_networks_fire_at_all() -> None:
    rates = []
    for seed in range(40):
        graph = random_graph(seed)
        spikes = evaluate(graph, encode(graph, as_frames(graph, random_frames(graph, 20, seed))))
        rates += [values.mean() for values in spikes.values()]
    assert 0.2 < np.mean(rates) < 0.9


def skip_graph(encoding: str = "binary") -> Graph:
    """x -> a -> b -> c, and x -> c as well: the skip has a delay of three steps."""
    return Graph.from_nodes(
        (Input("x", (1,), encoding),),
        (Population("a", (1,), 0.5, 0.0), Population("b", (1,), 0.5, 0.0), Population("c", (1,), 2.0, 0.0)),
        [
            ("x", "a", Dense([[1.0]])),
            ("a", "b", Dense([[1.0]])),
            ("b", "c", Dense([[1.0]])),
            ("x", "c", Dense([[1.0]])),
        ],
        outputs=["c"],
    )


def test_every_population_answers_a_frame_in_the_step_in_which_it_is_played() -> None:
    network = strop.build(skip_graph(), "nengo", probes=True)
    network.present(np.array([[0], [1], [0], [1], [1]], np.float32), start=2)
    with nengo.Simulator(network, progress_bar=False) as sim:
        sim.run_steps(8)
    for name in ("a", "b", "c"):
        assert sim.data[network.probed[name]][:, 0].tolist() == [0, 0, 0, 1, 0, 1, 1, 0]


def test_chunks_follow_one_another_without_a_trace() -> None:
    graph = skip_graph()
    runner = get_backend("nengo").prepare(graph)
    for bits in ([1, 0, 1], [0, 1], [1], [0]):
        signals = encode(graph, as_frames(graph, np.array(bits, np.float32)[:, None]))
        assert runner.run(signals)["c"][:, 0].tolist() == [bool(bit) for bit in bits]
    runner.close()


# Limits --------------------------------------------------------------------------------------------------


def test_network_is_labelled_as_the_graph() -> None:
    network = strop.build(skip_graph(), "nengo")
    assert {ensemble.label for ensemble in network.ensembles} == {"a", "b", "c"}
    assert sorted(connection.label for connection in network.connections) == [
        "a -> b",
        "b -> c",
        "x -> a",
        "x -> c",
    ]
    assert all(connection.synapse is None for connection in network.connections)
    assert not network.probes


def test_single_precision_is_refused() -> None:
    nengo.rc.set("precision", "bits", "32")
    try:
        with pytest.raises(BackendError, match="float32, which rounds"):
            get_backend("nengo").prepare(skip_graph())
    finally:
        nengo.rc.set("precision", "bits", "64")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(BackendError, match="optimise"):
        strop.build(skip_graph(), "nengo", optimise=True)
    with pytest.raises(BackendError, match="probe"):
        get_backend("nengo").prepare(skip_graph(), probe=True)


def test_expansion_beyond_the_memory_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1000")
    operator = SumPool((40, 40, 2), (2, 2), (2, 2), ((0, 0), (0, 0)))
    with pytest.raises(CapacityError, match=r"conv -> pool into 3,200 synapses .* 294\.4 kB"):
        transform_of(operator, "conv -> pool")


# Trained networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["host", "bitplane", "binary", "current"])
@pytest.mark.parametrize("name", ["original_whetstone_mlp.h5", "doryta-lenet-mnist-6-16"])
def test_trained_networks_verify(shared: Path, name: str, encoding: str) -> None:
    data = np.load(shared / "data" / "mnist.npz")
    model = strop.load_model(shared / "models" / name)
    report = strop.verify(model, data["x_test"][:200], data["y_test"][:200], backends=("nengo",), encoding=encoding)
    backend = report.backends["nengo"]
    assert all(layer.spikes > 0 for layer in backend.layers)
    assert backend.faults == 0
    assert report.passed
    assert encoding == "binary" or backend.accuracy > 0.9


# Outside strop -------------------------------------------------------------------------------------------


def test_folder_runs_without_strop_and_compares_every_spike(tmp_path: Path) -> None:
    case = golden_case("classifier")
    out = export(case.graph, "nengo", tmp_path / "out", frames=case.frames["image"], labels=case.classes)
    command = [sys.executable, "-I", "run.py"]
    result = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "every spike is as expected" in result.stdout
    assert "accuracy 100.00 %" in result.stdout
    data = dict(np.load(out / "network.npz"))
    data["threshold:dense"] = np.nextafter(data["threshold:dense"], np.inf) + 0.25
    np.savez(out / "network.npz", **data)
    result = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert "spikes DIFFER" in result.stdout


def test_skip_delays_run_in_the_folder_too(tmp_path: Path) -> None:
    case = golden_case("skip_delays")
    out = export(case.graph, "nengo", tmp_path / "out", frames=case.frames["x"])
    result = subprocess.run([sys.executable, "-I", "run.py"], cwd=out, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
