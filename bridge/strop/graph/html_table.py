"""What objects show of themselves in a notebook: small HTML tables, from a Jinja2 template that escapes all of it.

It lies in the lowest room with classes, so that all can use it for `_repr_html_`; pages are those of `strop.display`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any


def html_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], notes: Iterable[str] = (), about: str = ""
) -> str:
    """Return a table as a piece of HTML: the title, what it is about, the rows, and remarks below.

    Parameters
    ----------
    title : str
    headings : sequence of str
        Of the columns; may be empty where the first cell of each row says what it is.
    rows : iterable of rows
        Whole numbers are written with commas; everything else as `str` does. More than `MOST_ROWS` are cut.
    notes : iterable of str
    about : str
    """
    cells = [[f"{cell:,}" if type(cell) is int else str(cell) for cell in row] for row in rows]
    left_out = max(0, len(cells) - MOST_ROWS)
    remarks = [*([f"{left_out:,} more rows"] if left_out else []), *notes]
    text: str = _template().render(
        title=title, about=about, headings=list(headings), rows=cells[:MOST_ROWS], notes=remarks
    )
    return text


MOST_ROWS = 60


@cache
def _template() -> Any:
    # Not at the top: `import strop` should not wait for Jinja2.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("strop.graph", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return made.get_template("table.html.j2")
