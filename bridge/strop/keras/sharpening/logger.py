"""Write a training with sharpening to a file: one record per epoch, JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from strop.errors import DataError
from strop.keras.sharpness import get_sharpness, set_sharpness

Record = dict[str, Any]


class SharpeningLogger(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Record every epoch: loss, metrics, sharpness of each layer, and how good the network would be if sharp.

    >>> logger = SharpeningLogger("training.jsonl", validation_data=(x_val, y_val))
    >>> model.fit(x, y, epochs=30, callbacks=[SimpleSharpener(5), logger])

    A record holds ``epoch`` (from 0), everything in Keras's logs, ``sharpness_<layer>`` for each spiking
    layer and their mean ``sharpness``; with `validation_data` also ``sharpened_loss`` and
    ``sharpened_<metric>``, measured with all layers at sharpness 1 and put into Keras's logs as well. The
    sharpness of the model is as before afterwards. Place it after the sharpener, whose entries in the logs it
    takes over.

    The file is complete after every epoch: it is written under another name and renamed. Numbers that are not
    finite become ``null`` in JSON and an empty field in CSV.

    Parameters
    ----------
    path : str or path-like, ending in .jsonl or .csv
        Folders on the way are made.
    validation_data : tuple (x, y), optional
        Frames and targets as `model.evaluate` takes them, for the sharpened figures.
    batch_size : int, optional
        Frames per batch of that evaluation.
    append : bool
        Keep the records that the file already has; otherwise it begins anew with each training.

    Raises
    ------
    DataError
        If the ending is another one, if `validation_data` is no pair, or if a file to append to cannot be
        read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        validation_data: tuple[Any, Any] | None = None,
        *,
        batch_size: int | None = None,
        append: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.suffix not in (".jsonl", ".csv"):
            raise DataError(f"SharpeningLogger writes .jsonl or .csv, not {self.path.name!r}")
        if validation_data is not None and not (
            isinstance(validation_data, tuple | list) and len(validation_data) == 2
        ):
            raise DataError("validation_data of SharpeningLogger must be a pair (x, y)")
        self.validation_data = validation_data
        self.batch_size = batch_size
        self.append = append
        self.records: list[Record] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin with an empty list of records, or with those of the file."""
        self.records = _read(self.path) if self.append and self.path.exists() else []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the record of this epoch and write the file."""
        logs = {} if logs is None else logs
        if self.validation_data is not None:
            logs.update(self._evaluate_sharpened(*self.validation_data))
        sharpness = get_sharpness(self.model)
        record: Record = {f"sharpness_{name}": value for name, value in sharpness.items()}
        if sharpness:
            record["sharpness"] = sum(sharpness.values()) / len(sharpness)
        # What a sharpener has logged comes second and wins: it may have sharpened on since, for the next
        # epoch.
        record = {"epoch": epoch, **record, **logs}
        self.records.append({name: _plain(value) for name, value in record.items()})
        _write(self.path, self.records)

    def _evaluate_sharpened(self, x: Any, y: Any) -> dict[str, float]:
        before = get_sharpness(self.model)
        if not before:
            return {}
        set_sharpness(self.model, 1.0)
        try:
            figures = self.model.evaluate(x, y, batch_size=self.batch_size, verbose=0, return_dict=True)
        finally:
            set_sharpness(self.model, before)
        return {f"sharpened_{name}": float(value) for name, value in figures.items()}


def _plain(value: Any) -> Any:
    """Return a log entry as something that both formats can hold; None stands for what is not finite."""
    if isinstance(value, str | int | None):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


def _write(path: Path, records: list[Record]) -> None:
    text = _as_csv(records) if path.suffix == ".csv" else "".join(json.dumps(record) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed only when whole: whoever reads along, or whatever kills the training, never meets half a file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _as_csv(records: list[Record]) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def _read(path: Path) -> list[Record]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            return [_numbers(row) for row in csv.DictReader(io.StringIO(text))]
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:  # bad UTF-8 and bad JSON
        raise DataError(f"cannot append to {path}: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise DataError(f"cannot append to {path}: not one JSON object per line")
    return records


def _numbers(row: Mapping[str, str | None]) -> Record:
    record: Record = {}
    for name, field in row.items():
        if not field:
            continue
        try:
            record[name] = int(field) if name == "epoch" else float(field)
        except ValueError:
            record[name] = field
    return record
