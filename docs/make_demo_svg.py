"""Draws the README's picture: what `strop demo` really printed, as an SVG.

strop demo > demo.txt && python docs/make_demo_svg.py demo.txt docs/demo.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    """Read the text, write the picture."""
    source, target = map(Path, sys.argv[1:3])
    console = Console(record=True, width=112, file=io.StringIO())
    console.print(Text(source.read_text().rstrip("\n")))
    # The picture shall load nothing from anywhere: any monospaced font will do.
    picture = console.export_svg(title="strop demo")
    picture = picture.replace("Fira Code, monospace", "Menlo, Consolas, DejaVu Sans Mono, monospace")
    target.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))


if __name__ == "__main__":
    main()
