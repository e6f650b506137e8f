"""Certificates: proved iff no input violates the arithmetic, and proved again by a script without strop."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from strop.errors import ModelFileError, QuantizationError
from strop.export.folders import export
from strop.graph import Dense, Graph, Input, Population, Projection
from strop.quantization import integers
from strop.quantization.certificate import Certificate
from strop.quantization.certify import certify
from strop.quantization.quantize import quantize
from strop.running.arithmetic import Arithmetic


def one_layer(weight: np.ndarray, threshold: Any, bias: Any = 0.0) -> Graph:
    node = Input("x", (weight.shape[0],), "binary")
    population = Population("a", (weight.shape[1],), threshold, bias)
    return Graph((node,), (population,), (Projection("x", "a", Dense(weight)),), (), ("a",))


def violated(graph: Graph, arithmetic: Arithmetic) -> bool:
    """Whether some input, some order of its spikes, or some threshold leaves what the arithmetic holds exactly."""
    operator = graph.projections[0].operator
    assert isinstance(operator, Dense)
    population = graph.population("a")
    weights = [[Fraction(float(w)) for w in column] for column in operator.weight.T]

    grids = [_grid(column) for column in weights]
    # A neuron without synapses lies on any grid.
    finest = min([g for g, column in zip(grids, weights, strict=True) if any(column)], default=Fraction(1))
    grids = [g if any(column) else finest for g, column in zip(grids, weights, strict=True)]
    if arithmetic.threshold_bits is not None:
        # As fine as thresholds that are whole numbers of halves need.
        for values in (population.threshold, population.bias):
            grids = [min(g, 2 * _grid([Fraction(float(v))]) if v else g) for g, v in zip(grids, values, strict=True)]
    if arithmetic.scale == "population":
        grids = [min(grids)] * len(grids)
    for neuron, column in enumerate(weights):
        grid = grids[neuron]
        if arithmetic.exponent is not None:
            if grid < Fraction(2) ** arithmetic.exponent:
                return True
            grid = Fraction(2) ** arithmetic.exponent
        numbers = [w / grid for w in column]
        threshold, bias = (Fraction(float(values[neuron])) / grid for values in (population.threshold, population.bias))
        if arithmetic.threshold_bits is not None:
            limit = 1 << arithmetic.threshold_bits
            if any((2 * v).denominator != 1 or abs(2 * v) >= limit for v in (threshold, bias)):
                return True
        if any(abs(n) > arithmetic.largest_weight for n in numbers):
            return True
        for spikes in itertools.product((0, 1), repeat=len(numbers)):
            taken = [n for n, s in zip(numbers, spikes, strict=True) if s]
            up, down = sum(n for n in taken if n > 0), -sum(n for n in taken if n < 0)
            if max(up, down) > arithmetic.largest_sum:
                return True
            if arithmetic.comparator == ">" and up - down == threshold - bias:
                return True
    return False


def _grid(column: list[Fraction]) -> Fraction:
    exponent = 60
    while any((w / Fraction(2) ** exponent).denominator != 1 for w in column):
        exponent -= 1
    return Fraction(2) ** exponent if any(column) else Fraction(1)


ARITHMETICS = (
    Arithmetic("small", 4, 6),
    Arithmetic("strict", 4, 6, comparator=">"),
    Arithmetic("fixed", 4, 7, sums="per sign", threshold_bits=6, exponent=-3),
    Arithmetic("shared", 5, 7, scale="population", comparator=">", threshold_bits=8),
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arithmetic=st.sampled_from(ARITHMETICS))
def test_proved_iff_no_input_violates_the_arithmetic(seed: int, arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(seed)
    inputs, neurons = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    size = int(rng.integers(1, 18))
    weight = rng.integers(-size, size + 1, (inputs, neurons)) / 2.0 ** rng.integers(0, 4)
    threshold = rng.integers(-3 * size, 3 * size + 1, neurons) / 2.0 ** rng.integers(1, 5)
    bias = rng.integers(-2, 3, neurons) / 2.0
    graph = one_layer(weight, threshold, bias)
    certificate = certify(graph, arithmetic)
    assert certificate.holds is not violated(graph, arithmetic), str(certificate)
    if not certificate.holds:
        assert certificate.populations[0].failing >= 1


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_patterns_show_what_goes_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-9, 10, (7, 3)).astype(float)
    graph = one_layer(weight, rng.integers(-6, 7, 3).astype(float))
    for reason in certify(graph, Arithmetic("strict", 3, 4, comparator=">")).populations[0].reasons:
        assert reason.pattern is not None
        column = weight[:, reason.neuron][reason.pattern["x"]]
        if "equal to the threshold" in reason.what:
            assert column.sum() == graph.population("a").threshold[reason.neuron]
        elif "heaviest" in reason.what:
            assert np.abs(column).max() > 7
        else:
            assert np.abs(column.sum()) > 15


@pytest.mark.parametrize(
    ("arithmetic", "threshold", "message"),
    [
        (Arithmetic("t", 3, 20), 0.5, "heaviest weight is 12, which takes 4 bits of 3"),
        (Arithmetic("t", 8, 4), 0.5, "positive weights add up to 19, which takes 5 bits of 4"),
        (Arithmetic("t", 8, 20, exponent=2), 0.5, r"multiples of 2\^0, the grid of t is 2\^2"),
        (Arithmetic("t", 8, 20, threshold_bits=4, exponent=0), 0.25, "no multiple of half the grid"),
        (Arithmetic("t", 8, 20, threshold_bits=4), 8.0, "16 halves of the grid, of less than 16"),
        (
            Arithmetic("t", 8, 20, comparator=">"),
            12.0,
            "a sum can be equal to the threshold, and t fires only above it",
        ),
        (Arithmetic("t", 8, 20, resolution=2.0**-4), 0.5, "told apart only"),
    ],
)
def test_reasons_say_what_does_not_fit(arithmetic: Arithmetic, threshold: float, message: str) -> None:
    graph = one_layer(np.array([[12.0], [7.0], [-5.0]]), threshold)
    certificate = certify(graph, arithmetic)
    assert not certificate.holds
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(certificate))


def test_equality_is_no_matter_where_it_cannot_be_reached() -> None:
    strict = Arithmetic("t", 8, 20, comparator=">")
    assert certify(one_layer(np.array([[4.0], [6.0], [1.0]]), 3.0), strict).holds
    assert certify(one_layer(np.array([[4.0], [6.0]]), 30.0), strict).holds
    assert not certify(one_layer(np.array([[4.0], [6.0], [1.0]]), 7.0), strict).holds


def test_analogue_values_prove_nothing_and_the_host_needs_no_proof() -> None:
    layers = [Population("a", (2,), 0.5, 0.1), Population("b", (2,), 0.5, 0.0)]
    links = [("x", "a", Dense(np.full((3, 2), 0.3))), ("a", "b", Dense(np.eye(2)))]
    for encoding, proved in (("current", False), ("host", True)):
        certificate = certify(Graph.from_nodes([Input("x", (3,), encoding)], layers, links, (), ["b"]), "float64")
        assert certificate.holds is proved
        assert certificate.populations[0].on_host is proved
    assert "evaluated on the host" in str(certificate)


def test_certificates_are_saved_and_read(tmp_path: Path) -> None:
    graph = quantize(random_graph(3, "binary"), "float32")
    certificate = certify(graph, "float32")
    certificate.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json") == certificate
    assert certificate.is_of(graph)
    assert not certificate.is_of(random_graph(4, "binary"))
    content = json.loads((tmp_path / "c.json").read_text())
    for damage in (
        {"version": 9},
        {"format": "other"},
        {"holds": not content["holds"]},
        {"populations": [{"name": "a"}]},
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(ModelFileError, match=r"bad.json holds no certificate"):
            Certificate.load(tmp_path / "bad.json")


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the checker of a folder where strop cannot be imported."""
    return subprocess.run(
        [sys.executable, "-I", str(folder / "check_certificate.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_checker_shares_no_code_with_strop_and_is_short() -> None:
    text = (Path(integers.__file__).parents[1] / "export" / "templates" / "check_certificate.py").read_text()
    assert "import strop" not in text
    assert "from strop" not in text
    assert len(text.splitlines()) < 200


@pytest.mark.parametrize("seed", range(8))
def test_the_checker_of_a_folder_agrees(seed: int, tmp_path: Path) -> None:
    graph = random_graph(seed, ("host", "binary", "bitplane", "current")[seed % 4])
    certificate = certify(graph, "float64", expand=True)
    folder = export(graph, "brian2", tmp_path / "out")
    result = check(folder)
    assert result.returncode == (0 if certificate.holds else 1), result.stdout + result.stderr
    assert json.loads((folder / "certificate.json").read_text())["graph"] == graph.digest


@pytest.mark.parametrize(("bias", "code"), [(0.625, 0), (0.61, 1), (2.0**50, 0), (2.0**53, 1)])
def test_the_checker_counts_the_bias_among_what_is_added_up(bias: float, code: int, tmp_path: Path) -> None:
    graph = one_layer(np.array([[7.0], [-4.0]]), 0.5, bias)
    folder = export(graph, "brian2", tmp_path / "out")
    assert json.loads((folder / "certificate.json").read_text())["holds"] is not bool(code)
    result = check(folder)
    assert result.returncode == code, result.stdout


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "certificate.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _edit_weight(folder: Path) -> None:
    with np.load(folder / "network.npz") as file:
        arrays = dict(file)
    key = next(name for name in sorted(arrays) if name.startswith("weight:"))
    arrays[key] = arrays[key].copy()
    arrays[key][0] += 2.0**-10
    np.savez_compressed(folder / "network.npz", **arrays)


def _more(content: dict[str, Any]) -> None:
    content["populations"][-1]["positive"] += 1


def _less(content: dict[str, Any]) -> None:
    content["populations"][-1]["negative"] -= 1


def _hash(content: dict[str, Any]) -> None:
    content["network"] = content["network"][::-1]


def _dropped(content: dict[str, Any]) -> None:
    content["populations"].pop()


def _narrower(content: dict[str, Any]) -> None:
    content["target"]["sum_bits"] = 2


def _opposite(content: dict[str, Any]) -> None:
    content["holds"] = not content["holds"]


@pytest.fixture(scope="module")
def proved_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    graph = Graph.from_nodes(
        [Input("x", (9,), "binary")],
        [Population("a", (6,), 0.5, 0.1), Population("b", (3,), 0.5, 0.2)],
        [("x", "a", Dense(rng.normal(size=(9, 6)))), ("a", "b", Dense(rng.normal(size=(6, 3))))],
        (),
        ["b"],
    )
    return export(quantize(graph, "spinnaker"), "brian2", tmp_path_factory.mktemp("proved") / "out")


@pytest.mark.parametrize("change", [_more, _less, _hash, _dropped, _narrower, _opposite])
def test_an_edited_certificate_is_rejected(
    change: Callable[[dict[str, Any]], None], proved_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(proved_folder, tmp_path / "out"))
    assert check(folder).returncode == 0
    _edit(folder, change)
    result = check(folder)
    assert result.returncode == 2, result.stdout
    assert result.stdout.startswith("INVALID: ")


def test_a_certificate_of_another_weight_is_rejected(proved_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(proved_folder, tmp_path / "out"))
    _edit_weight(folder)
    assert check(folder).returncode == 2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_kernels_prove_no_more_than_synapses(seed: int) -> None:
    graph = random_graph(seed, "binary")
    try:
        graph = quantize(graph, "int8")
    except QuantizationError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "EXPANDED", 0)
        bounded = certify(graph, "int8")
    assert certify(graph, "int8", expand=True).holds or not bounded.holds
