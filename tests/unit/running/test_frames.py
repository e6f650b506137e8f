"""What users hand over as frames: every form gives the same arrays, what has no plain meaning is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import FRAMES, NUMBERS, Tensor, network

from strop.errors import DataError, StropError
from strop.graph import Dense, Graph, Input, Population
from strop.running.encode import as_frames, frame_notes
from strop.running.simulate import simulate
from strop.verification.verify import verify


def two_inputs() -> Graph:
    nodes = [Input("left", (6,)), Input("right", (2, 2, 1))]
    links = [("left", "a", Dense(np.ones((6, 1)))), ("right", "b", Dense(np.ones((1, 1)), (2, 2)))]
    populations = [Population("a", (1,), 0.5, 0.0), Population("b", (2, 2, 1), 0.5, 0.0)]
    return Graph.from_nodes(nodes, populations, links, (), ["a", "b"])


class _Table:
    """A pandas DataFrame as strop sees it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values.astype(dtype or self.values.dtype)

    def __iter__(self) -> Iterator[str]:  # a table's iterator gives the names of its columns
        return iter("abcdef")


class _Loader:
    """A PyTorch DataLoader as strop sees it: lists of batches, again from the start each time."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        for start in range(0, 30, 8):
            yield [Tensor(FRAMES[start : start + 8]), Tensor(NUMBERS[start : start + 8])]


class _ByNumber:
    """Batches by number alone."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return FRAMES[number * 10 : number * 10 + 10], NUMBERS[number * 10 : number * 10 + 10]


class _Sparse:
    """A sparse matrix of SciPy as strop sees it."""

    def toarray(self) -> np.ndarray:
        return FRAMES


def pairs() -> Iterator[Any]:
    return zip(FRAMES, NUMBERS, strict=True)


@pytest.mark.parametrize(
    ("frames", "labelled"),
    [
        (FRAMES, False),
        (FRAMES.tolist(), False),
        (list(FRAMES), False),
        (tuple(FRAMES), False),
        (Tensor(FRAMES), False),
        (_Table(FRAMES), False),
        (_Sparse(), False),
        ({"x": FRAMES}, False),
        ({"1": FRAMES}, False),
        (memoryview(FRAMES), False),
        ((FRAMES, None), False),
        ((FRAMES, NUMBERS), True),
        ([FRAMES, NUMBERS], True),
        ((FRAMES.tolist(), NUMBERS.tolist()), True),
        ((FRAMES, np.eye(3)[NUMBERS]), True),
        ((FRAMES, {"out0": NUMBERS}), True),
        ((Tensor(FRAMES), Tensor(NUMBERS)), True),
        (({"x": FRAMES}, NUMBERS), True),
        ((FRAMES, NUMBERS, np.ones(30)), True),
        (lambda: iter(FRAMES), False),
        (lambda: (FRAMES[n : n + 7] for n in range(0, 30, 7)), False),
        (lambda: (FRAMES[n : n + 7].tolist() for n in range(0, 30, 7)), False),
        (lambda: ((x,) for x in FRAMES), False),
        (lambda: ({"x": x} for x in FRAMES), False),
        (lambda: pairs(), True),
        (lambda: ((x, np.eye(3)[y]) for x, y in pairs()), True),
        (lambda: ((x.tolist(), int(y)) for x, y in pairs()), True),
        (lambda: ((x, {"out0": y}) for x, y in pairs()), True),
        (lambda: ((FRAMES[n : n + 7], NUMBERS[n : n + 7], np.ones(7)) for n in range(0, 30, 7)), True),
        (_Loader(), True),
        (_ByNumber(), True),
    ],
)
def test_frames_of_any_form_are_the_same(frames: Any, labelled: bool) -> None:
    """A function stands for a stream, which can be read once."""

    def fresh() -> Any:
        return frames() if callable(frames) else frames

    np.testing.assert_array_equal(as_frames(network(), fresh())["x"], FRAMES)
    np.testing.assert_array_equal(
        simulate(network(), fresh(), "reference").output, simulate(network(), FRAMES, "reference").output
    )
    wanted = verify(network(), FRAMES, NUMBERS if labelled else None, backends=["reference"]).backends["reference"]
    found = verify(network(), fresh(), backends=["reference"]).backends["reference"]
    assert found.accuracy == wanted.accuracy
    assert [layer.spikes for layer in found.layers] == [layer.spikes for layer in wanted.layers]


def test_weights_of_samples_are_said_to_be_unused() -> None:
    stream = ((x, y, 1.0) for x, y in pairs())
    for frames in ((FRAMES, NUMBERS, np.ones(30)), stream):
        report = verify(network(), frames, backends=["reference"])
        assert "weights of the samples are not used: every frame counts once" in report.notes


def test_labels_given_beside_a_stream_of_pairs_are_those_that_count() -> None:
    report = verify(network(), pairs(), NUMBERS * 0, backends=["reference"])
    answers = simulate(network(), FRAMES, "reference").classes
    assert report.backends["reference"].accuracy == float((answers == 0).mean())
    assert "the labels that came with the frames are not used: others were given" in report.notes


@pytest.mark.parametrize(
    "frames",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, b.reshape(-1, 4)],
        lambda a, b: {"right": b, "left": a},
        lambda a, b: {"2": b, "1": a},
        lambda a, b: zip(a, b, strict=True),
        lambda a, b: ((a[n : n + 5], b[n : n + 5, ..., 0]) for n in range(0, 30, 5)),
        lambda a, b: ({"left": x, "right": y} for x, y in zip(a, b, strict=True)),
        lambda a, b: (((x, y), 1) for x, y in zip(a, b, strict=True)),
        lambda a, b: ((a, b), NUMBERS),
        lambda a, b: ({"left": a, "right": b}, NUMBERS),
    ],
)
def test_frames_of_several_inputs_are_the_same(frames: Any) -> None:
    a, b = FRAMES, np.random.default_rng(2).random((30, 2, 2, 1), np.float32)
    found = as_frames(two_inputs(), frames(a, b))
    np.testing.assert_array_equal(found["left"], a)
    np.testing.assert_array_equal(found["right"], b)


def test_two_frames_in_a_list_are_two_frames() -> None:
    assert as_frames(network(), [[0.0] * 6, [1.0] * 6])["x"].shape == (2, 6)
    assert as_frames(network(), (FRAMES[0], FRAMES[1]))["x"].shape == (2, 6)
    assert as_frames(network(), [FRAMES[0]])["x"].shape == (1, 6)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (None, "no frames are given: give an array"),
        ("frames.npz", r"given as 'frames.npz': read them first, for example with numpy.load"),
        (Path("frames.npz"), "read them first"),
        (3.0, "are empty"),
        ({1, 2}, r"cannot be made an array of \(set\)"),
        (object(), r"cannot be made an array of \(object\)"),
        ([[0.0] * 6, [1.0] * 5], "cannot be made an array"),
        ({"y": FRAMES}, r"given for 'y', and the inputs are x"),
        ({}, "must be given for the inputs x"),
        (np.full((3, 6), "a"), "have dtype <U1"),
        (np.zeros((3, 6), complex), "have dtype complex128"),
        (np.zeros((3, 6), "m8[s]"), "have dtype timedelta64"),
        (np.full((3, 6), None), "have dtype object"),
        (np.ma.masked_less(FRAMES, 0.5), "hold masked values"),
        ((FRAMES, NUMBERS[:29]), r"first part holds 30 frames and the second, of shape \(29,\), no label"),
        ((FRAMES, "labels"), r"first part holds 30 frames and the second, of shape \(str\), no label"),
        ((FRAMES, NUMBERS, NUMBERS, NUMBERS), "cannot be made an array"),
        (iter([]), "gave no frames"),
        (iter([np.zeros((2, 5))]), r"element 0 of the list_iterator has the shape \(2, 5\)"),
        (iter([FRAMES, (FRAMES, NUMBERS)]), "element 1 of the list_iterator has labels, unlike those before it"),
        (iter([(FRAMES, NUMBERS), FRAMES]), "element 1 of the list_iterator has no labels, unlike those before it"),
        (iter([(FRAMES, NUMBERS), (FRAMES, np.eye(3)[NUMBERS])]), "labels differ from element to element"),
        (iter([(FRAMES, {"out0": NUMBERS}), (FRAMES, {"1": NUMBERS})]), "labels differ from element to element: give"),
        (iter([(FRAMES, {"out0": NUMBERS}), (FRAMES, NUMBERS)]), "labels differ from element to element: give"),
        (iter(["a", "b"]), "has the shape"),
        (iter([None]), "cannot be made an array"),
    ],
)
def test_frames_without_a_plain_meaning_are_refused(frames: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        verify(network(), frames, backends=["reference"])


def test_a_stream_without_an_end_stops_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from itertools import repeat

    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e6")
    with pytest.raises(StropError, match=r"gathering frames from the itertools.repeat needs about .*take\(number\)"):
        as_frames(network(), repeat(FRAMES))


def test_what_a_users_own_stream_raises_is_not_hidden() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield FRAMES
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        as_frames(network(), broken())


# Types and sizes ------------------------------------------------------------------------------------------------------


def whole(dtype: str = "float32", scaled_by: str = "") -> Graph:
    node = Input("x", (3,), dtype=dtype, scaled_by=scaled_by)
    return Graph.from_nodes([node], [Population("a", (2,), 0.5, 0.0)], [("x", "a", Dense(np.ones((3, 2))))], (), ["a"])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", ">u2", "i4", ">i4", "u4", "i8", ">i8", "u8"])
@pytest.mark.parametrize("graph", [whole(), whole(scaled_by="Rescaling"), whole("int64")])
def test_whole_numbers_of_any_type_are_used_as_they_are(dtype: str, graph: Graph) -> None:
    frames = np.array([[0, 1, 127], [5, 6, 7]], dtype)
    scale = 255 if dtype == "u1" and not graph.inputs[0].whole_numbers else 1
    found = as_frames(graph, frames)["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0, 1, 127], [5, 6, 7]], np.float32) / np.float32(scale))


@pytest.mark.parametrize("dtype", ["f2", ">f2", "f4", ">f4", "f8", ">f8", "g", "?"])
def test_floats_and_bool_are_used_as_they_are(dtype: str) -> None:
    frames = np.array([[0, 1, 1]], dtype)
    np.testing.assert_array_equal(as_frames(whole(), frames)["x"], [[0.0, 1.0, 1.0]])


@pytest.mark.parametrize("value", [2**24 + 2, 2**40, -(2**63), -(2**24), 3 * 2**30])
def test_large_whole_numbers_that_float32_holds_are_taken(value: int) -> None:
    assert as_frames(whole(), np.array([[value, 0, 1]], np.int64))["x"][0, 0] == value


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**24 + 1, "i8"), (-(2**24) - 1, "i4"), (2**63 - 1, "i8"), (2**64 - 1, "u8"), (2**32 - 1, "u4")],
)
def test_whole_numbers_that_float32_rounds_are_refused(value: int, dtype: str) -> None:
    with pytest.raises(DataError, match=f"hold {value}, which float32 does not: Keras would round it"):
        as_frames(whole(), np.array([[0, value, 1]], dtype))


@pytest.mark.parametrize(
    ("dtype", "frames", "value"),
    [
        ("uint8", np.array([[0, 256, 1]]), "256.0"),
        ("uint8", np.array([[0, -1, 1]]), "-1.0"),
        ("int8", np.array([[0, 128, 1]], np.uint8), "128.0"),
        ("uint8", np.array([[0, 0.5, 1]]), "0.5"),
        ("int32", np.array([[0, 2.0**31, 1]]), "2147483648.0"),
        ("int64", np.array([[0, 2.0**63, 1]]), "9.223372036854776e"),
        ("bool", np.array([[0, 2, 1]]), "2.0"),
    ],
)
def test_what_an_integer_input_cannot_hold_is_refused(dtype: str, frames: np.ndarray, value: str) -> None:
    with pytest.raises(DataError, match=rf"hold {value}.*, and the model's input takes {dtype}: whole numbers from"):
        as_frames(whole(dtype), frames)


@pytest.mark.parametrize(
    ("graph", "frames", "note"),
    [
        (whole(), np.zeros((1, 3), np.uint8), "uint8 frames divided by 255"),
        (
            whole(),
            np.array([[0, 1, 1]], np.uint8),
            "uint8 frames divided by 255, though none is above 1: if the model was trained on these numbers as they "
            "are, give float32",
        ),
        (whole(), np.array([[0, 1, 128]], np.uint8), "uint8 frames divided by 255"),
        (
            whole(scaled_by="Rescaling"),
            np.full((1, 3), 9, np.uint8),
            "uint8 frames used as they are: the model begins with Rescaling",
        ),
        (
            whole(scaled_by="Rescaling"),
            np.full((1, 3), 0.5, np.float32),
            "float32 frames from 0.5 to 0.5 used as they are, though the model begins with Rescaling: multiply by 255 "
            "if it was trained on 0..255",
        ),
        (whole("int32"), np.zeros((1, 3), np.int64), "int64 frames used as they are: the model's input takes int32"),
        (whole(), np.zeros((1, 3), bool), "bool frames used as 0 and 1"),
        (whole(), np.ones((1, 3)), "float64 frames used as they are"),
        (whole(), -np.ones((1, 3)) * 7, "float64 frames used as they are"),
        (
            whole(),
            np.array([[0, 1, 255.0]]),
            "float64 frames from 0 to 255 used as they are, though nothing in the model scales them: if the model was "
            "trained on 0..1, divide by 255 first",
        ),
        (
            whole(),
            np.array([[0, 1, 16]]),
            "int64 frames from 0 to 16 used as they are, though nothing in the model scales them: if the model was "
            "trained on 0..1, bring them to that range first",
        ),
    ],
)
def test_what_was_done_with_the_frames_is_said(graph: Graph, frames: np.ndarray, note: str) -> None:
    assert frame_notes(graph, {"x": frames}) == [f"input 'x': {note}"]
    report = verify(graph, frames, backends=["reference"])
    assert report.notes == report.to_dict()["notes"] == [f"input 'x': {note}"]
    assert " ".join(f"input 'x': {note}".split()) in " ".join(str(report).split())
    assert simulate(graph, frames, "reference").notes == (f"input 'x': {note}",)


def test_the_table_does_not_take_notes_for_markup() -> None:
    report = verify(whole(), np.ones((1, 3)), backends=["reference"])
    report.notes = ["input '[red]x[/red]': used"]
    assert "[red]x[/red]" in str(report)
