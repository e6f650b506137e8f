"""Draw docs/figures/architecture.svg from the contract in pyproject.toml; `--check` compares the figure instead.

python docs/render_architecture.py [--check]

Either way, every module and file that docs/architecture.md names must exist.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs/figures/architecture.svg"
PAGE = ROOT / "docs/architecture.md"

# What each room is for, in the few words that fit into its box.
ABOUT = {
    "cli": "the commands, .npz files, exit codes",
    "conformance": "golden cases for any backend",
    "display": "HTML reports",
    "verification": "compares every spike and output; ties, faults, the verdict",
    "costs": "neurons, events, energy",
    "export": "standalone folders",
    "quantization": "whole numbers that fit a target; proofs for all inputs",
    "running": "the backend interface; frames in, spikes and classes out; the oracle",
    "lowering": "a Keras model becomes a graph",
    "reader": "model files of every format become a Keras 3 model",
    "keras": "spiking activations, sharpeners, decoder, recipes",
    "graph": "the graph: nodes, operators, rounding, .strop files",
    "errors": "the exceptions",
}

WIDTH, MARGIN, ROW, BOX = 940, 16, 66, 46
ROOMS_LEFT, ROOMS_RIGHT = 16, 610
BACKENDS_LEFT, BACKENDS_RIGHT = 690, 924
INK, LINE, ROOM, BACKEND, PAPER = "#1b1f3b", "#5b6185", "#e4e7fb", "#fde9cf", "#ffffff"


def contracts() -> dict[str, dict[str, Any]]:
    """Return the import contracts of pyproject.toml, by their ids."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["id"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}


def box(left: float, top: float, width: float, name: str, about: str, colour: str) -> Iterator[str]:
    """Yield a rectangle with a name and, below it, what it is for."""
    middle = left + width / 2
    yield f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{BOX}" rx="6" fill="{colour}" stroke="{LINE}"/>'
    yield f'<text x="{middle:g}" y="{top + 19:g}" class="name">{escape(name)}</text>'
    yield f'<text x="{middle:g}" y="{top + 36:g}" class="about">{escape(about)}</text>'


def arrow(points: list[tuple[float, float]]) -> str:
    """Return a line with an arrow head at its last point."""
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#head)"/>'


def rooms(layers: list[list[str]]) -> Iterator[str]:
    """Yield a row of boxes for each layer, and an arrow from each row to the next."""
    for row, names in enumerate(layers):
        top = MARGIN + row * ROW
        width = (ROOMS_RIGHT - ROOMS_LEFT - 14 * (len(names) - 1)) / len(names)
        for place, name in enumerate(names):
            left = ROOMS_LEFT + place * (width + 14)
            yield from box(left, top, width, name, ABOUT[name], ROOM)
            if row + 1 < len(layers):
                yield arrow([(left + width / 2, top + BOX), (left + width / 2, top + ROW - 1)])


def backends(names: list[str], allowed: list[str], layers: list[list[str]]) -> Iterator[str]:
    """Yield a box for each backend, and an arrow to each room that backends may import."""
    below = MARGIN + 26 + len(names) * 30
    width = BACKENDS_RIGHT - BACKENDS_LEFT
    yield (
        f'<rect x="{BACKENDS_LEFT}" y="{MARGIN}" width="{width}" height="{below - MARGIN + 8}" '
        f'rx="6" fill="{BACKEND}" stroke="{LINE}"/>'
    )
    middle = (BACKENDS_LEFT + BACKENDS_RIGHT) / 2
    yield f'<text x="{middle:g}" y="{MARGIN + 18}" class="name">strop_backends</text>'
    for place, name in enumerate(names):
        top = MARGIN + 28 + 30 * place
        yield (
            f'<rect x="{BACKENDS_LEFT + 14}" y="{top}" width="{width - 28}" height="24" rx="4" '
            f'fill="{PAPER}" stroke="{LINE}"/>'
        )
        yield f'<text x="{middle:g}" y="{top + 17}" class="name">{escape(name)}</text>'
    rows = sorted(row for row, names in enumerate(layers) if set(names) & set(allowed))
    for place, row in enumerate(rows):
        x = BACKENDS_LEFT + 24 + 30 * place
        y = MARGIN + row * ROW + BOX / 2
        yield arrow([(x, below + 8), (x, y), (ROOMS_RIGHT + 2, y)])


def figure() -> str:
    """Return the figure."""
    known = contracts()
    layers = [[name.strip() for name in layer.split("|")] for layer in known["rooms"]["layers"]]
    allowed = [name.removeprefix("strop.") for name in known["backends"]["allowed"]]
    names = [name.removeprefix("strop_backends.") for name in known["siblings"]["modules"]]
    missing = {name for layer in layers for name in layer} ^ set(ABOUT)
    if missing:
        raise SystemExit(f"docs/render_architecture.py: ABOUT and the contract differ in {', '.join(sorted(missing))}")
    if any(set(layer) & set(allowed) and layer[-1] not in allowed for layer in layers):
        raise SystemExit("docs/render_architecture.py: a room that backends import must be the last one of its layer")
    notes = [
        "A room may import the rooms below it, none above it and none beside it.",
        "Backends may import the rooms that their arrows lead to, and no other backend.",
    ]
    height = MARGIN + len(layers) * ROW + 44
    lines = [
        "<!-- Written by docs/render_architecture.py from the contract in pyproject.toml. -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(" ".join(notes))}">',
        "<style>text { font-family: sans-serif; text-anchor: middle; fill: " + INK + " } "
        ".name { font-size: 14px; font-weight: bold } .about { font-size: 12px } "
        ".note { font-size: 13px; text-anchor: start }</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        *rooms(layers),
        *backends(names, allowed, layers),
        *(
            f'<text x="{ROOMS_LEFT}" y="{height - 36 + 20 * row}" class="note">{escape(note)}</text>'
            for row, note in enumerate(notes)
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def named_paths(page: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield what the page calls a module or a file, and the places of which one must exist."""
    strop = ROOT / "bridge/strop"
    for room, modules in re.findall(r"^\| `(\w+)` \|[^|]*\| (.*) \|$", page, re.MULTILINE):
        for name in re.findall(r"`([a-z]\w*/?)`", modules):
            yield f"{room}/{name}", [strop / room / name.rstrip("/"), strop / room / f"{name}.py"]
    for name in re.findall(rf"`(?:strop\.)?((?:{'|'.join(ABOUT)})(?:\.[a-z_0-9]+)+)`", page):
        place = strop / name.replace(".", "/")
        owner = place.parent / "__init__.py"  # what a package gives out: strop.graph.synapses_of
        exported = owner.is_file() and f'"{place.name}"' in owner.read_text(encoding="utf-8")
        yield name, [owner] if exported else [place, place.with_suffix(".py")]
    for name in re.findall(r"`(?![^`]*NAME)([\w.]+/[\w./]+)`", page):
        yield name, [folder / name for folder in (ROOT, ROOT / "bridge", ROOT / "backends", strop, strop / "reader")]


def main() -> int:
    """Write the figure, or check that it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; compare the figure")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    gone = [name for name, places in named_paths(page) if not any(place.exists() for place in places)]
    if gone:
        print(f"docs/architecture.md names what is not there: {', '.join(gone)}", file=sys.stderr)
        return 1
    if not arguments.check:
        FIGURE.write_text(figure(), encoding="utf-8")
        return 0
    if FIGURE.is_file() and FIGURE.read_text(encoding="utf-8") == figure():
        return 0
    print("docs/figures/architecture.svg is not what docs/render_architecture.py draws: run it again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
