"""Each test begins with simulators that nobody has built anything in."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pynn_graphs import require


@pytest.fixture(params=("pynn-nest", "pynn-brian2", "pynn-neuron"))
def name(request: pytest.FixtureRequest) -> str:
    """Each of these backends that is installed."""
    require(request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> None:
    """Brian2 collects garbage whenever it runs: no more among all that has been imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_in_a_simulator() -> Iterator[None]:
    """Let go of what a test leaves: strop does not set up a simulator that a script has something in."""
    yield
    from strop_backends.pynn.common.dialect import DIALECTS, dialect_for

    for name in DIALECTS:
        if name in sys.modules and not name.lower().endswith("spinnaker"):
            dialect_for(sys.modules[name]).release()
    if "pyNN.neuron" in sys.modules:
        take_cells_away(sys.modules["neuron"], sys.modules["pyNN.neuron"].simulator.dummy)


def take_cells_away(neuron: Any, dummy: Any) -> None:
    """Free cells that a test made itself."""
    from strop_backends.pynn.neuron.cells import strip

    if all(cell == dummy for cell in neuron.h.allsec()):
        return
    gc.collect()
    for cell in [cell for cell in neuron.h.allsec() if cell != dummy]:
        strip(cell)
        neuron.h.delete_section(sec=cell)
