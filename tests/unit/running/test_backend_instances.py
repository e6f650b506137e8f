"""A backend of one's own can be tried before it is packaged: an instance is taken wherever a name is."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import strop
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population, Readout
from strop.running.backend import Runner, require_main_thread
from strop.running.reference import ReferenceBackend
from strop.running.registry import get_backend

WEIGHTS = np.array([[1.0, 0.0], [0.0, 1.0]])
FRAMES = np.array([[0.25, 0.75], [0.75, 0.25], [0.75, 0.75]], np.float32)


@pytest.fixture
def graph() -> Graph:
    return Graph.from_nodes(
        [Input("x", (2,))],
        [Population("a", (2,), 0.5, 0.0), Population("b", (2,), 0.5, 0.0)],
        [("x", "a", Dense(WEIGHTS)), ("a", "b", Dense(WEIGHTS))],
        [Readout("out", "key", ("b",), (Dense(WEIGHTS),), np.zeros(2))],
        ["out"],
    )


class Careless(ReferenceBackend):
    name = "careless"

    def prepare(self, graph: Graph, **options: object) -> Runner:
        wrong = dataclasses.replace(graph.population("b"), threshold=np.array([0.5, 1.5]))
        return super().prepare(dataclasses.replace(graph, populations=(graph.population("a"), wrong)), **options)


def test_verify_takes_an_instance_and_finds_its_fault(graph: Graph) -> None:
    report = strop.verify(graph, FRAMES, backends=["reference", Careless()])
    assert list(report.backends) == ["reference", "careless"]
    assert report.backends["reference"].passed
    assert report.backends["reference"].layers[1].spikes == 4
    assert [layer.faults for layer in report.backends["careless"].layers] == [0, 2]
    assert report.backends["careless"].frames_with_faults == 2
    assert not report.passed


def test_simulate_takes_an_instance_and_names_it(graph: Graph) -> None:
    result = strop.simulate(graph, FRAMES, Careless())
    assert result.backend == "careless"
    np.testing.assert_array_equal(result.spikes["b"], [[False, False], [True, False], [True, False]])


def test_get_backend_gives_an_instance_back() -> None:
    mine = Careless()
    assert get_backend(mine) is mine


def test_a_module_that_sets_a_signal_handler_is_first_imported_in_the_main_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(BackendError, match="no_such_module sets a signal handler when it is imported"):
            pool.submit(require_main_thread, "no_such_module").result()
        pool.submit(require_main_thread, "numpy").result()
    require_main_thread("no_such_module")
