"""Charts as inline SVG: they scale, print, need no script, and take their colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log2, log10
from typing import TypeGuard

from strop.display.markup import count, cut, escape, power_of_ten, prose
from strop.verification.evidence import Margins

# From a value to a place in a drawing.
_Scale = Callable[[float], float]

_WIDTH, _HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 12, 30


def octave_range(margins: Sequence[Margins]) -> tuple[int, int]:
    """Return the exponents between which all histograms are drawn, so that layers can be compared by eye."""
    low, high = inf, -inf
    for own in margins:
        if own.octaves:
            low, high = min(low, min(own.octaves)), max(high, max(own.octaves) + 1)
        if own.bound_max:
            # Bounds far below the largest are those of units that hardly receive anything.
            low = min(low, log2(own.bound_median or own.bound_max) - 3)
            high = max(high, log2(own.bound_max) + 1)
    if not isfinite(low):
        return -4, 1
    return max(floor(low) - 1, -80), min(ceil(high), 80)


def margin_histogram(own: Margins, span: tuple[int, int]) -> str:
    """Return the histogram of one population's margins, with the float32 bounds hatched and the largest as a line."""
    low, high = span
    plot_left = _LEFT + 20  # room for the bar of the exact hits
    base, width = _HEIGHT - _BOTTOM, _WIDTH - plot_left - _RIGHT

    def x(exponent: float) -> float:
        return plot_left + (min(max(exponent, low), high) - low) / (high - low) * width

    most = max([own.exact, *own.octaves.values(), 1])
    decades = log10(most) + 0.6

    def y(value: float) -> float:
        return base - (log10(value) + 0.5) / decades * (base - _TOP)

    parts = [_count_axis(most, y, plot_left), _decade_axis(low, high, x, base)]
    bars = "".join(
        f"M{x(e):.1f} {base}V{y(n):.1f}H{x(e + 1) - 0.8:.1f}V{base}z"
        for e, n in sorted(own.octaves.items())
        if low <= e < high
    )
    parts.append(f'<path class="bars" d="{bars}"/>')
    if own.exact:
        parts.append(f'<path class="bars" d="M{_LEFT + 3} {base}V{y(own.exact):.1f}h10V{base}z"/>')
        parts.append(f'<text x="{_LEFT + 8}" y="{base + 13}" text-anchor="middle">0</text>')
    parts.append(_bounds(own, low, high, x, base))
    return drawing(_WIDTH, _HEIGHT, f"Margins of {cut(own.name)}. {margin_sentence(own)}", "".join(parts))


def margin_sentence(own: Margins) -> str:
    """Return in words what a histogram shows."""
    closest = "none apart from 0" if own.smallest == inf else power_of_ten(own.smallest)
    exact = f", {count(own.exact)} exactly on the threshold" if own.exact else ""
    if own.sampled and not own.bound_max:
        return f"Closest {closest}{exact}; float32 rounds no sum here, so every decision is exact."
    return (
        f"Closest {closest}{exact}; bound at most {power_of_ten(own.bound_max)}, "
        f"median {power_of_ten(own.bound_median)}; {count(own.within)} of {count(own.sampled)} sampled within it."
    )


def _bounds(own: Margins, low: int, high: int, x: _Scale, base: float) -> str:
    shown = {e: n for e, n in own.bound_octaves.items() if low <= e < high}
    if not own.bound_max or not shown:
        return ""
    tallest, room = max(shown.values()), 0.45 * (base - _TOP)
    hatched = "".join(
        f"M{x(e):.1f} {base}v{-max(3.0, room * n / tallest):.1f}H{x(e + 1):.1f}V{base}z"
        for e, n in sorted(shown.items())
    )
    limit = x(log2(own.bound_max))
    near_right = limit > 0.6 * _WIDTH
    return (
        f'<path class="hatched" fill="url(#hatch)" d="{hatched}"/>'
        f'<line class="limit" x1="{limit:.1f}" x2="{limit:.1f}" y1="{_TOP - 4}" y2="{base}"/>'
        f'<text class="strong" x="{limit + (-4 if near_right else 4):.1f}" y="{_TOP + 6}"'
        f' text-anchor="{"end" if near_right else "start"}">largest bound</text>'
    )


def _count_axis(most: int, y: _Scale, left: float) -> str:
    parts = []
    top = int(log10(most))
    for exponent in range(0, top + 1, max(1, ceil(top / 3))):
        place = y(10.0**exponent)
        label = "1" if exponent == 0 else f'10<tspan dy="-4" font-size="8">{exponent}</tspan>'
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{place + 4:.1f}" text-anchor="end">{label}</text>'
        )
    return "".join(parts)


def _decade_axis(low: int, high: int, x: _Scale, base: float) -> str:
    first, last = ceil(low * log10(2)), floor(high * log10(2))
    step = max(1, ceil((last - first) / 6))
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>']
    for decade in range(first, last + 1):
        place = x(decade / log10(2))
        labelled = decade % step == 0
        parts.append(
            f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{base}" y2="{base + (4 if labelled else 2)}"/>'
        )
        if labelled:
            label = "1" if decade == 0 else f'10<tspan dy="-4" font-size="8">{str(decade).replace("-", "−")}</tspan>'
            parts.append(f'<text x="{place:.1f}" y="{base + 16}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def hatch_definition() -> str:
    """Return the pattern that the charts refer to; once in a page."""
    return (
        '<svg class="vh" aria-hidden="true"><defs><pattern id="hatch" width="5" height="5" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="hatch" x1="0" x2="0" y1="0" y2="5"/>'
        "</pattern></defs></svg>"
    )


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
_MARKS = ("circle", "square", "triangle")


def line_chart(title: str, lines: Sequence[Line], bands: Sequence[tuple[int, int]] = (), percent: bool = False) -> str:
    """Return lines over epochs, at most three, told apart by colour, dashes and marks, with a label at each end."""
    width, height, left, right, bottom = 560, 240, 46, 12, 28
    known = [v for line in lines for v in line.values if _known(v)]
    epochs = max((len(line.values) for line in lines), default=0)
    if not known or not epochs:
        return f'<p class="muted">{escape(title)}: not recorded.</p>'
    low, high = min(known), max(known)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    base, top = height - bottom, 14

    def x(epoch: float) -> float:
        return left + 8 + (epoch - 1) / max(epochs - 1, 1) * (width - left - right - 16)

    def y(value: float) -> float:
        return base - (value - low) / (high - low or 1.0) * (base - top)

    parts = [
        f'<rect class="band" x="{x(a):.1f}" y="{top}" width="{max(2.0, x(b) - x(a)):.1f}" height="{base - top}"/>'
        for a, b in bands
    ]
    for tick in ticks:
        label = f"{100 * tick:.4g} %" if percent else f"{tick:.4g}"
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{left - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>'
        )
    parts.append(epoch_axis(epochs, x, base, left, width - right))
    for number, line in enumerate(lines[:3]):
        style = _STYLES[number]
        parts.append(f'<path class="line {style}" d="{_path(line.values, x, y)}"/>')
        every = max(1, ceil(epochs / 16))
        parts += [
            mark(_MARKS[number], x(place + 1), y(value), style)
            for place, value in enumerate(line.values)
            if _known(value) and (place % every == 0 or place == epochs - 1)
        ]
    ends = "; ".join(f"{line.label} ends at {_last(line.values, percent)}" for line in lines)
    return drawing(width, height, f"{title} over {epochs} epochs: {ends}.", "".join(parts))


def strip_chart(layers: Mapping[str, Sequence[float | None]]) -> str:
    """Return the sharpness of every layer over the epochs: a strip for each, as high as it is sharp."""
    width, left, right, strip, gap = 560, 12, 44, 34, 22
    epochs = max((len(values) for values in layers.values()), default=0)
    height = len(layers) * (strip + gap) + 34

    def x(epoch: float) -> float:
        return left + (epoch - 1) / max(epochs, 1) * (width - left - right)

    parts = []
    for number, (name, values) in enumerate(layers.items()):
        base = number * (strip + gap) + gap + strip
        steps = "".join(
            f"L{x(place + 1):.1f} {base - strip * min(max(value or 0.0, 0.0), 1.0):.1f}H{x(place + 2):.1f}"
            for place, value in enumerate(values)
        )
        parts.append(
            f'<text class="strong" x="{left}" y="{base - strip - 6}">{escape(name)}</text>'
            f'<rect class="cells" x="{left}" y="{base - strip}" width="{width - left - right}" height="{strip}"/>'
            f'<path class="area" d="M{left} {base}{steps}V{base}z"/>'
            f'<text x="{width - right + 6}" y="{base - strip / 2 + 4}">{_last(values, False)}</text>'
        )
    parts.append(epoch_axis(epochs, lambda epoch: x(epoch + 0.5), height - 30, left, width - right))
    told = "; ".join(f"{cut(name)} ends at {_last(values, False)}" for name, values in layers.items())
    return drawing(width, height, f"Sharpness of each layer over {epochs} epochs: {told}.", "".join(parts))


def mark(kind: str, x: float, y: float, style: str) -> str:
    """Return a small mark of a line: a circle, a square or a triangle."""
    if kind == "circle":
        return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
    if kind == "square":
        return f'<rect class="dot {style}" x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6"/>'
    return f'<path class="dot {style}" d="M{x - 3.6:.1f} {y + 3:.1f}h7.2L{x:.1f} {y - 3.6:.1f}z"/>'


def epoch_axis(epochs: int, x: _Scale, base: float, left: float, right: float) -> str:
    """Return an axis of epochs, counted from 1."""
    every = max(1, ceil(epochs / 12))
    labels = [1, *range(every, epochs + 1, every)] if every > 1 else range(1, epochs + 1)
    return f'<line class="axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>' + "".join(
        f'<text x="{x(epoch):.1f}" y="{base + 16}" text-anchor="middle">{"epoch " if epoch == 1 else ""}{epoch}</text>'
        for epoch in labels
    )


def drawing(width: float, height: float, told: str, content: str) -> str:
    """Return an SVG drawing with its text alternative."""
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{prose(told)}">{content}</svg>'
    )


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def _path(values: Sequence[float | None], x: _Scale, y: _Scale) -> str:
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
    unit = 10.0 ** floor(log10(size / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if size / (unit * factor) <= 5)
    return [step * n for n in range(floor(low / step), ceil(high / step) + 1)]
