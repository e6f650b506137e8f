"""The compiled walk along a model: made once, used again while it fits, and never warned of."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import StropError  # noqa: E402
from strop.keras import SpikingBReLU, declare_threshold, set_sharpness  # noqa: E402
from strop.lowering import layer_outputs, trace  # noqa: E402
from strop.lowering.probe import KerasProbe  # noqa: E402

L = keras.layers
RNG = np.random.default_rng(0)
FRAMES = RNG.random((30, 6, 6, 1)).astype(np.float32)


def small(seed: int = 0, units: int = 5) -> keras.Model:
    model = keras.Sequential(
        [
            L.Input((6, 6, 1)),
            L.Conv2D(3, 3),
            L.BatchNormalization(),
            SpikingBReLU(1.0),
            L.Flatten(),
            L.Dense(units),
            SpikingBReLU(1.0),
            L.Dense(3),
            L.Softmax(),
        ]
    )
    randomise(model, np.random.default_rng(seed))
    return model


def spikes_of(model: keras.Model, frames: np.ndarray = FRAMES) -> dict[str, np.ndarray]:
    lowering = trace(model)
    return KerasProbe(model, lowering).run({lowering.graph.inputs[0].name: frames})[0]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were traced, in order."""
    seen: list[str] = []
    honest = layer_outputs._Walk.call

    def counted(self: Any, inputs: Any, training: bool = False) -> Any:
        seen.append(self.model().name)
        return honest(self, inputs, training)

    monkeypatch.setattr(layer_outputs._Walk, "call", counted)
    return seen


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What TensorFlow logs as a warning."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_one_model_is_traced_once_whatever_the_number_of_frames_and_the_encoding(
    traces: list[str], warned: list[str]
) -> None:
    model = small()
    whole = RNG.integers(0, 256, (1003, 6, 6, 1)).astype(np.uint8)
    for count in (30, 17, 1, 1003):
        for encoding in ("host", "bitplane", "binary"):
            assert strop.verify(model, whole[:count], backends=("reference",), encoding=encoding).passed
    assert traces == [model.name]
    assert warned == []


def test_many_models_are_traced_once_each_without_a_warning(traces: list[str], warned: list[str]) -> None:
    models = [small(seed, units=4 + seed) for seed in range(8)]
    for _ in range(2):
        for model in models:
            assert strop.verify(model, FRAMES, backends=("reference",)).passed
    assert traces == [model.name for model in models]
    assert warned == []


def test_new_weights_are_read_without_a_new_trace(traces: list[str]) -> None:
    model, other = small(0), small(1)
    before = spikes_of(model)
    model.set_weights(other.get_weights())
    after = spikes_of(model)
    assert traces == [model.name]
    assert any((before[name] != after[name]).any() for name in before)
    for mine, theirs in zip(after.values(), spikes_of(other).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_new_sharpness_is_read_without_a_new_trace(traces: list[str]) -> None:
    model = small()
    lowering = trace(model)
    probe = KerasProbe(model, lowering)
    frames = {lowering.graph.inputs[0].name: FRAMES}
    probe.run(frames)
    set_sharpness(model, 0.3)
    with pytest.raises(StropError, match="no spikes"):
        probe.run(frames)
    assert traces == [model.name]


def _exchange_kernel(model: keras.Model) -> None:
    layer = model.layers[4]
    layer._tracker.unlock()
    layer._untrack_variable(layer._kernel)
    layer._kernel = layer.add_weight(shape=(48, 5), initializer=keras.initializers.RandomNormal(seed=7), name="kernel")


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layers[1], "epsilon", 0.5),
        lambda model: setattr(model.layers[2], "threshold", 0.25),
        _exchange_kernel,
    ],
    ids=["epsilon", "threshold", "kernel"],
)
def test_what_a_trace_bakes_in_makes_a_new_one(change: Any, traces: list[str]) -> None:
    model = small(2)
    assert strop.verify(model, FRAMES, backends=("reference",)).passed
    before = spikes_of(model)
    change(model)
    after = spikes_of(model)
    assert len(traces) == 2
    assert any((before[name] != after[name]).any() for name in before), "the change must change a spike"
    assert strop.verify(model, FRAMES, backends=("reference",)).passed


def test_layers_added_behind_are_walked_too(traces: list[str]) -> None:
    model = keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), L.Dense(8), SpikingBReLU(1.0)])
    randomise(model, np.random.default_rng(0))
    assert len(spikes_of(model)) == 1
    model.add(L.Dense(4))
    model.add(SpikingBReLU(1.0))
    randomise(model, np.random.default_rng(1))
    assert len(spikes_of(model)) == 2
    assert len(traces) == 2
    model.add(L.Dense(3))  # shows no more spikes than before
    lowering = trace(model)
    _, outputs = KerasProbe(model, lowering).run({lowering.graph.inputs[0].name: FRAMES})
    assert outputs[0].shape == (30, 3)
    assert len(traces) == 3


def _step(at: float) -> Any:
    def step(x: Any) -> Any:
        return keras.ops.cast(x >= at, "float32")

    declare_threshold(step, at=at)
    return step


def test_a_function_exchanged_for_another_of_the_same_name_is_walked_anew(traces: list[str]) -> None:
    model = keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), L.Dense(8, activation=_step(2.0), name="dense")])
    randomise(model, np.random.default_rng(0))
    before = spikes_of(model)["dense"]
    model.layers[1].activation = _step(-2.0)
    after = spikes_of(model)["dense"]
    assert len(traces) == 2
    assert before.sum() < after.sum()


def test_a_model_is_not_kept_alive_by_its_walk() -> None:
    model = small()
    assert strop.verify(model, FRAMES, backends=("reference",)).passed
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_outputs_are_those_of_the_model_itself_for_every_frame() -> None:
    model = small()
    lowering = trace(model)
    _, outputs = KerasProbe(model, lowering).run({lowering.graph.inputs[0].name: FRAMES})
    assert [output.shape for output in outputs] == [(30, 3)]
    np.testing.assert_allclose(outputs[0], model.predict(FRAMES, verbose=0), rtol=1e-5)


def test_a_model_that_differs_from_its_layers_in_one_late_frame_is_noticed() -> None:
    model = small()
    lowering = trace(model)
    honest = model.call

    def odd(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = honest(inputs, *args, **kwargs)
        return outputs + keras.ops.cast(keras.ops.arange(30) == 29, "float32")[:, None]

    model.call = odd
    with pytest.raises(StropError, match="does something that strop does not see"):
        KerasProbe(model, lowering).run({lowering.graph.inputs[0].name: FRAMES})


def test_inputs_of_a_dictionary_and_several_outputs_are_walked() -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    hidden = SpikingBReLU(1.0)(L.Dense(8)(L.Concatenate()([left, right])))
    model = keras.Model({"left": left, "right": right}, [L.Dense(3)(hidden), L.Dense(2)(hidden)])
    randomise(model, np.random.default_rng(0))
    frames = {"left": RNG.random((9, 4)), "right": RNG.random((9, 3))}
    assert strop.verify(model, frames, backends=("reference",)).passed


class Scaled(L.Layer):
    """A step whose height is no weight, and stands in no config."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self._hidden = [1.0], {"height": np.ones(1)}

    def call(self, x: Any) -> Any:
        return keras.ops.where(x >= 0.0, self.height[0] * self._hidden["height"][0], 0.0)


declare_threshold(Scaled, at=0.0)


@pytest.mark.parametrize("where", ["list", "hidden array", "closure"])
def test_layers_and_functions_of_the_user_are_walked_anew_each_time(where: str, warned: list[str]) -> None:
    held = [0.0]

    def step(x: Any) -> Any:
        return keras.ops.cast(x >= held[0], "float32")

    declare_threshold(step, at=0.0)
    layer = L.Activation(step) if where == "closure" else Scaled()
    model = keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), L.Dense(5), layer, L.Dense(3)])
    for _ in range(6):
        assert strop.verify(model, FRAMES, backends=("reference",)).passed
    assert warned == []
    if where == "closure":
        held[0] = 0.5
        assert not strop.verify(model, FRAMES, backends=("reference",)).passed
        return
    (layer.height if where == "list" else layer._hidden["height"])[0] = 0.5
    with pytest.raises(StropError, match="no spikes, for example 0.5"):
        strop.verify(model, FRAMES, backends=("reference",))


class TwiceCalled(keras.Sequential):
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return 2 * super().call(inputs)


def test_a_sequential_model_that_overrides_call_is_refused_inside_too() -> None:
    layers = [L.Input((6,)), L.Dense(4), SpikingBReLU(1.0), L.Dense(3)]
    with pytest.raises(StropError, match=r"overrides call\(\)"):
        strop.lower(TwiceCalled(layers))
    x = keras.Input((6,))
    with pytest.raises(StropError, match=r"overrides call\(\)"):
        strop.lower(keras.Model(x, SpikingBReLU(1.0)(TwiceCalled(layers)(x))))


@pytest.mark.parametrize("name", ["predict", "predict_step", "predict_on_batch", "__call__"])
def test_a_model_that_predicts_otherwise_is_refused(name: str) -> None:
    own = type("Own", (keras.Model,), {name: lambda self, *args, **kwargs: None})
    x = keras.Input((6,))
    model = own(x, L.Dense(3)(SpikingBReLU(1.0)(L.Dense(4)(x))))
    with pytest.raises(StropError, match=rf"overrides {name}\(\)"):
        strop.verify(model, np.zeros((3, 6)), backends=("reference",))
    assert strop.verify(keras.Model(model.inputs, model.outputs), np.zeros((3, 6)), backends=("reference",)).passed


def test_frames_that_a_float64_model_would_not_round_are_refused() -> None:
    x = keras.Input((6,), dtype="float64")
    model = keras.Model(x, L.Dense(3)(SpikingBReLU(1.0)(L.Dense(4)(x))))
    with pytest.raises(StropError, match="0.1, which float32 does not, and the model takes float64"):
        strop.verify(model, np.full((3, 6), 0.1), backends=("reference",))
    assert strop.verify(model, np.full((3, 6), 0.1, np.float32), backends=("reference",)).passed
    assert strop.verify(model, np.full((3, 6), 0.25), backends=("reference",)).passed
