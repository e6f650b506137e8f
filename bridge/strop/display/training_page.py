"""The page of a training: loss and metrics, the sharpness of every layer, what came out, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from strop.display.charts import Line, line_chart, strip_chart
from strop.display.markup import breakable, count, document, escape, percent, section, table, tiles, write_into
from strop.display.verification_page import facts, versions
from strop.errors import DataError

History = Mapping[str, Sequence[Any]]

_MOST_CHARTS, _MOST_LAYERS, _MOST_EPOCHS = 8, 60, 1000
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
    parts = [_header(title, logs, sharpness, accuracy), _curves(logs, sharpness), _sharpness(sharpness)]
    if units is not None:
        parts.append(_units(units))
    parts += [_epochs(logs), _settings(settings)]
    footer = "<footer><p>One file, complete in itself: it loads nothing.</p></footer>"
    return document(f"strop: {title}", "\n".join(["<main>", *parts, "</main>", footer]))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _metrics(logs: Mapping[str, Any]) -> list[str]:
    """Return the names of what was trained and measured: loss first, its validation and sharpened kin left out."""
    kin = ("val_", "sharpened_", _PREFIX)
    names = [name for name in logs if not name.startswith(kin) and name not in _NO_METRICS]
    return sorted(names, key=lambda name: name != "loss")[:_MOST_CHARTS]


def _is_share(name: str, logs: Mapping[str, list[float | None]]) -> bool:
    known = [value for value in logs[name] if value is not None]
    return "acc" in name and bool(known) and max(known) <= 1.0


def _header(
    title: str,
    logs: Mapping[str, list[float | None]],
    sharpness: Mapping[str, list[float | None]],
    accuracy: float | None,
) -> str:
    epochs = max(len(values) for values in logs.values())
    ends = [values[-1] for values in sharpness.values() if values]
    sharp = sum(value == 1.0 for value in ends)
    figures = []
    if accuracy is not None:
        figures.append(("accuracy, sharpened", percent(accuracy), "on unseen frames"))
    figures.append(("epochs", count(epochs), ""))
    if ends:
        figures.append(("layers sharpened", f"{sharp} of {len(ends)}", ""))
    for name in _metrics(logs):
        for key, remark in ((name, "training, last epoch"), (f"val_{name}", "validation, last epoch")):
            last = logs[key][-1] if logs.get(key) else None
            if last is not None and len(figures) < 8:
                shown = percent(last) if _is_share(name, logs) else f"{last:.4g}"
                figures.append((escape(name.replace("_", " ")), shown, remark))
    if ends and sharp == len(ends):
        verdict = "<p>Every activation is a threshold now: the network can be lowered and verified.</p>"
    elif ends:
        blunt = ", ".join(escape(name) for name, values in sharpness.items() if values and values[-1] != 1.0)
        verdict = f"<p><strong>Not fully sharpened:</strong> {blunt}. Such a network cannot be lowered yet.</p>"
    else:
        verdict = "<p>The history records no sharpness: train with a sharpener of strop.keras to see it here.</p>"
    return (
        f'<header>\n<p class="eyebrow">strop training</p>\n<h1>{escape(title)}</h1>\n{verdict}{tiles(figures)}</header>'
    )


def _curves(logs: Mapping[str, list[float | None]], sharpness: Mapping[str, list[float | None]]) -> str:
    bands = _sharpening(sharpness)
    figures: list[str] = []
    for name in _metrics(logs):
        kinds = (
            ("training", name),
            ("validation", f"val_{name}"),
            ("validation, as if sharpened", f"sharpened_{name}"),
        )
        lines = [Line(label, logs[key]) for label, key in kinds if key in logs]
        heading = escape(name.replace("_", " "))
        chart = line_chart(name.replace("_", " "), lines, bands, percent=_is_share(name, logs))
        figures.append(f'<figure id="chart-{len(figures)}"><h3>{heading}</h3>{_keys(lines)}{chart}</figure>')
    told = "Shaded: the epochs in which layers were being sharpened." if bands else ""
    return section(
        "curves", "Loss and metrics", f'<p class="note">{told}</p>', f'<div class="charts two">{"".join(figures)}</div>'
    )


def _keys(lines: Sequence[Line]) -> str:
    """Return which line is which: dashes and marks say it as well as colour."""
    marks = (
        '<path class="line" d="M0 9h32"/><circle class="dot" cx="16" cy="9" r="3.5"/>',
        '<path class="line second" d="M0 9h32"/><rect class="dot second" x="13" y="6" width="6" height="6"/>',
        '<path class="line third" d="M0 9h32"/><path class="dot third" d="M12 12.5h8L16 5z"/>',
    )
    return (
        '<ul class="legend">'
        + "".join(
            f'<li><svg class="chart" viewBox="0 0 32 18" aria-hidden="true">{mark}</svg>{escape(line.label)}</li>'
            for line, mark in zip(lines, marks, strict=False)
        )
        + "</ul>"
    )


def _sharpening(sharpness: Mapping[str, list[float | None]]) -> list[tuple[int, int]]:
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


def _sharpness(sharpness: Mapping[str, list[float | None]]) -> str:
    if not sharpness:
        return ""
    shown = dict(list(sharpness.items())[:_MOST_LAYERS])
    less = f'<p class="note">The first {_MOST_LAYERS} of {len(sharpness)} layers are shown.</p>'
    return section(
        "sharpness",
        "Sharpness of each layer",
        "<p>0 is the activation as it is trained first, 1 a threshold. The number at the right is the last one.</p>",
        f'<figure class="wide-figure">{strip_chart(shown)}</figure>',
        less if len(shown) < len(sharpness) else "",
    )


def _units(units: Any) -> str:
    found: Mapping[str, Mapping[str, int]] = (
        units
        if isinstance(units, Mapping)
        else {
            own.name: {"neurons": own.units, "dead (never fire)": own.dead, "stuck (always fire)": own.stuck}
            for own in units.layers
        }
    )
    kinds = list(dict.fromkeys(kind for own in found.values() for kind in own))
    rows = [
        [breakable(name), *(count(own[kind]) if kind in own else "–" for kind in kinds)] for name, own in found.items()
    ]
    content = table(["layer", *(escape(kind) for kind in kinds)], rows, caption="Neurons by layer", name="unit-table")
    return section("units", "Neurons", content)


def _epochs(logs: Mapping[str, list[float | None]]) -> str:
    epochs = min(max(len(values) for values in logs.values()), _MOST_EPOCHS)
    # Wide histories (a sharpness for each of a hundred layers) are in the charts; the table holds what fits.
    names = list(logs)[: max(4, 40_000 // epochs)]
    rows = [
        [str(place + 1), *(_cell(logs[name][place] if place < len(logs[name]) else None) for name in names)]
        for place in range(epochs)
    ]
    head = ["epoch", *(escape(name) for name in names)]
    less = "" if len(names) == len(logs) else f'<p class="note">{len(logs) - len(names)} more logs are not listed.</p>'
    content = table(head, rows, caption="Every epoch", name="epoch-table")
    return section("epochs", "Numbers", f"<details><summary>Every epoch as a table</summary>{content}{less}</details>")


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _settings(settings: Mapping[str, Any] | None) -> str:
    pairs = [(str(name), _setting(value)) for name, value in (settings or {}).items()]
    return section("settings", "Settings and versions", facts([*pairs, *versions()]))


def _setting(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
