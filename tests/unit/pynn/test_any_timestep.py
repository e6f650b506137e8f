"""Time steps of any length, on NEURON.

In a file that is run first: each spike source that another test has left in NEURON sends itself an event for every
millisecond (`VecStim`, `ping`), and here there are many.
"""

from __future__ import annotations

import numpy as np
from pynn_graphs import require
from pynn_scripts import FRAMES, GRAPH
from third_party import PYNN_NEURON_IMPORT

import strop
from strop.running.oracle import evaluate
from strop_backends.pynn.common.dialect import dialect_for

pytestmark = PYNN_NEURON_IMPORT


def test_neuron_takes_steps_of_any_length() -> None:
    require("pynn-neuron")
    given = getattr(dialect_for("pyNN.neuron").sim.simulator.state, "default_maxstep")  # noqa: B009
    for step in (1e-6, 1 / 3, 100.0, 1e4):
        found = strop.simulate(GRAPH, FRAMES, "pynn-neuron", timestep=step).spikes
        for population, spikes in evaluate(GRAPH, {"x": FRAMES >= 0.5}).items():
            np.testing.assert_array_equal(found[population], spikes, err_msg=population)
    assert dialect_for("pyNN.neuron").sim.simulator.state.default_maxstep == given
