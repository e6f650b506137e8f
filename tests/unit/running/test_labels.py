"""Labels: every form in which users have them gives the same classes; what is no class is one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labelled import FRAMES, NUMBERS, Tensor, network

from strop.errors import DataError
from strop.running.labels import as_labels, labels_by_output
from strop.verification.verify import verify


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS,
        list(NUMBERS),
        tuple(int(n) for n in NUMBERS),
        NUMBERS.astype(np.uint8),
        NUMBERS.astype(">i2"),
        NUMBERS.astype(np.uint64),
        NUMBERS.astype(float),
        NUMBERS.astype(np.float16),
        NUMBERS[:, None],
        NUMBERS[:, None].astype(np.float32),
        np.eye(3, dtype=int)[NUMBERS],
        np.eye(3, dtype=np.float32)[NUMBERS],
        np.eye(3, dtype=bool)[NUMBERS],
        [list(row) for row in np.eye(3)[NUMBERS]],
        Tensor(NUMBERS),
        {"out0": NUMBERS},
        {"1": NUMBERS},
        {1: NUMBERS},
    ],
)
def test_labels_of_any_form_are_class_numbers(labels: Any) -> None:
    truths, notes = labels_by_output(network(), labels, 30)
    assert truths is not None
    assert truths[0] is not None
    assert truths[0].dtype == np.int64
    np.testing.assert_array_equal(truths[0], NUMBERS)
    assert notes == []


def test_bool_labels_are_the_classes_0_and_1() -> None:
    found = as_labels(NUMBERS == 1, 30, 2)
    assert found is not None
    np.testing.assert_array_equal(found, (NUMBERS == 1).astype(int))


def changed(index: Any, value: Any, dtype: Any = int) -> np.ndarray:
    labels = NUMBERS.astype(dtype)
    labels[index] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (changed(17, 3), r"3 at index 17 is not one of the 3 classes, 0 to 2"),
        (changed([17, 20], -1), r"-1 at index 17 is not one of the 3 classes"),
        (changed(5, 2**63 + 1, np.uint64), r"9223372036854775809 at index 5 is not one of the 3 classes"),
        (changed(4, 0.5, float), r"0\.5 at index 4 is not one of the 3 classes"),
        (changed(4, np.nan, float), r"nan at index 4"),
        (changed(4, np.inf, np.float32), r"inf at index 4"),
        (NUMBERS[:29], r"must be 30 class numbers, one per frame; got int64 \(29,\)"),
        (np.zeros((30, 2, 2), int), r"must be 30 class numbers.*\(30, 2, 2\)"),
        (np.int64(3), r"must be 30 class numbers"),
        (["cat"] * 30, r"number the classes from 0, in the order of the model's outputs"),
        (NUMBERS.astype("M8[s]"), r"must be 30 class numbers.*datetime64"),
        (NUMBERS.astype(complex), r"must be 30 class numbers.*complex128"),
        ([None] * 30, r"must be 30 class numbers.*object"),
        ([[0], [1, 2]] * 15, r"labels cannot be made an array"),
        (np.full((30, 3), 1 / 3), r"row 0 is not one-hot"),
        (np.eye(3)[NUMBERS] * 2, r"row 0 is not one-hot"),
        (np.vstack([np.eye(3)[NUMBERS[:12]], np.zeros((18, 3))]), r"row 12 is not one-hot \(\[0\. 0\. 0\.\]\)"),
        (np.vstack([np.eye(3)[NUMBERS[:12]], np.ones((18, 3))]), r"row 12 is not one-hot"),
        (np.eye(4)[NUMBERS], r"rows of 4 numbers, and there are 3 classes"),
        ({"out": NUMBERS}, r"labels are given for 'out', and the outputs are out0. Did you mean 'out0'\?"),
        ({"out0": NUMBERS, "1": NUMBERS}, r"labels are given twice for 'out0'"),
    ],
)
def test_what_is_no_class_is_refused_with_its_value_and_place(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels_by_output(network(), labels, 30)
    with pytest.raises(DataError, match=message):
        verify(network(), FRAMES, labels, backends=["reference"])


@pytest.mark.parametrize(
    "labels",
    [
        (NUMBERS, NUMBERS + 1),
        [NUMBERS, list(NUMBERS + 1)],
        {"out0": NUMBERS, "out1": NUMBERS + 1},
        {"1": np.eye(3)[NUMBERS], "2": np.eye(4)[NUMBERS + 1]},
    ],
)
def test_each_of_several_outputs_may_have_its_labels(labels: Any) -> None:
    graph = network(("key", "linear"))
    truths, _ = labels_by_output(graph, labels, 30)
    assert truths is not None
    np.testing.assert_array_equal(truths[0], NUMBERS)
    np.testing.assert_array_equal(truths[1], NUMBERS + 1)
    report = verify(graph, FRAMES, labels, backends=["reference"]).backends["reference"]
    from strop.running.simulate import simulate

    output = simulate(graph, FRAMES, "reference").output
    wanted = {
        "out0": float((output[0].argmax(axis=-1) == NUMBERS).mean()),
        "out1": float((output[1].argmax(axis=-1) == NUMBERS + 1).mean()),
    }
    assert report.accuracies == wanted
    assert report.accuracy == wanted["out0"]
    assert report.to_dict()["accuracies"] == wanted


def test_labels_of_the_second_output_alone_leave_the_first_without_an_accuracy() -> None:
    for labels in ([None, NUMBERS], {"out1": NUMBERS}):
        report = verify(network(("key", "softmax")), FRAMES, labels, backends=["reference"]).backends["reference"]
        assert report.accuracy is None
        assert report.accuracies["out0"] is None
        assert report.accuracies["out1"] is not None


def test_plain_labels_are_for_the_first_output_or_for_the_only_one_that_decides() -> None:
    first, _ = labels_by_output(network(("key", "softmax")), NUMBERS, 30)
    assert first is not None
    assert (first[0] is not None, first[1]) == (True, None)
    only, _ = labels_by_output(network(("spikes", "softmax")), NUMBERS, 30)
    assert only is not None
    assert (only[0], only[1] is not None) == (None, True)


def test_labels_of_an_output_that_decides_nothing_are_said_to_give_no_accuracy() -> None:
    for labels in (NUMBERS, NUMBERS + 0.5, np.zeros((30, 8)), {"b": NUMBERS}):
        report = verify(network(("spikes",)), FRAMES, labels, backends=["reference"])
        assert report.backends["reference"].accuracy is None
        assert "labels give no accuracy: output 'b' does not decide between classes" in report.notes
    with pytest.raises(DataError, match="30 class numbers"):
        verify(network(("spikes",)), FRAMES, NUMBERS[:7], backends=["reference"])


def test_as_many_frames_as_outputs_make_no_confusion() -> None:
    graph = network(("key", "softmax"))
    plain, _ = labels_by_output(graph, [1, 2], 2)
    assert plain is not None
    assert plain[0] is not None
    assert (plain[0].tolist(), plain[1]) == ([1, 2], None)
    both, _ = labels_by_output(graph, [[1, 2], [0, 3]], 2)
    assert both is not None
    assert [own.tolist() for own in both if own is not None] == [[1, 2], [0, 3]]


def test_accuracies_of_all_outputs_stand_in_the_table() -> None:
    report = verify(network(("key", "linear")), FRAMES, [NUMBERS, NUMBERS + 1], backends=["reference"])
    assert "accuracy of out1" in str(report)
    assert "accuracy of" not in str(verify(network(), FRAMES, NUMBERS, backends=["reference"]))


def test_as_labels_can_still_be_imported_from_where_it_was() -> None:
    from strop.verification.verify import as_labels as moved

    assert moved is as_labels
