"""NIR files that other tools wrote: read as what they mean, or refused by node and reason."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import strop
from strop.conformance import golden_case
from strop.errors import ModelFileError, UnsupportedLayerError

nir = pytest.importorskip("nir")

from nir_networks import EQUATIONS, chain, threshold  # noqa: E402

from strop_backends.nir import read  # noqa: E402


def test_strict_threshold_of_another_tool_does_not_fire_at_equality() -> None:
    graph = read(chain(nir.Affine(np.array([[1.0, 1.0]]), np.array([-1.0])), nir.Threshold(np.array([1.0])), shape=[2]))
    assert graph.populations[0].threshold.tolist() == [np.nextafter(1.0, 2.0)]
    frames = np.array([[1, 1], [1, np.nextafter(np.float32(1), np.float32(2))], [0, 1]], np.float32)
    assert strop.simulate(graph, frames, "reference").spikes["n1"][:, 0].tolist() == [False, True, False]


def test_convolutional_network_of_another_tool_is_read_channels_last() -> None:
    rng = np.random.default_rng(0)
    weight, dense = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(4, 3 * 2 * 2))
    convolve = nir.Conv2d((4, 4), weight, 1, "same", 1, 1, rng.normal(size=3))
    nodes = [
        convolve,
        nir.Threshold(np.full((3, 4, 4), 0.5)),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Threshold(np.full((3, 2, 2), 0.5)),
        nir.Flatten({"input": np.array([3, 2, 2])}, 0, -1),
        nir.Affine(dense, rng.normal(size=4)),
        nir.Threshold(np.zeros(4)),
    ]
    written = chain(*nodes, shape=[2, 4, 4])
    # "same" means numbers to the equations' evaluator.
    plain = nir.Conv2d((4, 4), weight, 1, 1, 1, 1, convolve.bias)
    values, _ = EQUATIONS.evaluate(
        chain(plain, *nodes[1:], shape=[2, 4, 4]), {"input": (x := rng.normal(size=(20, 2, 4, 4)).astype(np.float32))}
    )
    graph = read(written)
    assert graph.inputs[0].shape == (4, 4, 2)
    assert [population.shape for population in graph.populations] == [(4, 4, 3), (2, 2, 3), (4,)]
    spikes = strop.simulate(graph, np.moveaxis(x, 1, -1), "reference").spikes
    for name in ("n1", "n3"):
        assert np.array_equal(np.moveaxis(spikes[name], -1, 1), values[name] > 0.5)
    assert 0 < spikes["n6"].sum() < 80
    assert np.array_equal(spikes["n6"], values["n6"] > 0.5)


def test_integrate_and_fire_counts_as_a_threshold_for_one_step() -> None:
    fire = nir.IF(r=np.array([0.1, 3.0]), v_threshold=np.array([0.05, 1.0]))
    network = chain(nir.Linear(np.eye(2)), fire, shape=[2])
    with pytest.raises(UnsupportedLayerError, match=r"'n1' \(IF\) keeps its charge.*memoryless=True \(--memoryless\)"):
        read(network, dt=2.0)
    graph = read(network, dt=2.0, memoryless=True)
    assert "assumed: every frame finds n1 at rest" in graph.assumptions[0]
    # v = R I dt > v_thr: I > 0.05 / (0.1 * 2) and I > 1 / (3 * 2), in exact arithmetic of these float64.
    assert graph.populations[0].threshold == pytest.approx([0.25, 1 / 6])
    from fractions import Fraction

    for least, r, level in zip(graph.populations[0].threshold, fire.r, fire.v_threshold, strict=True):
        gain = Fraction(float(r)) * 2
        assert Fraction(float(least)) * gain > Fraction(float(level))
        assert Fraction(float(np.nextafter(least, 0))) * gain <= Fraction(float(level))


def test_leaky_integrate_and_fire_counts_as_a_threshold_for_one_step() -> None:
    leaky = nir.LIF(tau=np.array([0.02]), r=np.array([20.0]), v_leak=np.zeros(1), v_threshold=np.array([0.5]))
    network = chain(nir.Linear(np.ones((1, 2))), leaky, shape=[2])
    with pytest.raises(
        UnsupportedLayerError, match=r"'n1' \(LIF\) keeps 0.95 of its potential .* .tau = 0.02, dt = 0.001"
    ):
        read(network, dt=1e-3)
    graph = read(network, dt=1e-3, memoryless=True)
    assert graph.populations[0].threshold == pytest.approx([0.5])
    assert "keeps 0.95 of its potential" in graph.assumptions[0]
    with pytest.raises(UnsupportedLayerError, match=r"'n1' \(LIF\).*shorter than the step dt=1; pass the dt"):
        read(network)
    forgetful = nir.LIF(tau=np.array([0.02]), r=np.array([1.0]), v_leak=np.zeros(1), v_threshold=np.array([0.5]))
    graph = read(chain(nir.Linear(np.ones((1, 2))), forgetful, shape=[2]), dt=0.02)
    assert graph.populations[0].threshold == [np.nextafter(0.5, 1)]
    assert graph.assumptions == ()


def test_read_out_becomes_a_readout_and_its_winner_a_class() -> None:
    nodes = [
        nir.Affine(np.eye(2), np.zeros(2)),
        nir.Threshold(np.array([0.5, 0.5])),
        nir.Affine(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([0.0, 0.5, -1.0])),
    ]
    graph = read(chain(*nodes, shape=[2]))
    (readout,) = graph.readouts
    assert readout.kind == "linear"
    result = strop.simulate(graph, np.array([[1, 0], [0, 1], [0, 0]], np.float32), "reference")
    assert result.output.tolist() == [[1.0, 0.5, 0.0], [0.0, 1.5, 0.0], [0.0, 0.5, -1.0]]
    assert result.classes.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([nir.LI(np.ones(2), np.ones(2), np.zeros(2))], r"'n0' \(LI\): it integrates over time"),
        (
            [nir.CubaLIF(np.ones(2), np.ones(2), np.ones(2), np.zeros(2), np.ones(2))],
            r"'n0' \(CubaLIF\): its synaptic current outlasts",
        ),
        (
            [nir.LIF(np.ones(2), np.ones(2), np.full(2, 0.1), np.ones(2))],
            r"'n0' \(LIF\) has v_leak other than 0",
        ),
        ([nir.IF(np.ones(2), np.ones(2), np.ones(2))], r"'n0' \(IF\) has v_reset other than 0"),
        ([nir.IF(-np.ones(2), np.ones(2))], "resistance that is not positive"),
        (
            [
                nir.Affine(np.full((2, 2), 0.1), np.full(2, 0.1)),
                nir.Affine(np.full((2, 2), 0.1), np.ones(2)),
                threshold(),
            ],
            r"'n1' \(Affine\): a bias in front of this linear map",
        ),
        ([nir.Delay(np.array([1.0, 2.0])), threshold()], r"'n0' \(Delay\) delays its values by different times"),
        ([nir.Linear(np.eye(2))], r"'output' \(Output\) reads input, which is no population"),
    ],
)
def test_what_is_no_network_of_thresholds_is_refused_by_name(nodes: list[Any], says: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=says):
        read(chain(*nodes, shape=[2]))


def test_loop_is_refused_by_name() -> None:
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "hidden": threshold(),
        "back": nir.Linear(np.eye(2)),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "hidden"), ("hidden", "back"), ("back", "hidden"), ("hidden", "output")]
    with pytest.raises(UnsupportedLayerError, match="back, hidden, output are part of a loop"):
        read(nir.NIRGraph(nodes, edges))


def test_paths_of_different_delay_are_refused_by_name() -> None:
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "late": nir.Delay(np.full(2, 1.0)),
        "first": threshold(),
        "sum": threshold(),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "first"), ("first", "sum"), ("input", "late"), ("late", "sum"), ("sum", "output")]
    with pytest.raises(UnsupportedLayerError, match=r"'sum' \(Threshold\) is reached after [01] and after [01]"):
        read(nir.NIRGraph(nodes, edges))


def test_file_that_is_no_nir_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        read(tmp_path / "nothing.nir")
    (tmp_path / "text.nir").write_text("hello")
    with pytest.raises(ModelFileError, match="is no NIR graph"):
        read(tmp_path / "text.nir")
    golden_case("dense").graph.save(tmp_path / "net.strop")
    with pytest.raises(ModelFileError, match="is no NIR graph"):
        read(tmp_path / "net.strop")


# Neurons with memory --------------------------------------------------------------------------------------


def chained(*nodes: Any, shape: int = 2) -> Any:
    names = ["input", *(f"n{n}" for n in range(len(nodes))), "output"]
    ends = [nir.Input(np.array([shape])), *nodes, nir.Output(np.array([shape]))]
    return nir.NIRGraph(dict(zip(names, ends, strict=True)), list(pairwise(names)), type_check=False)


def leaky(tau: Any, n: int = 2, r: float = 1.0) -> Any:
    tau = np.full(n, tau, dtype=np.asarray(tau).dtype)
    ones = np.ones(n, tau.dtype)
    return nir.LIF(tau=tau, r=ones * tau.dtype.type(r), v_leak=0 * ones, v_threshold=ones / 2, v_reset=0 * ones)


def test_a_tau_in_float32_is_the_step_that_it_rounds() -> None:
    tau = np.float32(1e-4)
    assert float(tau) < 1e-4
    network = chained(nir.Linear(np.eye(2)), leaky(tau))
    graph = read(network, dt=1e-4)
    assert graph.assumptions == ()
    assert np.array_equal(graph.populations[0].threshold, np.full(2, np.nextafter(0.5, 1)))
    with pytest.raises(UnsupportedLayerError, match="shorter than the step dt=0.000101"):
        read(network, dt=1.01e-4)


def test_all_that_is_not_carried_is_named_at_once() -> None:
    network = chained(nir.Linear(np.eye(2)), leaky(1.0), nir.LI(*np.ones((3, 2))), nir.IF(np.ones(2), np.ones(2)))
    with pytest.raises(UnsupportedLayerError, match=r"'n1' \(LIF\) keeps 0.5") as caught:
        read(network, dt=0.5)
    assert [line.split(" ")[0] for line in caught.value.refused] == ["n1", "n2", "n3"]
    loop = chained(nir.Linear(np.eye(2)), nir.Threshold(np.ones(2)))
    loop.edges.append(("n1", "n0"))
    with pytest.raises(UnsupportedLayerError) as caught:
        read(loop)
    assert caught.value.refused == ("n0, n1: part of a loop; strop carries feed-forward networks only",)


def test_what_was_assumed_is_in_the_verdict_and_in_every_report() -> None:
    graph = read(chained(nir.Linear(np.eye(2)), leaky(2.0)), dt=1.0, memoryless=True)
    frames = np.array([[1, 0], [0, 2], [2, 2]], np.float32)
    report = strop.verify(graph, frames, backends=("reference",))
    says = "in the file each keeps 0.5 of its potential for the next step (tau = 2, dt = 1)"
    assert says in report.notes[0]
    assert report.to_dict()["notes"] == report.notes
    assert says in " ".join(str(report).split())
    assert says in strop.inspect(graph).notes[0]
    assert says in strop.simulate(graph, frames, "reference").notes[0]
