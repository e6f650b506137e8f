"""Options of the PyNN backends: their own are known, any other is refused before a simulator is touched."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pynn_graphs import one_layer, require
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError, BackendMissingError
from strop.running.registry import get_backend
from strop_backends.pynn import PyNNSpinnakerBackend

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

GRAPH = one_layer([[1.0]], 0.5)


@pytest.mark.parametrize("name", ["pynn-nest", "pynn-brian2", "pynn-neuron"])
def test_an_unknown_option_is_refused_and_leaves_the_network_that_is_there(name: str) -> None:
    require(name)
    network = strop.build(GRAPH, name)
    for call in (get_backend(name).prepare, get_backend(name).build):
        with pytest.raises(BackendError, match=f"{name} does not know the option\\(s\\) thread, timesteps"):
            call(GRAPH, thread=2, timesteps=0.1)
    assert network.alive


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pynn-nest", {"timestep": 0.5, "threads": 2, "rng_seed": 7, "verbosity": "error"}),
        ("pynn-brian2", {"timestep": 0.2}),
        ("pynn-neuron", {"timestep": 0.25, "native_rng_baseseed": 3}),
    ],
)
def test_their_own_options_are_taken(name: str, options: dict[str, Any]) -> None:
    require(name)
    spikes = strop.simulate(GRAPH, np.array([[1.0], [0.0], [1.0]]), name, **options).spikes["y"]
    np.testing.assert_array_equal(spikes[:, 0], [True, False, True])


@pytest.mark.parametrize("module", ["pyNN.spiNNaker", "spynnaker.pyNN"])
def test_a_module_of_spynnaker_leads_to_its_backend(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get(name: str) -> Any:
        asked.append(name)
        raise BackendError("asked")

    monkeypatch.setattr(sys.modules["strop.running.simulate"], "get_backend", get)
    with pytest.raises(BackendError, match="asked"):
        strop.build(GRAPH, ModuleType(module))
    assert asked == ["pynn-spinnaker"]


def test_spinnaker_is_asked_before_it_is_imported() -> None:
    backend = PyNNSpinnakerBackend()
    for call in (backend.prepare, backend.build, backend.map):
        with pytest.raises(BackendError, match=r"pynn-spinnaker does not know the option\(s\) neurons"):
            call(GRAPH, neurons=64)


@pytest.mark.parametrize(
    ("name", "extra"), [("pynn-nest", "pynn"), ("pynn-brian2", "pynn,brian2"), ("pynn-neuron", "neuron")]
)
def test_a_missing_simulator_names_the_extra_that_has_it(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr("strop_backends.pynn.version", missing)
    with pytest.raises(BackendMissingError, match=re.escape(f"pip install 'strop[{extra}]'")):
        get_backend(name)
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    assert set(extra.split(",")) <= set(project["optional-dependencies"])
