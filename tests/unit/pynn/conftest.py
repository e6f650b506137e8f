"""Each test begins with simulators that nobody has built anything in."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_in_a_simulator() -> Iterator[None]:
    """Let go of what a test leaves: strop does not set up a simulator that a script has something in."""
    yield
    from strop_backends.pynn.common.dialect import DIALECTS, dialect_for

    for name in DIALECTS:
        if name in sys.modules and not name.lower().endswith("spinnaker"):
            dialect_for(sys.modules[name]).release()
    if "pyNN.neuron" in sys.modules:
        # NEURON's cells cannot be taken away.
        from strop_backends.pynn.neuron.dialect import NeuronDialect

        NeuronDialect._left.extend(sys.modules["neuron"].h.allsec())
