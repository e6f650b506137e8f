"""Runs docs/tutorial.py cell by cell and writes what it printed and drew: docs/tutorial.md and docs/figures/*.svg.

    python docs/render_tutorial.py [--check] [--out FOLDER]

The tutorial is a script in the percent format, which Jupyter (with jupytext), VS Code, Spyder and PyCharm open as a
notebook. Three kinds of cells are known:

    # %% [markdown]                    text, behind "# "
    # %%                               code; what it prints stands below it
    # %% figure="wave" alt="..."       code that draws one figure; it is folded away below the figure

A small script of our own rather than a notebook converter: the page is plain Markdown that reads the same on GitHub and
in the manual, its diff shows what changed, and building the manual runs no simulator. `--check` runs nothing and
compares the text and the code of the page with those of the script.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "tutorial.py"
_HEADER = re.compile(r"# %%(?: \[(?P<kind>markdown)\])?(?: figure=\"(?P<figure>[\w-]+)\" alt=\"(?P<alt>[^\"]+)\")?$")


@dataclass(frozen=True)
class Cell:
    """One cell of the script: `text` without markers; `figure` and `alt` where it draws one."""

    kind: str
    text: str
    line: int
    figure: str = ""
    alt: str = ""


def read_cells(script: str) -> list[Cell]:
    """Return the cells of a script in the percent format; what stands before the first one is left out."""
    cells: list[Cell] = []
    lines = script.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        header = _HEADER.match(lines[start])
        if header is None:
            raise ValueError(f"line {start + 1}: this header of a cell is not known: {lines[start]}")
        body = lines[start + 1 : stop]
        if header["kind"] == "markdown":
            strange = [line for line in body if line and not line.startswith("#")]
            if strange:
                raise ValueError(f"line {start + 1}: a line of text without '# ': {strange[0]}")
            text = "\n".join(line[2:] for line in body).strip()
            cells.append(Cell("markdown", text, start + 1))
        else:
            kind = "figure" if header["figure"] else "code"
            text = "\n".join(body).strip("\n")
            cells.append(Cell(kind, text, start + 1, header["figure"] or "", header["alt"] or ""))
    return cells


def run_cell(cell: Cell, names: dict[str, Any]) -> str:
    """Run a cell of code among `names` and return what it printed."""
    printed = io.StringIO()
    # The line numbers of an error shall be those of the script.
    code = compile("\n" * cell.line + cell.text, str(SCRIPT), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip("\n")


def as_markdown(cell: Cell, printed: str) -> str:
    """Return a cell as it stands on the page."""
    if cell.kind == "markdown":
        return cell.text
    code = f"```python\n{cell.text}\n```"
    if cell.kind == "figure":
        folded = f'<details markdown="1">\n<summary>The code of this figure</summary>\n\n{code}\n\n</details>'
        return f"![{cell.alt}](figures/{cell.figure}.svg)\n\n{folded}"
    return f"{code}\n\n```text\n{printed}\n```" if printed else code


def render(out: Path) -> None:
    """Run the tutorial and write its page and figures into `out`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # The same drawing gives the same file.
    plt.rcParams["svg.hashsalt"] = "strop"
    (out / "figures").mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = ["<!-- Written by docs/render_tutorial.py from docs/tutorial.py. Change those, and run it again. -->"]
    for cell in read_cells(SCRIPT.read_text(encoding="utf-8")):
        printed = "" if cell.kind == "markdown" else run_cell(cell, names)
        if cell.kind == "figure":
            path = out / "figures" / f"{cell.figure}.svg"
            plt.gcf().savefig(path, metadata={"Date": None, "Creator": None})
            # matplotlib ends lines of paths with a blank.
            path.write_text(re.sub(r"[ \t]+\n", "\n", path.read_text(encoding="utf-8")), encoding="utf-8")
            plt.close("all")
        parts.append(as_markdown(cell, printed))
    (out / "tutorial.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def skeleton(page: str) -> str:
    """Return a page without what changes from run to run: the printed output."""
    return re.sub(r"\n```text\n.*?\n```(?=\n)", "\n```text\n```", page, flags=re.DOTALL)


def stale(script: str, page: str) -> list[str]:
    """Return the cells of `script` that do not stand on `page` as they are, by their lines; empty if all do."""
    found = []
    position = 0
    for cell in read_cells(script):
        expected = as_markdown(cell, "")
        place = page.find(expected, position)
        if place < 0:
            found.append(f"docs/tutorial.py, line {cell.line}: this cell is not on docs/tutorial.md, or not here")
        else:
            position = place + len(expected)
    return found


def main() -> int:
    """Render the tutorial, or check that its page is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run nothing; compare the page with the script")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for tutorial.md and figures/")
    options = parser.parse_args()
    if not options.check:
        render(options.out)
        return 0
    found = stale(SCRIPT.read_text(encoding="utf-8"), (options.out / "tutorial.md").read_text(encoding="utf-8"))
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
