"""Pieces of HTML: escaping, numbers as people read them, tables that scroll in a box of their own, and the document."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from strop.errors import DataError
from strop.graph.files.atomic import write_text

# A name longer than this is cut in its middle: no layer's name can blow up a page.
_LONGEST_NAME = 80


def cut(name: str) -> str:
    """Return a name, without its middle if it is very long."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def escape(text: str) -> str:
    """Return a name for HTML, in elements and attributes alike; very long ones are cut."""
    return html.escape(cut(text), quote=True)


def breakable(name: str) -> str:
    """Return a name for a narrow cell: it may be broken behind its underscores."""
    return escape(name).replace("_", "_<wbr>")


def prose(text: str) -> str:
    """Return whole sentences for HTML."""
    return html.escape(text, quote=True)


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


def plural(number: int, one: str, many: str = "") -> str:
    """Return "1 fault", "2 faults"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, foot: Sequence[Sequence[str]] = (), name: str
) -> str:
    """Return a table whose cells are HTML already; the first cell of each row is its heading."""

    def row(cells: Sequence[str]) -> str:
        rest = "".join(f"<td>{cell}</td>" for cell in cells[1:])
        return f'<tr><th scope="row">{cells[0]}</th>{rest}</tr>'

    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(row(cells) for cells in rows)
    bottom = f"<tfoot>{''.join(row(cells) for cells in foot)}</tfoot>" if foot else ""
    # A box that scrolls must be reachable by keyboard, and say what it is.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table id="{name}"><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody>{bottom}</table></div>"
    )


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Return key figures side by side: what, how much, and a remark."""
    return (
        '<dl class="tiles">'
        + "".join(
            f"<div><dt>{what}</dt><dd>{much}{f'<small>{remark}</small>' if remark else ''}</dd></div>"
            for what, much, remark in figures
        )
        + "</dl>"
    )


def section(name: str, title: str, *parts: str) -> str:
    """Return a section under a heading that can be linked to."""
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>\n{"".join(parts)}</section>'


def bar(fraction: float) -> str:
    """Return a bar for a cell of a table; the number stands beside it."""
    width = 100 * min(1.0, max(0.0, fraction))
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar-track" width="100" height="8"/><rect class="bar-fill" width="{width:.2f}" height="8"/></svg>'
    )


def document(title: str, body: str, data: Any = None) -> str:
    """Return a whole page that loads nothing: styles and script are inside, and the policy forbids everything else.

    Parameters
    ----------
    title : str
    body : str
        HTML.
    data : JSON value, optional
        For the script; without data there is no script.
    """
    style = _file("page.css")
    script = "" if data is None else _file("page.js")
    parts = ""
    if data is not None:
        # Inside a script element only "</" and "<!--" would be read as HTML; no "<" at all is simplest to see.
        text = (
            json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c").replace("&", "\\u0026")
        )
        parts = f'<script type="application/json" id="data">{text}</script>\n<script>{script}</script>\n'
    return Template(_file("page.html")).substitute(
        title=escape(title),
        version=escape(version("strop")),
        style=style,
        style_hash=_hash(style),
        script_policy=f"'{_hash(script)}'" if script else "'none'",
        body=body,
        scripts=parts,
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _file(name: str) -> str:
    return resources.files("strop.display").joinpath(name).read_text(encoding="utf-8")


def check_folder(folder: str | Path) -> Path:
    """Return the folder of a report as a path, or raise `DataError` if a file stands in its place."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"a report needs a folder, {folder} is a file")
    return folder


def write_into(folder: str | Path, name: str, text: str) -> Path:
    """Write a page into `folder`, which is made if it is not there, whole or not at all; return its path."""
    folder = check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_text(path, text)
    return path
