"""Frames: every accepted form gives the same signal, everything else one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strop.errors import DataError, GraphError
from strop.graph import Dense, Graph, Input, Population
from strop.graph.planes import plane_weights
from strop.lowering.keras_frames import keras_frames
from strop.running.encode import as_frames, encode


def graph(shape: tuple[int, ...] = (2, 3, 1), encoding: str = "host", inputs: int = 1) -> Graph:
    nodes = [Input(f"x{n}", shape, encoding) for n in range(inputs)]
    size = nodes[0].signal_shape
    operator = Dense(np.ones((size[-1], 1)), size[:-1])
    unit = Population("a", (*size[:-1], 1), 0.5, 0.0)
    return Graph.from_nodes(nodes, [unit], [(node.name, "a", operator) for node in nodes], (), ["a"])


def test_uint8_is_divided_by_255_in_float32() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    scaled = as_frames(graph((1, 1, 1)), frames)["x0"].reshape(-1)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, np.arange(256).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("shape", [(4, 2, 3, 1), (4, 2, 3), (4, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.bool_])
def test_frames_may_be_flat_or_lack_the_axis_of_one_channel(shape: tuple[int, ...], dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    frames = as_frames(graph(), values)["x0"]
    assert frames.shape == (4, 2, 3, 1)
    np.testing.assert_array_equal(frames.reshape(-1), values.reshape(-1).astype(np.float32))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 2, 3, 1)), "empty"),
        (np.float32(3.0), "empty"),
        (np.zeros((4, 3, 2)), r"\(4, 3, 2\).*\(n, 2, 3, 1\)"),
        (np.zeros((4, 2, 3, 1), np.complex64), "complex64"),
        (np.zeros((4, 2, 3, 1), "M8[s]"), "datetime64"),
        (np.full((4, 2, 3, 1), None), "object"),
        (np.full((4, 2, 3, 1), 1e300), "not finite in float32"),
        (np.full((4, 2, 3, 1), "a"), "dtype"),
        (np.full((4, 2, 3, 1), np.nan), "not finite"),
        ({"y": np.zeros((4, 6))}, "x0"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_frames(graph(), frames)  # type: ignore[arg-type]


def test_several_inputs_are_taken_in_order_or_by_name() -> None:
    net = graph(inputs=2)
    a, b = np.zeros((3, 6)), np.ones((3, 6))
    for given_frames in ((a, b), {"x1": b, "x0": a}):
        frames = as_frames(net, given_frames)
        assert (frames["x0"].max(), frames["x1"].min()) == (0.0, 1.0)
    with pytest.raises(DataError, match="2 inputs"):
        as_frames(net, [a])
    with pytest.raises(DataError, match="different numbers of frames"):
        as_frames(net, [a, b[:2]])


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**31))
def test_bit_planes_add_up_to_the_frame(bits: int, channels: int, seed: int) -> None:
    full = (1 << bits) - 1
    levels = np.random.default_rng(seed).integers(0, full + 1, (5, 2, channels))
    frames = levels.astype(np.float32) / np.float32(full)
    node = Input("x0", (2, channels), "bitplane", bits)
    operator = plane_weights(node.shape, bits)
    unit = Population("a", (2, channels), 0.5, 0.0)
    planes = encode(Graph.from_nodes([node], [unit], [("x0", "a", operator)], (), ["a"]), {"x0": frames})["x0"]
    assert planes.dtype == np.bool_
    assert planes.shape == (5, 2, channels * bits)
    np.testing.assert_allclose(operator.apply(planes), levels / full, rtol=1e-14)
    np.testing.assert_array_equal(planes.reshape(5, 2, channels, bits) @ (1 << np.arange(bits)), levels)


@pytest.mark.parametrize("value", [0.3, -1 / 255, 256 / 255])
def test_bit_planes_refuse_values_between_the_levels(value: float) -> None:
    frames = {"x0": np.full((1, 2, 3, 1), value, np.float32)}
    with pytest.raises(DataError, match="multiple of 1/255"):
        encode(graph(encoding="bitplane"), frames)


@given(
    bits=st.integers(1, 16),
    step=st.sampled_from([None, 1 / 16, 2 / 255, 1.0, 1e-3]),
    offset=st.sampled_from([0.0, -1.0, 0.5, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_planes_of_any_step_and_offset_are_read_back(bits: int, step: float | None, offset: float, seed: int) -> None:
    node = Input("x0", (2, 3), "bitplane", bits, step=step, offset=offset)
    numbers = np.random.default_rng(seed).integers(0, 1 << bits, (5, 2, 3))
    operator = plane_weights(node.shape, bits, step)
    net = Graph.from_nodes([node], [Population("a", (2, 3), 0.5, 0.0)], [("x0", "a", operator)], (), ["a"])
    frames = {"x0": node.plane_values(numbers).astype(np.float32)}
    assume(len(np.unique(node.plane_values(np.arange(1 << bits)).astype(np.float32))) == 1 << bits)
    planes = encode(net, frames)["x0"]
    np.testing.assert_array_equal(planes.reshape(5, 2, 3, bits) @ (1 << np.arange(bits)), numbers)
    np.testing.assert_allclose(operator.apply(planes) + offset, node.plane_values(numbers), rtol=1e-13, atol=1e-12)
    np.testing.assert_array_equal(keras_frames(net, frames)["x0"], frames["x0"])


def test_frames_that_float32_arithmetic_put_beside_their_value_stand_for_it() -> None:
    node = Input("x0", (256,), "bitplane", 8, step=1 / 127.5, offset=-1.0)
    operator = plane_weights(node.shape, 8, node.step)
    net = Graph.from_nodes([node], [Population("a", (256,), 0.5, 0.0)], [("x0", "a", operator)], (), ["a"])
    camera = np.arange(256, dtype=np.float32)[None]
    frames = camera / np.float32(127.5) - np.float32(1)
    nearest = node.plane_values(np.arange(256)).astype(np.float32)
    assert (frames != nearest).any(), "the test needs frames that are a rounding off"
    planes = encode(net, {"x0": frames})["x0"]
    np.testing.assert_array_equal(planes.reshape(1, 256, 8) @ (1 << np.arange(8)), camera)
    np.testing.assert_array_equal(keras_frames(net, {"x0": frames})["x0"], nearest[None])


@pytest.mark.parametrize("value", [-1.0 - 1 / 16, -1.0 + 1 / 32, 3.0, -1.0 + 1e-4])
def test_planes_refuse_what_no_number_stands_for(value: float) -> None:
    node = Input("x0", (1,), "bitplane", 6, step=1 / 16, offset=-1.0)
    unit = Population("a", (1,), 0.5, 0.0)
    net = Graph.from_nodes([node], [unit], [("x0", "a", plane_weights((1,), 6, 1 / 16))], (), ["a"])
    with pytest.raises(DataError, match=r"none of the 64 values from -1.0 to 2.9375.*--step"):
        encode(net, {"x0": np.array([[value]], np.float32)})


def test_twenty_four_bits_are_as_many_as_float32_holds() -> None:
    node = Input("x0", (3,), "bitplane", 24)
    net = Graph.from_nodes([node], [Population("a", (3,), 0.5, 0.0)], [("x0", "a", plane_weights((3,), 24))], (), ["a"])
    numbers = np.array([[0, 2**24 - 1, 12345678]])
    frames = {"x0": (numbers / (2**24 - 1)).astype(np.float32)}
    planes = encode(net, frames)["x0"].reshape(1, 3, 24)
    np.testing.assert_array_equal(planes @ (1 << np.arange(24)), numbers)
    with pytest.raises(GraphError, match=r"bits must lie in 1\.\.24"):
        Input("x0", (3,), "bitplane", 25)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"step": 0.0}, "step must be a positive"), ({"step": np.inf}, "step"), ({"offset": np.nan}, "offset must be")],
)
def test_steps_and_offsets_that_say_nothing_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Input("x0", (3,), "bitplane", 8, **fields)  # type: ignore[arg-type]


def test_binary_frames_are_spikes_from_the_level_upwards_and_keras_sees_the_same() -> None:
    net = graph((3,), "binary")
    frames = {"x0": np.array([[0.5, np.nextafter(np.float32(0.5), 0), 1.0]], np.float32)}
    assert encode(net, frames)["x0"].tolist() == [[True, False, True]]
    assert keras_frames(net, frames)["x0"].tolist() == [[1.0, 0.0, 1.0]]
