"""Brian2's synapses walked by the rows of their source neurons: what Brian2 itself would add, in its order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

b2 = pytest.importorskip("brian2")

from brian2_scripts import FRAMES, GRAPH, assert_answered, assert_restored, built, compile_nothing, watched  # noqa: E402, F401

import strop  # noqa: E402
from strop.errors import BackendError  # noqa: E402
from strop.running.encode import as_frames, encode  # noqa: E402
from strop_backends.brian2.rows import segments_of  # noqa: E402


@given(seed=st.integers(0, 2**32 - 1), ordered=st.booleans(), dense=st.booleans())
@settings(deadline=None, max_examples=200)
def test_segments_hold_every_synapse_once_in_the_order_of_its_source(seed: int, ordered: bool, dense: bool) -> None:
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(1, 8), rng.integers(1, 30)
    if dense:
        keep = rng.random(sources * targets) < 0.9
        source, target = np.repeat(np.arange(sources), targets)[keep], np.tile(np.arange(targets), sources)[keep]
    else:
        source, target = rng.integers(0, [[sources], [targets]], (2, rng.integers(0, 150)))
    if not ordered:
        place = rng.permutation(len(source))
        source, target = source[place], target[place]
    first, synapse, follow, length = segments_of(source, target, int(sources))
    assert first[-1] == len(synapse)
    assert (length > 0).all()
    for neuron in range(sources):
        walked = []
        for k in range(first[neuron], first[neuron + 1]):
            own = np.arange(synapse[k], synapse[k] + length[k])
            if follow[k] >= 0:
                np.testing.assert_array_equal(target[own], follow[k] + np.arange(length[k]))
            walked.append(own)
        np.testing.assert_array_equal(np.concatenate([[], *walked]), np.flatnonzero(source == neuron))


def sums_of(network: Any, frames: Any) -> Any:
    """Potentials of all neurons in each step, before the threshold is evaluated in it."""
    seen: list[Any] = []
    v = network.units.variables["v"].get_value()
    network.add(
        b2.NetworkOperation(lambda: seen.append(v.copy()), clock=network.strop_clock, when="thresholds", order=-2)
    )
    network.present(frames)
    network.run(network.duration())
    return np.array(seen)


@pytest.mark.parametrize("target", ["numpy", "cython"])
def test_sums_are_those_of_plain_synapses_to_the_last_bit(target: str) -> None:
    """Weights of many magnitudes, so that another order of summation would show."""
    network = strop.build(GRAPH, "brian2", target=target, prefix="")
    rng = np.random.default_rng(4)
    weights = {pair: own * 10.0 ** rng.integers(-9, 1, own.shape) for pair, own in network.weights().items()}
    network.set_weights(weights)
    rest = network.units.variables["bias"].get_value()
    found = sums_of(network, FRAMES)
    del network

    other = strop.build(GRAPH, "brian2", target="numpy")
    other.set_weights(weights)
    for number, synapses in enumerate(other.synapses):
        plain = b2.Synapses(
            other.units,
            other.units,
            "w : 1",
            on_pre="v_post += w",
            delay=synapses.delay[:],
            clock=other.strop_clock,
            name=f"plain_{number}",
        )
        plain.connect(i=synapses.i[:], j=synapses.j[:])
        plain.w[:] = synapses.w[:]
        plain.pre.when, plain.pre.order = "thresholds", 2
        synapses.active = False
        other.add(plain)
    wanted = sums_of(other, FRAMES)
    assert (wanted != rest).mean() > 0.1
    np.testing.assert_array_equal(found, wanted)


def test_synapses_that_a_user_adds_to_ours_are_walked_too() -> None:
    network = built()
    network.run(3 * network.step * b2.second)
    synapses, source, stimulus = network.synapses[0], network.spans["d"].start, network.spans["x"].start
    synapses.connect(i=[source, stimulus], j=[stimulus, stimulus + 1])
    synapses.w[-2:] = 7.0
    fired = watched(network)
    network.units.v[source] = 1e3
    network.run(3 * network.step * b2.second)
    steps = np.rint(np.asarray(fired.t) / network.step).astype(int)
    for step, neuron in ((3, source), (4, stimulus), (5, stimulus + 1)):
        assert neuron in np.asarray(fired.i)[steps == step]
        assert stimulus + 1 not in np.asarray(fired.i)[steps < 5]


def test_a_delay_that_a_user_changes_between_runs_is_followed() -> None:
    network = built()
    heard: list[Any] = []
    v = network.units.variables["v"].get_value()
    synapses = network.synapses[0]
    assert synapses.delay == 0 * b2.second
    synapses.pre.delay = 2 * network.step * b2.second
    network.add(b2.NetworkOperation(lambda: heard.append(v.copy()), clock=network.strop_clock, when="end"))
    network.present(np.full_like(FRAMES[:1], 255))
    network.run(5 * network.step * b2.second)
    bias = network.units.bias[:]
    own = np.unique(synapses.j[:][synapses.i[:] < network.spans["x"].stop])
    changed = [bool((step[own] != bias[own]).any()) for step in heard]
    assert changed[:3] == [False, False, True]


def test_another_statement_is_refused() -> None:
    network = built()
    network.synapses[0].pre.code = "v_post += 2*w"
    with pytest.raises(b2.BrianObjectException) as refusal:
        network.run(1 * b2.ms)
    assert isinstance(refusal.value.__cause__, BackendError)
    assert "do 'v_post += w', not 'v_post += 2*w'" in str(refusal.value.__cause__)


@pytest.mark.parametrize("target", ["numpy", "cython"])
def test_spikes_on_their_way_are_stored_and_restored(target: str) -> None:
    network = strop.build(GRAPH, "brian2", target=target, prefix="")
    monitor = b2.SpikeMonitor(network.units, codeobj_class=b2.NumpyCodeObject)
    network.add(monitor)
    assert_restored(network, monitor, FRAMES, 7)


def test_code_is_made_once_and_again_where_arrays_have_moved() -> None:
    network = built()
    pathway, thresholder = network.synapses[0].pre, network.units.thresholder["spike"]
    step = network.step * b2.second
    network.run(step)
    made = pathway.codeobj, thresholder.codeobj
    network.run(step)
    assert pathway.codeobj is made[0]
    assert thresholder.codeobj is made[1]
    network.synapses[0].connect(i=0, j=1)
    network.run(step)
    assert pathway.codeobj is not made[0]
    assert thresholder.codeobj is made[1]


def test_weights_that_change_between_runs_are_those_that_are_added() -> None:
    from strop.running.registry import get_backend

    runner = get_backend("brian2").prepare(GRAPH, target="numpy")
    signals = encode(GRAPH, as_frames(GRAPH, FRAMES))
    before = runner.run(signals)
    runner.set_weights({pair: -own for pair, own in runner.weights().items()})
    after = runner.run(signals)
    assert any((before[name] != after[name]).any() for name in before)
