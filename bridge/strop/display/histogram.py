"""Histograms of margins: from one population's margins and float32 bounds to a drawing and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf, isfinite, log2, log10

from strop.display.drawing import Drawing, Scale, Shape, label, shape
from strop.display.wording import count, cut, power_of_ten
from strop.verification.evidence import Margins

_WIDTH, _HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 12, 30


def octave_range(margins: Sequence[Margins]) -> tuple[int, int]:
    """Return the exponents between which all histograms are drawn, so that layers can be compared by eye."""
    low, high = inf, -inf
    for own in margins:
        if own.octaves:
            low, high = min(low, min(own.octaves)), max(high, max(own.octaves) + 1)
        if own.bound_max:
            # Bounds far below the largest are those of neurons that hardly receive anything.
            low = min(low, log2(own.bound_median or own.bound_max) - 3)
            high = max(high, log2(own.bound_max) + 1)
    if not isfinite(low):
        return -4, 1
    return max(floor(low) - 1, -80), min(ceil(high), 80)


def margin_histogram(own: Margins, span: tuple[int, int]) -> Drawing:
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

    shapes = [*_count_axis(most, y), *_decade_axis(low, high, x, base)]
    bars = "".join(
        f"M{x(e):.1f} {base}V{y(n):.1f}H{x(e + 1) - 0.8:.1f}V{base}z"
        for e, n in sorted(own.octaves.items())
        if low <= e < high
    )
    shapes.append(shape("path", class_="bars", d=bars))
    if own.exact:
        shapes.append(shape("path", class_="bars", d=f"M{_LEFT + 3} {base}V{y(own.exact):.1f}h10V{base}z"))
        shapes.append(label("0", _LEFT + 8, base + 13))
    shapes += _bounds(own, low, high, x, base)
    return Drawing(_WIDTH, _HEIGHT, f"Margins of {cut(own.name)}. {margin_sentence(own)}", shapes)


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


def _bounds(own: Margins, low: int, high: int, x: Scale, base: int) -> list[Shape]:
    shown = {e: n for e, n in own.bound_octaves.items() if low <= e < high}
    if not own.bound_max or not shown:
        return []
    tallest, room = max(shown.values()), 0.45 * (base - _TOP)
    hatched = "".join(
        f"M{x(e):.1f} {base}v{-max(3.0, room * n / tallest):.1f}H{x(e + 1):.1f}V{base}z"
        for e, n in sorted(shown.items())
    )
    limit = x(log2(own.bound_max))
    near_right = limit > 0.6 * _WIDTH
    anchor, beside = ("end", limit - 4) if near_right else ("start", limit + 4)
    return [
        shape("path", class_="hatched", fill="url(#hatch)", d=hatched),
        shape("line", class_="limit", x1=limit, x2=limit, y1=_TOP - 4, y2=base),
        shape("text", "largest bound", class_="strong", x=beside, y=_TOP + 6, text_anchor=anchor),
    ]


def _count_axis(most: int, y: Scale) -> list[Shape]:
    shapes = []
    top = int(log10(most))
    for exponent in range(0, top + 1, max(1, ceil(top / 3))):
        place = y(10.0**exponent)
        shapes.append(shape("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=place, y2=place))
        shapes.append(_power_label(exponent, _LEFT - 5, place + 4, "end"))
    return shapes


def _decade_axis(low: int, high: int, x: Scale, base: int) -> list[Shape]:
    first, last = ceil(low * log10(2)), floor(high * log10(2))
    step = max(1, ceil((last - first) / 6))
    shapes = [shape("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base)]
    for decade in range(first, last + 1):
        place, labelled = x(decade / log10(2)), decade % step == 0
        shapes.append(shape("line", class_="axis", x1=place, x2=place, y1=base, y2=base + (4 if labelled else 2)))
        if labelled:
            shapes.append(_power_label(decade, place, base + 16, "middle"))
    return shapes


def _power_label(exponent: int, x: float, y: float, anchor: str) -> Shape:
    """Return a power of ten: "1", or 10 with a raised exponent."""
    if exponent == 0:
        return label("1", x, y, anchor)
    return label("10", x, y, anchor, str(exponent).replace("-", "−"))
