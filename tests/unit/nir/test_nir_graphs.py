"""NIR: what is written means the same by NIR's own equations, reads back equal, and what cannot be said is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_graphs import random_frames, random_graph

import strop
from strop.conformance import golden_case, golden_names
from strop.errors import BackendError, CapacityError, UnsupportedLayerError
from strop.graph import (
    Convolution,
    Dense,
    Graph,
    Input,
    Population,
    Projection,
    Readout,
    Select,
    SumPool,
    difference,
)

nir = pytest.importorskip("nir")

from nir_networks import EQUATIONS, assert_same_spikes, chain, threshold  # noqa: E402

from strop_backends.nir import read, write  # noqa: E402
from strop_backends.nir.neurons import strictly_below  # noqa: E402
from strop_backends.nir.writing import to_nir  # noqa: E402

# Written and evaluated -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_names())
@pytest.mark.parametrize("delays", ["auto", "never"])
def test_golden_cases_give_every_spike_by_nirs_equations(name: str, delays: str, tmp_path: Path) -> None:
    case = golden_case(name)
    nir.write(str(tmp_path / "net.nir"), to_nir(case.graph, delays=delays))
    written = nir.read(str(tmp_path / "net.nir"), type_check=True)
    assert assert_same_spikes(case.graph, written, case.frames) > 0


@pytest.mark.parametrize("name", [name for name in golden_names() if golden_case(name).precision == "float32"])
def test_golden_cases_give_every_spike_in_float32(name: str) -> None:
    case = golden_case(name)
    written = to_nir(case.graph, precision="float32")
    kinds = {
        v.dtype
        for n in written.nodes.values()
        for k in ("weight", "bias", "threshold")
        if hasattr(n, k)
        for v in [getattr(n, k)]
    }
    assert kinds <= {np.dtype(np.float32), np.dtype(np.float64)}
    assert all(n.threshold.dtype == np.float32 for n in written.nodes.values() if isinstance(n, nir.Threshold))
    assert assert_same_spikes(case.graph, written, case.frames, np.float32) > 0


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_give_every_spike_by_nirs_equations(seed: int) -> None:
    graph = random_graph(seed)
    assert_same_spikes(
        graph, to_nir(graph, delays=["auto", "always", "never"][seed % 3]), random_frames(graph, 6, seed)
    )


def test_threshold_is_the_next_number_below_for_a_strict_comparison() -> None:
    threshold = np.array([0.5, 0.0, -1.0, 0.1, 1e-310])
    below = strictly_below(threshold, "float64")
    assert (threshold > below).all()
    assert np.array_equal(np.nextafter(below, np.inf), threshold)
    short = strictly_below(threshold, "float32")
    assert short.dtype == np.float32
    assert short[0] == np.nextafter(np.float32(0.5), np.float32(0))
    # float32(0.1) lies above 0.1, so it must fire: the number below it does not reach 0.1.
    assert short[3] == np.nextafter(np.float32(0.1), np.float32(0))
    assert (short.astype(np.float64) < threshold).all()
    assert (np.nextafter(short, np.float32(np.inf)).astype(np.float64) >= threshold).all()


def test_trained_lenet_is_written_with_nirs_own_convolutions_and_pools(shared: Path) -> None:
    graph = strop.lower(strop.load_model(shared / "models" / "doryta-lenet-mnist-6-16"))
    frames = np.load(shared / "data" / "mnist.npz")["x_test"][:100]
    written = to_nir(graph, precision="float32")
    kinds = [type(node).__name__ for node in written.nodes.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "Input": 1,
        "Conv2d": 2,
        "SumPool2d": 2,
        "Flatten": 1,
        "Affine": 4,
        "Threshold": 7,
        "Output": 1,
    }
    assert assert_same_spikes(graph, to_nir(graph), frames) > 10_000
    assert difference(graph, read(written)) is None


# Written and read back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", golden_names())
def test_golden_graphs_come_back_equal(name: str, precision: str, tmp_path: Path) -> None:
    graph = golden_case(name).graph
    if precision == "float32" and golden_case(name).precision == "float64":
        pytest.skip("holds weights that float32 cannot hold, which is refused")
    write(graph, tmp_path / "net.nir", precision=precision)
    assert difference(graph, read(tmp_path / "net.nir")) is None


@pytest.mark.parametrize("model", ["original_whetstone_mlp.h5", "doryta-ffsnn-mnist", "doryta-lenet-mnist-6-16"])
@pytest.mark.parametrize("encoding", ["host", "bitplane", "binary"])
def test_trained_graphs_come_back_equal_and_verify(shared: Path, model: str, encoding: str, tmp_path: Path) -> None:
    graph = strop.lower(strop.load_model(shared / "models" / model), encoding)
    write(graph, tmp_path / "net.nir")
    again = read(tmp_path / "net.nir")
    assert difference(graph, again) is None
    frames = np.load(shared / "data" / "mnist.npz")["x_test"][:50]
    report = strop.verify(again, frames, backends=("reference",))
    assert report.passed
    assert all(layer.spikes > 0 for layer in report.backends["reference"].layers)


def test_a_trained_network_in_nir_is_a_keras_model(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    for name in ("classifier", "convolution_2d_padded_before", "pool_overlapping_1d", "encoding_bitplane"):
        write(golden_case(name).graph, tmp_path / f"{name}.nir")
        graph = read(tmp_path / f"{name}.nir")
        assert difference(strop.lower(strop.to_keras(graph)), graph) is None


def test_read_outs_answer_the_same_behind_a_file(tmp_path: Path) -> None:
    seen = set()
    for seed in range(40):
        graph = random_graph(seed)
        if not graph.readouts or (graph.readouts[0].kind, graph.readouts[0].argmax) in seen:
            continue
        seen.add((graph.readouts[0].kind, graph.readouts[0].argmax))
        nir.write(tmp_path / "net.nir", to_nir(graph))
        again, frames = read(tmp_path / "net.nir"), random_frames(graph, 4, seed)
        ours, theirs = (strop.simulate(g, frames, "reference") for g in (graph, again))
        np.testing.assert_allclose(ours.output, theirs.output, rtol=1e-12)
        assert np.array_equal(ours.classes, theirs.classes)
    assert len(seen) > 8


def test_metadata_that_describe_no_read_out_are_refused() -> None:
    nodes = [nir.Affine(np.eye(2), np.zeros(2)), threshold(), nir.Affine(np.eye(2), np.ones(2))]
    written = chain(*nodes, shape=[2])
    output = next(node for node in written.nodes.values() if isinstance(node, nir.Output))
    for after in ({"shape_in": [3], "index": [0]}, {"shape_in": [2]}, {"shape_in": "two", "index": [0]}):
        output.metadata = {"strop": json.dumps({"kind": "softmax", "shape": [2], "after": after})}
        with pytest.raises(UnsupportedLayerError, match="leave the metadata out"):
            read(written)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_come_back_with_the_same_synapses(seed: int) -> None:
    """Composed operators may come back simplified; every synapse, threshold, bias and delay is the same."""
    graph = random_graph(seed)
    again = read(to_nir(graph))
    assert again.population_names == graph.population_names
    assert again.depths == graph.depths
    for a, b in zip(graph.populations, again.populations, strict=True):
        assert np.array_equal(a.threshold, b.threshold)
        assert np.array_equal(a.bias, b.bias)
    for ours, theirs in zip(graph.readouts, again.readouts, strict=True):
        assert (ours.kind, ours.argmax, ours.shape) == (theirs.kind, theirs.argmax, theirs.shape)
        assert (ours.after is None) == (theirs.after is None)
        if ours.after is not None and theirs.after is not None:
            assert type(ours.after) is type(theirs.after)
            assert all(np.array_equal(x, y) for x, y in zip(ours.after.to_coo(), theirs.after.to_coo(), strict=True))
    for p, q in zip(graph.projections, again.projections, strict=True):
        assert (p.source, p.target, p.delay) == (q.source, q.target, q.delay)
        assert all(np.array_equal(x, y) for x, y in zip(p.operator.to_coo(), q.operator.to_coo(), strict=True))


def test_hint_that_does_not_fit_the_weights_does_not_count() -> None:
    graph = golden_case("convolution_2d_grouped").graph
    written = to_nir(graph)
    (node,) = [n for n in written.nodes.values() if isinstance(n, nir.Conv2d)]
    assert node.groups == 1
    assert isinstance(read(written).projections[1].operator, Convolution)
    assert read(written).projections[1].operator.groups == 2
    node.weight[0, 3] = 1.0  # off its group: it is one group now, whatever the hint says
    operator = read(written).projections[1].operator
    assert operator.groups == 1
    assert operator.kernel[0, 0, 3, 0] == 1.0


# What NIR cannot say -------------------------------------------------------------------------------------


def test_weight_that_float32_cannot_hold_is_refused() -> None:
    graph = golden_case("threshold_one_float64_apart").graph
    with pytest.raises(BackendError, match=r"target_from_relay holds the weight 0\.1, which float32 cannot hold"):
        to_nir(graph, precision="float32")


def test_matrix_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "100000")
    with pytest.raises(CapacityError, match="relay -> target: NIR has no Convolution like this one"):
        to_nir(_large_3d())


def _large_3d() -> Graph:
    op = Convolution((8, 8, 8, 1), np.ones((3, 3, 3, 1, 1)), (1, 1, 1), (1, 1, 1), ((1, 1),) * 3)
    return Graph.from_nodes(
        (Input("x", (8, 8, 8, 1)),),
        (Population("relay", (8, 8, 8, 1), 0.5, 0.0), Population("target", op.shape_out, 0.5, 0.0)),
        [("x", "relay", Select((8, 8, 8, 1), np.arange(512).reshape(8, 8, 8, 1))), ("relay", "target", op)],
        outputs=["target"],
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "float16"}, "precision must be one of float64, float32"),
        ({"delays": "some"}, "delays one of auto, always, never"),
        ({"pools": "some"}, "pools one of auto, sum, convolution"),
        ({"dt": 0.0}, "dt must be positive, got 0.0"),
        ({"profile": "snntorhc"}, "profile must be one of .*Did you mean 'snntorch'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says):
        to_nir(golden_case("dense").graph, **options)


def test_nodes_have_names_that_hdf5_and_python_take() -> None:
    written = to_nir(golden_case("names_that_are_no_identifiers").graph)
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in written.nodes)


def test_skips_get_delays_and_chains_do_not() -> None:
    kinds = [type(node).__name__ for node in to_nir(golden_case("skip_delays").graph).nodes.values()]
    assert kinds.count("Delay") == len(golden_case("skip_delays").graph.projections)
    assert "Delay" not in {type(node).__name__ for node in to_nir(golden_case("classifier").graph).nodes.values()}
    delays = {
        float(n.delay[0])
        for n in to_nir(golden_case("skip_delays").graph, dt=0.5).nodes.values()
        if isinstance(n, nir.Delay)
    }
    assert delays == {0.5, 1.0, 1.5, 2.0} & delays
    assert len(delays) >= 3


def test_read_out_of_populations_at_different_depths_is_aligned() -> None:
    graph = Graph(
        (Input("x", (2,), "binary"),),
        (Population("a", (2,), 0.5, 0.0), Population("b", (2,), 0.5, 0.0), Population("c", (2,), 1.5, 0.0)),
        (
            Projection("x", "a", Dense(np.eye(2)), 1),
            Projection("a", "b", Dense(np.eye(2)), 1),
            Projection("b", "c", Dense(np.eye(2)), 1),
            Projection("a", "c", Dense(np.eye(2)), 2),
        ),
        (Readout("out", "linear", ("a", "c"), (Dense(np.eye(2)), Dense(np.ones((2, 2)))), np.array([0.5, 0.0])),),
        ("out",),
    )
    written = to_nir(graph)
    frames = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    x = np.concatenate([frames, np.zeros((3, 2))])
    values, times = EQUATIONS.evaluate(written, {"x": x})
    assert times["out"] == 3
    assert np.array_equal(values["out"][3:], strop.simulate(graph, frames, "reference").output)
    assert difference(graph, read(written)) is None


# The folder ----------------------------------------------------------------------------------------------


def test_folder_runs_without_strop_and_compares_every_spike(tmp_path: Path) -> None:
    case = golden_case("classifier")
    from strop.export.folders import export

    labels = case.classes
    out = export(case.graph, "nir", tmp_path / "out", frames=case.frames["image"], labels=labels)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "frames.npz", "network.nir", "run.py", "standalone.py",
    ]  # fmt: skip
    command = [sys.executable, "-I", "run.py"]
    result = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "accuracy 100.00 %" in result.stdout
    frames = dict(np.load(out / "frames.npz"))
    key = next(key for key in frames if key.startswith("expected:dense"))
    frames[key] = ~frames[key]
    np.savez(out / "frames.npz", **frames)
    result = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert "spikes DIFFER" in result.stdout
    with pytest.raises(BackendError, match="quality"):
        export(case.graph, "nir", tmp_path / "other", quality=1)
    assert not (tmp_path / "other").exists()


def test_pool_with_uneven_padding_becomes_a_convolution() -> None:
    written = to_nir(golden_case("pool_or").graph)
    kinds = {type(node).__name__ for node in written.nodes.values()}
    assert kinds & {"Conv2d", "Affine", "Linear"}
    assert isinstance(read(written).projections[1].operator, SumPool)


@pytest.mark.parametrize("fields", [{"scaled_by": "Rescaling"}, {"dtype": "uint8", "scaled_by": "Rescaling"}])
def test_that_a_model_takes_whole_numbers_survives(fields: dict[str, str]) -> None:
    node = Input("x", (3,), **fields)
    graph = Graph.from_nodes([node], [Population("a", (2,), 0.5, 0.0)], [("x", "a", Dense(np.ones((3, 2))))], (), ["a"])
    again = read(to_nir(graph))
    assert (again.inputs[0].dtype, again.inputs[0].scaled_by) == (node.dtype, "Rescaling")
