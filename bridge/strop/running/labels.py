"""Labels in the forms that users have, as class numbers per output, and accuracies against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph
from strop.running.decode import class_count
from strop.running.frames import as_array, by_name

IntArray = npt.NDArray[np.int64]

# One entry per output of a graph, in its order: class numbers, shape (n,), or None.
Truths = tuple[IntArray | None, ...]


def as_labels(
    labels: Any, count: int, classes: int | None = None, where: str = "labels", first: int = 0
) -> IntArray | None:
    """Return labels as class numbers, shape `(count,)`.

    Parameters
    ----------
    labels : array-like or None
        Class numbers, shape (count,) or (count, 1): integers, bool, or floats that are whole numbers; or one-hot rows.
    count : int
        Number of frames.
    classes : int, optional
        Number of classes, where it is known.
    where : str
        What to call them in messages.
    first : int
        The place of the first of them, for messages.

    Raises
    ------
    DataError
        If they are none of these, or a number is no class; names the value and its place.
    """
    if labels is None:
        return None
    array = as_array(labels, where)
    if array.ndim not in (1, 2) or len(array) != count:
        raise DataError(f"{where} must be {count} class numbers, one per frame; got {array.dtype} {array.shape}")
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DataError(
            f"{where} must be {count} class numbers, one per frame; got {array.dtype} {array.shape}: number the "
            "classes from 0, in the order of the model's outputs"
        )
    if array.ndim == 2 and array.shape[1] != 1:
        array = _of_one_hot(array, classes, where, first)
    array = array.reshape(-1)
    whole = np.isfinite(array) & (array == np.floor(array)) if array.dtype.kind not in "biu" else np.full(count, True)
    right = whole & (array >= 0) & (array < (classes or 2**31))
    if not right.all():
        index = int(np.flatnonzero(~right)[0])
        among = "a class number from 0" if classes is None else f"one of the {classes} classes, 0 to {classes - 1}"
        raise DataError(f"{where}: {array[index].item()!r} at index {first + index} is not {among}")
    return array.astype(np.int64)


def _of_one_hot(rows: npt.NDArray[Any], classes: int | None, where: str, first: int) -> IntArray:
    if classes is not None and rows.shape[1] != classes:
        raise DataError(
            f"{where} have rows of {rows.shape[1]} numbers, and there are {classes} classes: give class numbers, one "
            "per frame, or one-hot rows"
        )
    right = ((rows == 0) | (rows == 1)).all(axis=1) & ((rows != 0).sum(axis=1) == 1)
    if not right.all():
        index = int(np.flatnonzero(~right)[0])
        raise DataError(
            f"{where}: row {first + index} is not one-hot ({np.array2string(rows[index], threshold=8)}): one number "
            "must be 1, the others 0; or give class numbers, one per frame"
        )
    numbers: IntArray = rows.argmax(axis=1).astype(np.int64)
    return numbers


def labels_by_output(
    graph: Graph, labels: Any, count: int, keys: Mapping[str, str] | None = None, first: int = 0
) -> tuple[Truths | None, list[str]]:
    """Return class numbers for every output that decides between classes, None for the others, and notes.

    Parameters
    ----------
    labels : array-like, or a list, tuple or mapping of them, or None
        One array is for the first output (for the only one that decides, if the first does not). A list or tuple with
        one entry per output, or a mapping by the outputs' names or numbers from "1", may hold None.
    count : int
        Number of frames.
    keys : mapping of str to output name, optional
        Keras's keys of the outputs, where they are not the layers' names.
    first : int
        The place of the first of these labels among all, for messages.

    Returns
    -------
    truths : tuple, or None where there are no labels for any output that decides
    notes : list of str

    Raises
    ------
    DataError
        See `as_labels`; or if a name is none of an output.
    """
    if labels is None:
        return None, []
    names = list(graph.outputs)
    classes = [class_count(graph, name) for name in names]
    per_output: list[Any] = [None] * len(names)
    if isinstance(labels, Mapping):
        per_output = by_name(names, labels, "labels", "outputs", keys)
    elif one_per_output(labels, len(names), count):
        per_output = list(labels)
    else:
        deciding = [number for number, found in enumerate(classes) if found]
        per_output[deciding[0] if len(deciding) == 1 else 0] = labels
    truths: list[IntArray | None] = []
    notes = []
    for name, own, found in zip(names, per_output, classes, strict=True):
        where = "labels" if len(names) == 1 else f"labels of output {name!r}"
        if own is not None and not found:
            notes.append(f"{where} give no accuracy: output {name!r} does not decide between classes")
            own = _of_no_decision(own, count, where)
        truths.append(as_labels(own, count, found, where, first))
    return (tuple(truths) if any(own is not None for own in truths) else None), notes


def _of_no_decision(labels: Any, count: int, where: str) -> IntArray | None:
    """Return class numbers, which a page can show beside the frames; None for other targets, such as values."""
    array = as_array(labels, where)
    if array.ndim == 0 or len(array) != count:
        raise DataError(f"{where} must be {count} class numbers, one per frame; got {array.dtype} {array.shape}")
    try:
        return as_labels(array, count, None, where)
    except DataError:
        return None


def one_per_output(labels: Any, outputs: int, count: int | None) -> bool:
    """Whether a sequence holds labels for each output, and not one label for each frame (None: not known how many)."""
    if outputs == 1 or not isinstance(labels, (tuple, list)) or len(labels) != outputs:
        return False
    return count not in (None, outputs) or any(part is None or np.ndim(part) > 0 for part in labels)


def part_of(truths: Truths | None, start: int, stop: int) -> Truths | None:
    """Return the labels of some frames."""
    return None if truths is None else tuple(own if own is None else own[start:stop] for own in truths)


class Scores:
    """Frames that Keras and each backend classified as labelled, for every output that has labels.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        self.names = list(graph.outputs)
        self._correct: dict[str, list[int]] = {}
        self._labelled: dict[str, list[int]] = {}

    def add(self, comparison: str, answers: Sequence[IntArray | None], truths: Truths | None) -> None:
        """Count a chunk: the classes that `comparison` ("keras" or a backend) decided for, and the labels.

        Both per output, shape `(n,)` or None.
        """
        if truths is None:
            return
        correct = self._correct.setdefault(comparison, [0] * len(self.names))
        labelled = self._labelled.setdefault(comparison, [0] * len(self.names))
        for number, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            if answer is not None and truth is not None:
                correct[number] += int((answer == truth).sum())
                labelled[number] += len(truth)

    def merge(self, other: Scores) -> None:
        """Add what was counted over other frames of the same graph."""
        for name, correct in other._correct.items():
            mine = self._correct.setdefault(name, [0] * len(self.names))
            labelled = self._labelled.setdefault(name, [0] * len(self.names))
            for number in range(len(self.names)):
                mine[number] += correct[number]
                labelled[number] += other._labelled[name][number]

    def accuracies(self, comparison: str) -> dict[str, float | None]:
        """Return the accuracy of every output by its name; None for those without labels, nothing if none has any."""
        if comparison not in self._correct:
            return {}
        counts = zip(self.names, self._correct[comparison], self._labelled[comparison], strict=True)
        return {name: correct / labelled if labelled else None for name, correct, labelled in counts}

    def accuracy(self, comparison: str) -> float | None:
        """Return the accuracy of the first output, None if it has no labels."""
        return self.accuracies(comparison).get(self.names[0])
