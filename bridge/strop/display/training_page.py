"""The page of a training: from the logs of its epochs to what each section of `training.html.j2` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from strop.display.epoch_charts import Line, line_chart, strip_chart
from strop.display.rendering import render, write_into
from strop.display.versions import versions
from strop.display.wording import count, cut, percent
from strop.errors import DataError

History = Mapping[str, Sequence[Any]]
# One number per epoch, by the name of the log; None where none was logged.
Logs = Mapping[str, Sequence[float | None]]

_MOST_CHARTS, _MOST_LAYERS, _MOST_EPOCHS, _MOST_FIGURES = 8, 60, 1000, 8
_PREFIX = "sharpness_"
# What sharpeners and optimisers log beside losses and metrics.
_NO_METRICS = ("sharpness", "learning_rate", "lr", "epoch")


def write_training_page(
    history: Any,
    folder: str | Path,
    *,
    title: str = "training",
    accuracy: float | None = None,
    settings: Mapping[str, Any] | None = None,
    units: Any = None,
) -> Path:
    """Write `training.html` into `folder` (made if it is not there) and return its path.

    >>> history = model.fit(x, y, validation_data=(x_val, y_val), epochs=30, callbacks=[AdaptiveSharpener()])
    >>> strop.display.write_training_page(history, "report")

    Parameters
    ----------
    history : keras.callbacks.History, TrainedModel, or mapping of log name to one number per epoch
        `loss`, metrics, the same with `val_` before them, `sharpness_<layer>` (all sharpeners log it), and
        `sharpened_<metric>` (`SharpeningLogger` logs it). A `TrainedModel` brings its accuracy along.
    title : str
    accuracy : float, optional
        Of the finished, sharpened network on frames that it has not seen, in [0, 1].
    settings : mapping, optional
        What the training was run with: shown as it is.
    units : NeuronReport, or mapping of layer name to mapping of kind to count, optional
        What `strop.keras.neuron_report` found, or for example `{"dense": {"neurons": 256, "dead": 3}}`.

    Raises
    ------
    DataError
        If there is no epoch in `history`, or `folder` is a file.
    """
    if accuracy is None:
        accuracy = getattr(history, "accuracy", None)
    logs = getattr(history, "history", history)
    page = render_training_page(logs, title=title, accuracy=accuracy, settings=settings, units=units)
    return write_into(folder, "training.html", page)


def render_training_page(
    history: History,
    *,
    title: str = "training",
    accuracy: float | None = None,
    settings: Mapping[str, Any] | None = None,
    units: Any = None,
) -> str:
    """Return the page as text; see `write_training_page`."""
    if not isinstance(history, Mapping) or not any(len(values) for values in history.values()):
        raise DataError("a training page needs a history with at least one epoch (what model.fit returns)")
    logs = {str(name): [_number(value) for value in values] for name, values in history.items()}
    sharpness = {name.removeprefix(_PREFIX): values for name, values in logs.items() if name.startswith(_PREFIX)}
    bands = _sharpening(sharpness)
    return render(
        "training.html.j2",
        title=f"strop: {title}",
        heading=title,
        is_recorded=any(sharpness.values()),
        blunt=[name for name, values in sharpness.items() if values and values[-1] != 1.0],
        figures=_figures(logs, sharpness, accuracy),
        has_bands=bool(bands),
        charts=_charts(logs, bands),
        sharpness=_sharpness(sharpness),
        neurons=None if units is None else _neurons(units),
        epochs=_epochs(logs),
        settings=[*((str(name), _setting(value)) for name, value in (settings or {}).items()), *versions()],
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _metrics(logs: Logs) -> list[str]:
    """Return the names of what was trained and measured: loss first, its validation and sharpened kin left out."""
    kin = ("val_", "sharpened_", _PREFIX)
    names = [name for name in logs if not name.startswith(kin) and name not in _NO_METRICS]
    return sorted(names, key=lambda name: name != "loss")[:_MOST_CHARTS]


def _is_share(name: str, logs: Logs) -> bool:
    known = [value for value in logs[name] if value is not None]
    return "acc" in name and bool(known) and max(known) <= 1.0


def _figures(logs: Logs, sharpness: Logs, accuracy: float | None) -> list[tuple[str, str, str]]:
    """Return the key figures: what, how much, and a remark."""
    ends = [values[-1] for values in sharpness.values() if values]
    figures = []
    if accuracy is not None:
        figures.append(("accuracy, sharpened", percent(accuracy), "on unseen frames"))
    figures.append(("epochs", count(max(len(values) for values in logs.values())), ""))
    if ends:
        figures.append(("layers sharpened", f"{sum(value == 1.0 for value in ends)} of {len(ends)}", ""))
    for name in _metrics(logs):
        for key, remark in ((name, "training, last epoch"), (f"val_{name}", "validation, last epoch")):
            last = logs[key][-1] if logs.get(key) else None
            if last is not None and len(figures) < _MOST_FIGURES:
                shown = percent(last) if _is_share(name, logs) else f"{last:.4g}"
                figures.append((cut(name.replace("_", " ")), shown, remark))
    return figures


def _charts(logs: Logs, bands: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return a chart for each metric: its title, the labels of its lines, and the drawing, None if it has no values."""
    charts = []
    for name in _metrics(logs):
        kinds = (
            ("training", name),
            ("validation", f"val_{name}"),
            ("validation, as if sharpened", f"sharpened_{name}"),
        )
        lines = [Line(label, logs[key]) for label, key in kinds if key in logs]
        title = name.replace("_", " ")
        drawing = line_chart(title, lines, bands, percent=_is_share(name, logs))
        charts.append({"title": title, "labels": [line.label for line in lines], "drawing": drawing})
    return charts


def _sharpening(sharpness: Logs) -> list[tuple[int, int]]:
    """Return the first and last epoch of each run of epochs in which any layer was neither blunt nor sharp for good."""
    epochs = max((len(values) for values in sharpness.values()), default=0)
    at_work = [
        any(
            place < len(values) and values[place] != (values[place - 1] if place else 0.0)
            for values in sharpness.values()
        )
        for place in range(epochs)
    ]
    bands: list[tuple[int, int]] = []
    for place, busy in enumerate(at_work):
        if busy and bands and bands[-1][1] == place:
            bands[-1] = (bands[-1][0], place + 1)
        elif busy:
            bands.append((max(1, place), place + 1))
    return bands


def _sharpness(sharpness: Logs) -> dict[str, Any] | None:
    if not sharpness:
        return None
    shown = dict(list(sharpness.items())[:_MOST_LAYERS])
    return {"drawing": strip_chart(shown), "shown": len(shown), "number": len(sharpness)}


def _neurons(units: Any) -> dict[str, Any]:
    """Return a table of neurons by layer and kind."""
    found: Mapping[str, Mapping[str, int]] = (
        units
        if isinstance(units, Mapping)
        else {
            own.name: {"neurons": own.units, "dead (never fire)": own.dead, "stuck (always fire)": own.stuck}
            for own in units.layers
        }
    )
    kinds = list(dict.fromkeys(kind for own in found.values() for kind in own))
    return {"kinds": kinds, "rows": [(name, [own.get(kind) for kind in kinds]) for name, own in found.items()]}


def _epochs(logs: Logs) -> dict[str, Any]:
    """Return every epoch as a row of a table."""
    epochs = min(max(len(values) for values in logs.values()), _MOST_EPOCHS)
    # Wide histories (a sharpness for each of a hundred layers) are in the charts; the table holds what fits.
    names = list(logs)[: max(4, 40_000 // epochs)]
    rows = [
        [_cell(logs[name][place] if place < len(logs[name]) else None) for name in names] for place in range(epochs)
    ]
    return {"names": names, "rows": rows, "left_out": len(logs) - len(names)}


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _setting(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
