"""Numbers, counts and names as a page shows them: plain text, which the templates escape."""

from __future__ import annotations

# A name longer than this is cut in its middle: no layer's name can blow up a page.
_LONGEST_NAME = 80


def cut(name: str) -> str:
    """Return a name, without its middle if it is very long."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.2f} %"


def seconds(value: float) -> str:
    """Return a time: "0.31 s", "12 s"."""
    return f"{value:,.2f} s" if value < 10 else f"{value:,.0f} s"


def power_of_ten(value: float) -> str:
    """Return a small or large number as "1.6 × 10⁻⁸"; "0.5" where that is shorter."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}"


def plural(number: int, one: str) -> str:
    """Return "1 fault", "2 faults"."""
    return f"{number:,} {one if number == 1 else one + 's'}"
