"""Drawings as data: shapes with their attributes, which `templates/drawing.html.j2` writes as inline SVG.

Inline SVG scales, prints, needs no script, and takes its colours from the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# From a value to a place in a drawing.
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Shape:
    """One element of a drawing.

    Attributes
    ----------
    tag : str
        "path", "line", "rect", "circle" or "text".
    attributes : mapping of str to str
    text, raised : str
        The words of a text, and an exponent behind them.
    """

    tag: str
    attributes: Mapping[str, str]
    text: str = ""
    raised: str = ""


@dataclass(frozen=True)
class Drawing:
    """Shapes on a ground of `width` by `height`, and the text alternative for those who cannot see them."""

    width: int
    height: int
    alternative: str
    shapes: Sequence[Shape]


def shape(tag: str, text: str = "", raised: str = "", /, **attributes: str | float) -> Shape:
    """Return a shape; `text_anchor=` stands for `text-anchor`, `class_=` for `class`.

    >>> shape("line", class_="grid", x1=38, x2=332, y1=12.25, y2=12.25)

    Whole numbers stay whole, others are rounded to one tenth.
    """
    return Shape(tag, {_attribute(name): _written(value) for name, value in attributes.items()}, text, raised)


def label(text: str, x: float, y: float, anchor: str = "middle", raised: str = "") -> Shape:
    """Return words that begin, end or are centred at x."""
    return shape("text", text, raised, x=x, y=y, text_anchor=anchor)


def _attribute(name: str) -> str:
    return name.rstrip("_") if name.endswith("_") else name.replace("_", "-")


def _written(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
