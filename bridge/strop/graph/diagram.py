"""`draw`: a graph as a picture, drawn by matplotlib where networkx has put it: depth along one axis.

Boxes are inputs, populations and read-outs, with shape, neurons and synapses; arrows are projections. Those that skip
a depth, and so carry a delay of more than one step, are arcs above or below the boxes between. Both packages are
imported when something is drawn: they are the extra `plot`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from strop.errors import DataError, ExtraMissingError
from strop.graph.files.atomic import write_atomically
from strop.graph.files.write import GraphContent
from strop.graph.nodes import Projection

Place = tuple[float, float]

# In inches: a box, and the room for one.
_BOX, _CELL = (1.9, 0.62), (2.45, 0.95)
_MARGIN = 0.35
_AXIS = 0.75
# Names longer than this are cut in their middle.
_LONGEST = 26
_COLOURS = {
    "input": "#ffffff",
    "on the host": "#fdf1d3",
    "on the simulator": "#dfe7fb",
    "read-out": "#ffffff",
}
_INK, _LINE, _SKIP = "#17191d", "#5b6185", "#1a4fc4"
FORMATS = (".svg", ".png", ".pdf")


class Drawable(GraphContent, Protocol):
    """What is drawn of a `strop.Graph`, whose module imports this one."""

    @property
    def total_depth(self) -> int: ...
    @property
    def host_populations(self) -> frozenset[str]: ...
    def depth(self, name: str) -> int: ...
    def incoming(self, population: str) -> tuple[Projection, ...]: ...


@dataclass(frozen=True)
class Diagram:
    """A drawn graph, which shows itself in a notebook.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        To change or to embed; it belongs to no window.
    alt : str
        What the picture shows, in a sentence.
    """

    figure: Any = field(repr=False)
    alt: str

    def svg(self) -> str:
        """Return the picture as SVG, the same text for the same graph."""
        stream = io.BytesIO()
        self._write(stream, "svg")
        return stream.getvalue().decode("utf-8")

    def save(self, path: str | Path) -> None:
        """Write the picture, whole or not at all, as `.svg`, `.png` or `.pdf`.

        Raises
        ------
        DataError
            For another suffix, or where the folder does not exist.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in FORMATS:
            raise DataError(f"cannot draw to {path}: the name must end in {', '.join(FORMATS)}")
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            self._write(file, suffix[1:])

    def _write(self, stream: Any, kind: str) -> None:
        import matplotlib

        # Text stays text, and nothing in the file depends on when it was drawn.
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "strop"}):
            self.figure.savefig(stream, format=kind, metadata=dates[kind], dpi=150)

    def _repr_svg_(self) -> str:
        return self.svg()


@dataclass(frozen=True)
class _Node:
    name: str
    kind: str
    depth: int
    lines: tuple[str, ...]


def draw(graph: Drawable) -> Diagram:
    """Return the picture of a graph; see `Graph.plot`.

    Raises
    ------
    ExtraMissingError
        If matplotlib or networkx is not installed.
    """
    try:
        import networkx
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraMissingError(
            f"drawing a graph needs matplotlib and networkx ({error}); install them with: pip install 'strop[plot]'"
        ) from error
    nodes = {node.name: node for node in _nodes(graph)}
    edges = [(p.source, p.target) for p in graph.projections]
    edges += [(source, _readout_key(readout.name)) for readout in graph.readouts for source in readout.sources]
    edges = list(dict.fromkeys(edges))
    places = _places(networkx, nodes, edges)
    arcs = _arcs(nodes, edges, places)
    reach = [y + math.copysign(_BOX[1] / 2, side) for _, y in places.values() for side in (1, -1)]
    reach += [_middle(places, edge, lift)[1] + math.copysign(0.15, lift) for edge, lift in arcs.items()]
    top, bottom = max(reach), min(reach) - 0.15
    last = max(node.depth for node in nodes.values())
    left, right = -_CELL[0] / 2 - _MARGIN, last * _CELL[0] + _CELL[0] / 2 + _MARGIN
    size = (right - left, top - bottom + _AXIS + _MARGIN)
    figure = Figure(figsize=size, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(left, right), ylim=(bottom - _AXIS, top + _MARGIN))
    axes.set_axis_off()
    for edge in edges:
        _arrow(axes, places[edge[0]], places[edge[1]], arcs.get(edge, 0.0), _span(nodes, edge), nodes[edge[1]].kind)
    for node in nodes.values():
        _box(axes, node, places[node.name])
    _depth_axis(axes, graph, bottom)
    _legend(axes, [kind for kind in _COLOURS if any(node.kind == kind for node in nodes.values())])
    return Diagram(figure, _alt(graph, len(arcs)))


def _nodes(graph: Drawable) -> list[_Node]:
    found = []
    for own in graph.inputs:
        shape = _shape(own.shape)
        found.append(_Node(own.name, "input", 0, (shape, f"encoding {own.encoding}")))
    for population in graph.populations:
        synapses = sum(p.operator.synapse_count for p in graph.incoming(population.name))
        kind = "on the host" if population.name in graph.host_populations else "on the simulator"
        neurons = _count(population.size, "neuron")
        about = neurons if len(population.shape) == 1 else f"{_shape(population.shape)} · {neurons}"
        found.append(_Node(population.name, kind, graph.depth(population.name), (about, _count(synapses, "synapse"))))
    for readout in graph.readouts:
        # On the host, behind the last step.
        found.append(_Node(_readout_key(readout.name), "read-out", graph.total_depth + 1, (readout.kind,)))
    return found


def _readout_key(name: str) -> str:
    # A read-out may have the name of the population that it reads.
    return f"read-out\0{name}"


def _places(networkx: Any, nodes: dict[str, _Node], edges: list[tuple[str, str]]) -> dict[str, Place]:
    """Return the middle of each box in inches, x along the depth."""
    rows: dict[str, float] = {}
    for depth in sorted({node.depth for node in nodes.values()}):
        own = [name for name, node in nodes.items() if node.depth == depth]
        # Boxes stand near those that they come from: fewer arrows cross.
        before = {name: [rows[source] for source, target in edges if target == name and source in rows] for name in own}
        mean = {name: sum(found) / len(found) if found else 0.0 for name, found in before.items()}
        own.sort(key=lambda name, mean=mean: mean[name])  # type: ignore[misc]
        rows |= {name: place - (len(own) - 1) / 2 for place, name in enumerate(own)}
    layout, columns = networkx.DiGraph(), dict[int, list[str]]()
    for name in sorted(rows, key=lambda name: (nodes[name].depth, rows[name])):
        layout.add_node(name)
        columns.setdefault(nodes[name].depth, []).append(name)
    # Lists: networkx itself gathers the nodes of a column in a set, whose order differs from process to process.
    found = networkx.multipartite_layout(layout, subset_key=columns)
    # networkx scales its layout to a square; neighbours in depth are one cell apart here.
    across = sorted({float(x) for x, _ in found.values()})
    unit = (across[-1] - across[0]) / (max(node.depth for node in nodes.values()) or 1)
    return {
        name: (float(x - across[0]) / unit * _CELL[0], -float(y) / unit * _CELL[1]) for name, (x, y) in found.items()
    }


def _span(nodes: dict[str, _Node], edge: tuple[str, str]) -> int:
    return nodes[edge[1]].depth - nodes[edge[0]].depth


def _arcs(
    nodes: dict[str, _Node], edges: list[tuple[str, str]], places: dict[str, Place]
) -> dict[tuple[str, str], float]:
    """Return for each edge that skips a depth how far its arc goes beyond its ends; below the boxes where negative."""
    found: dict[tuple[str, str], float] = {}
    for edge in sorted((edge for edge in edges if _span(nodes, edge) > 1), key=lambda edge: _span(nodes, edge)):
        (source, target), (_, y0), (_, y1) = edge, places[edge[0]], places[edge[1]]
        used = {side: sum(1 for lift in found.values() if lift * side > 0) for side in (1, -1)}
        # On the target's side of its column; where it is the only one, on the side with fewer arcs.
        side = (1 if y1 > 0 else -1) if abs(y1) > 0.01 else (1 if used[1] <= used[-1] else -1)
        between = [
            side * places[name][1]
            for name, node in nodes.items()
            if nodes[source].depth < node.depth < nodes[target].depth
        ]
        beyond = max(between, default=0.0) - side * (y0 + y1) / 2
        found[edge] = side * (max(0.0, beyond) + 0.4 + 0.22 * used[side])
    return found


def _middle(places: dict[str, Place], edge: tuple[str, str], lift: float) -> Place:
    """Return the middle of an arc."""
    (x0, y0), (x1, y1) = places[edge[0]], places[edge[1]]
    return (x0 + x1) / 2, (y0 + y1) / 2 + math.copysign(_BOX[1] / 2, lift) + lift


def _arrow(axes: Any, source: Place, target: Place, lift: float, span: int, kind: str) -> None:
    """Draw one projection; `lift` is how far its arc goes beyond its ends, 0 for a straight one."""
    from matplotlib.patches import FancyArrowPatch

    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    (x0, y0), (x1, y1) = source, target
    half = math.copysign(_BOX[1] / 2, lift)
    if lift:
        start, end = (x0, y0 + half), (x1, y1 + half)
        # The control point of the curve is twice as far away as the curve goes.
        bend = -2.0 * lift / math.hypot(end[0] - start[0], end[1] - start[1])
        colour = _LINE if kind == "read-out" else _SKIP
        style |= {"connectionstyle": f"arc3,rad={bend:.4f}", "color": colour}
        if kind != "read-out":
            middle = (start[1] + end[1]) / 2 + lift + math.copysign(0.03, lift)
            side = "bottom" if lift > 0 else "top"
            axes.text((x0 + x1) / 2, middle, f"delay {span}", fontsize=7, color=colour, ha="center", va=side)
    else:
        start, end = (x0 + _BOX[0] / 2, y0), (x1 - _BOX[0] / 2, y1)
        style |= {"color": _LINE}
    axes.add_patch(FancyArrowPatch(start, end, linestyle="--" if kind == "read-out" else "-", **style))


def _box(axes: Any, node: _Node, place: Place) -> None:
    from matplotlib.patches import FancyBboxPatch

    (width, height), (x, y) = _BOX, place
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=_COLOURS[node.kind],
            edgecolor=_LINE,
            linestyle="--" if node.kind == "read-out" else "-",
        )
    )
    name = node.name.split("\0")[-1]
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"
    lines = (name, *node.lines)
    for n, line in enumerate(lines):
        level = y + 0.18 * ((len(lines) - 1) / 2 - n)
        font: dict[str, Any] = {"weight": "bold", "fontsize": 8} if n == 0 else {"fontsize": 7}
        # Dollar signs in names are no mathematics.
        axes.text(x, level, line, ha="center", va="center", color=_INK, parse_math=False, **font)


def _depth_axis(axes: Any, graph: Drawable, bottom: float) -> None:
    level = bottom - 0.1
    axes.plot([-_BOX[0] / 2, graph.total_depth * _CELL[0] + _BOX[0] / 2], [level, level], color=_LINE, linewidth=0.8)
    for depth in range(graph.total_depth + 1):
        axes.plot([depth * _CELL[0]] * 2, [level - 0.04, level + 0.04], color=_LINE, linewidth=0.8)
        text = "a frame enters: step 0" if depth == 0 else f"step {depth}"
        axes.text(depth * _CELL[0], level - 0.09, text, fontsize=7, color=_INK, ha="center", va="top")


def _legend(axes: Any, kinds: list[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=_COLOURS[kind], edgecolor=_LINE, linestyle="--" if kind == "read-out" else "-", label=kind)
        for kind in kinds
    ]
    axes.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=7, frameon=False, borderaxespad=0.3)


def _alt(graph: Drawable, skips: int) -> str:
    sources = {p.name: ", ".join(dict.fromkeys(q.source for q in graph.incoming(p.name))) for p in graph.populations}
    chain = "; ".join(
        f"step {graph.depth(p.name)}: {p.name}, {_shape(p.shape)}, from {sources[p.name]}"
        for p in graph.populations[:20]
    )
    more = f"; and {len(graph.populations) - 20} more" if len(graph.populations) > 20 else ""
    arcs = f", {_count(skips, 'arrow')} skipping a depth" if skips else ""
    return f"{_count(len(graph.populations), 'population')} from left to right by depth{arcs}. {chain}{more}"


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
