"""Charts over epochs: from the logs of a training to drawings of lines and of sharpness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import TypeGuard

from strop.display.drawing import Drawing, Scale, Shape, label, shape
from strop.display.wording import cut


@dataclass(frozen=True)
class Line:
    """One line of a chart over epochs.

    Attributes
    ----------
    label : str
    values : sequence of float or None
        One per epoch; what is None, or not finite, leaves a gap.
    """

    label: str
    values: Sequence[float | None]


_STYLES = ("first", "second", "third")


def line_chart(
    title: str, lines: Sequence[Line], bands: Sequence[tuple[int, int]] = (), percent: bool = False
) -> Drawing | None:
    """Return lines over epochs, at most three, told apart by colour, dashes and marks; None where nothing was recorded.

    Parameters
    ----------
    title : str
    lines : sequence of Line
    bands : sequence of (first, last) epochs
        Shaded in the background.
    percent : bool
        Whether values are shares of 1, shown in percent.
    """
    width, height, left, right, top, bottom = 560, 240, 46, 12, 14, 28
    known = [v for line in lines for v in line.values if _known(v)]
    if not known:
        return None
    epochs = max(len(line.values) for line in lines)
    ticks = _ticks(min(known), max(known))
    low, high = min(*known, ticks[0]), max(*known, ticks[-1])
    base = height - bottom

    def x(epoch: float) -> float:
        return left + 8 + (epoch - 1) / max(epochs - 1, 1) * (width - left - right - 16)

    def y(value: float) -> float:
        return base - (value - low) / (high - low or 1.0) * (base - top)

    shapes = [
        shape("rect", class_="band", x=x(first), y=top, width=max(2.0, x(last) - x(first)), height=base - top)
        for first, last in bands
    ]
    for tick in ticks:
        shapes.append(shape("line", class_="grid", x1=left, x2=width - right, y1=y(tick), y2=y(tick)))
        shapes.append(label(f"{100 * tick:.4g} %" if percent else f"{tick:.4g}", left - 5, y(tick) + 4, "end"))
    shapes += _epoch_axis(epochs, x, base, left, width - right)
    for style, line in zip(_STYLES, lines, strict=False):
        shapes += _line(line.values, style, epochs, x, y)
    ends = "; ".join(f"{line.label} ends at {_last(line.values, percent)}" for line in lines)
    return Drawing(width, height, f"{title} over {epochs} epochs: {ends}.", shapes)


def strip_chart(layers: Mapping[str, Sequence[float | None]]) -> Drawing:
    """Return the sharpness of every layer over the epochs: a strip for each, as high as it is sharp."""
    width, left, right, strip, gap = 560, 12, 44, 34, 22
    epochs = max((len(values) for values in layers.values()), default=0)
    height = len(layers) * (strip + gap) + 34

    def x(epoch: float) -> float:
        return left + (epoch - 1) / max(epochs, 1) * (width - left - right)

    shapes = []
    for number, (name, values) in enumerate(layers.items()):
        base = number * (strip + gap) + gap + strip
        steps = "".join(
            f"L{x(place + 1):.1f} {base - strip * min(max(value or 0.0, 0.0), 1.0):.1f}H{x(place + 2):.1f}"
            for place, value in enumerate(values)
        )
        shapes += [
            shape("text", cut(name), class_="strong", x=left, y=base - strip - 6),
            shape("rect", class_="cells", x=left, y=base - strip, width=width - left - right, height=strip),
            shape("path", class_="area", d=f"M{left} {base}{steps}V{base}z"),
            shape("text", _last(values, False), x=width - right + 6, y=base - strip / 2 + 4),
        ]
    shapes += _epoch_axis(epochs, lambda epoch: x(epoch + 0.5), height - 30, left, width - right)
    ends = "; ".join(f"{cut(name)} ends at {_last(values, False)}" for name, values in layers.items())
    return Drawing(width, height, f"Sharpness of each layer over {epochs} epochs: {ends}.", shapes)


def _line(values: Sequence[float | None], style: str, epochs: int, x: Scale, y: Scale) -> list[Shape]:
    """Return a line and its marks, which are fewer than epochs in a long training."""
    every = max(1, ceil(epochs / 16))
    return [
        shape("path", class_=f"line {style}", d=_path(values, x, y)),
        *(
            _mark(style, x(place + 1), y(value))
            for place, value in enumerate(values)
            if _known(value) and (place % every == 0 or place == epochs - 1)
        ),
    ]


def _mark(style: str, x: float, y: float) -> Shape:
    """Return a small mark of a line: a circle, a square or a triangle."""
    if style == "first":
        return shape("circle", class_=f"dot {style}", cx=x, cy=y, r=3.2)
    if style == "second":
        return shape("rect", class_=f"dot {style}", x=x - 2.8, y=y - 2.8, width=5.6, height=5.6)
    return shape("path", class_=f"dot {style}", d=f"M{x - 3.6:.1f} {y + 3:.1f}h7.2L{x:.1f} {y - 3.6:.1f}z")


def _epoch_axis(epochs: int, x: Scale, base: int, left: int, right: int) -> list[Shape]:
    """Return an axis of epochs, counted from 1."""
    every = max(1, ceil(epochs / 12))
    labels = [1, *range(every, epochs + 1, every)] if every > 1 else range(1, epochs + 1)
    return [
        shape("line", class_="axis", x1=left, x2=right, y1=base, y2=base),
        *(label(f"{'epoch ' if epoch == 1 else ''}{epoch}", x(epoch), base + 16) for epoch in labels),
    ]


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def _path(values: Sequence[float | None], x: Scale, y: Scale) -> str:
    parts, pen = [], "M"
    for place, value in enumerate(values):
        if _known(value):
            parts.append(f"{pen}{x(place + 1):.1f} {y(value):.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _last(values: Sequence[float | None], percent: bool) -> str:
    last = next((value for value in reversed(values) if _known(value)), None)
    if last is None:
        return "–"
    return f"{100 * last:.2f} %" if percent else f"{last:.3g}"


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers that reach from `low` to `high` or nearly so."""
    size = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(size / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if size / (power * factor) <= 5)
    return [step * n for n in range(floor(low / step), ceil(high / step) + 1)]
