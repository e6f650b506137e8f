"""Keras networks in which the input itself meets spikes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove  # noqa: E402

import strop  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402

L = keras.layers


def spike(**options: object) -> keras.layers.Layer:
    return SpikingBReLU(1.0, **options)


def skip() -> keras.Model:
    """A dense connection from the input to the second layer."""
    x = keras.Input((6, 6, 1), name="image")
    y = spike(name="first")(L.Conv2D(2, 3, padding="same")(x))
    y = spike(name="late")(L.Conv2D(3, 3)(L.Concatenate()([x, y])))
    return keras.Model(x, L.Dense(3, activation="softmax")(spike(name="last")(L.Dense(8)(L.Flatten()(y)))))


def second_input() -> keras.Model:
    """An input that joins after two layers."""
    a, b = keras.Input((5,), name="a"), keras.Input((4,), name="b")
    y = spike(name="two")(L.Dense(8)(spike(name="one")(L.Dense(9)(a))))
    z = spike(name="joined")(L.Add()([L.Dense(7)(y), L.Dense(7)(b)]))
    return keras.Model([a, b], spike(name="end")(L.Dense(6)(z)))


def signs_of_both() -> keras.Model:
    x = keras.Input((6,), name="x")
    y = L.Dense(7)(spike(name="one")(L.Dense(9)(x))) - L.Dense(7)(x)
    return keras.Model(x, spike(name="end")(L.Dense(5)(L.Activation(keras.ops.sign, name="sign")(y))))


HOST = {
    skip: {"first", "late"},
    second_input: {"one", "two", "joined"},
    signs_of_both: {"one", "sign/positive", "sign/not_negative"},
}


@pytest.mark.parametrize("encoding", ["host", "bitplane", "binary", "current"])
@pytest.mark.parametrize("make", HOST)
def test_an_input_beside_spikes_is_carried_exactly(make: object, encoding: str) -> None:
    model = make()  # type: ignore[operator]  # the functions above
    prove(model, encoding=encoding)
    assert strop.lower(model, encoding).host_populations == (HOST[make] if encoding == "host" else set())  # type: ignore[index]


def test_inspect_says_what_the_host_evaluates() -> None:
    model = skip()
    frames = np.random.default_rng(0).random((20, 6, 6, 1)).astype(np.float32)
    found = strop.inspect(model, frames)
    note = found.notes[0]
    assert "late: an input meets spikes there, so the host evaluates first, late" in note
    assert note in " ".join(str(found).split())
    rows = {row["name"]: row for row in found.activity["populations"]}  # type: ignore[index]
    assert [rows[name]["on_host"] for name in ("first", "late", "last")] == [True, True, False]
    assert rows["late"]["synaptic_events_per_frame"] == rows["first"]["synaptic_events_sent_per_frame"] == 0.0
    host = {layer["name"]: layer["macs"] for layer in found.arithmetic["host"]["layers"]}
    # Either part of the joined frame is an operator on all three channels.
    assert host == {"first": 36 * 9 * 2, "late": 2 * 16 * 9 * 3 * 3}
    assert strop.inspect(model, encoding="bitplane").notes == []


@pytest.mark.several_extras
@pytest.mark.parametrize("target", ["brian2", "nengo"])
def test_a_folder_plays_in_what_the_host_evaluates(target: str, tmp_path: Path) -> None:
    pytest.importorskip(target)
    model = skip()
    prove(model)
    graph = strop.lower(model)
    frames = np.random.default_rng(0).random((12, 6, 6, 1)).astype(np.float32)
    folder = strop.export(graph, target, tmp_path / "out", frames=frames)
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every spike is as expected" in done.stdout
