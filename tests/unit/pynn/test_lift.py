"""What PyNN's cells on Brian2 and NEURON raise thresholds by is what their stated arithmetics say."""

from __future__ import annotations

import numpy as np
import pytest

from strop.quantization.floating import lift_of


@pytest.mark.parametrize("name", ["pynn-brian2", "pynn-neuron"])
def test_the_lift_is_the_one_that_is_stated(name: str) -> None:
    from strop_backends.pynn import PyNNBrian2Backend, PyNNNeuronBackend
    from strop_backends.pynn.brian2.dialect import lift as brian2_lift
    from strop_backends.pynn.neuron.cells import lift as neuron_lift

    lift = {"pynn-brian2": brian2_lift, "pynn-neuron": neuron_lift}[name]
    arithmetic = {"pynn-brian2": PyNNBrian2Backend, "pynn-neuron": PyNNNeuronBackend}[name]().arithmetic
    drawn = np.random.default_rng(0).normal(size=200) * 2.0 ** np.random.default_rng(1).integers(-40, 40, 200)
    # Just below a power of two a logarithm is rounded up to it.
    edges = [0.0, -0.0, 1.0, -1.0, -0.5, -np.nextafter(1.0, 0.0), -np.nextafter(2.0**30, 0.0), np.nextafter(0.0, 1.0)]
    thresholds = np.concatenate([drawn, edges])
    expected = [lift_of(float(threshold), arithmetic) for threshold in thresholds]
    np.testing.assert_array_equal(lift(thresholds), expected)
    assert sum(value > 0 for value in expected) > 50
    raised = thresholds + lift(thresholds)
    assert (raised > 0).all()
