"""The wave of spikes through the network: what the page's script draws, and one frame as still pictures without it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.display.charts import drawing
from strop.display.markup import count, cut, escape
from strop.graph import Dense, Readout
from strop.verification.evidence import Evidence, FrameEvidence, View

# Still pictures are paths of squares: so many populations and units keep them small.
_STILL_POPULATIONS, _STILL_UNITS = 16, 2048
_MOST_CODE = 65_536


def payload(evidence: Evidence) -> dict[str, Any]:
    """Return what the script needs, as JSON values: spikes are packed bits in base64."""
    graph = evidence.graph
    readout = next((r for r in graph.readouts if r.name == graph.outputs[0]), None)
    names = [view.name for view in evidence.populations]
    return {
        "depth": graph.total_depth,
        "inputs": [_geometry(view) for view in evidence.inputs],
        "populations": [
            {
                **_geometry(view),
                "depth": graph.depth(view.name),
                "from": [cut(p.source) for p in graph.incoming(view.name)],
                "codes": _codes(view, readout),
            }
            for view in evidence.populations
        ],
        "readout": None if readout is None or not evidence.frames or not evidence.frames[0].scores else readout.name,
        "frames": [_frame(frame, evidence, readout, names) for frame in evidence.frames],
    }


def shape_text(shape: tuple[int, ...]) -> str:
    """Return "28 × 28 × 6"."""
    return " × ".join(map(str, shape))


def _geometry(view: View) -> dict[str, Any]:
    return {
        "name": cut(view.name),
        "shape": shape_text(view.shape),
        "size": int(np.prod(view.shape)),
        "shown": view.shown,
        "maps": view.maps,
        "height": view.height,
        "width": view.width,
        "columns": view.columns,
    }


def _codes(view: View, readout: Readout | None) -> list[str] | None:
    """Return, for each class, which units of the last population speak for it when they fire: the n-hot key."""
    if readout is None or readout.kind != "key" or readout.sources != (view.name,):
        return None
    operator = readout.operators[0]
    if not isinstance(operator, Dense) or operator.weight.shape != (view.shown, readout.shape[-1]):
        return None
    if operator.weight.size > _MOST_CODE:
        return None
    return [
        base64.b64encode(np.packbits(operator.weight[:, number] > 0).tobytes()).decode("ascii")
        for number in range(readout.shape[-1])
    ]


def _frame(frame: FrameEvidence, evidence: Evidence, readout: Readout | None, names: list[str]) -> dict[str, Any]:
    places = {name: number for number, name in enumerate(names)}
    views = {view.name: view for view in evidence.populations}
    differences = []
    for who, difference in frame.differences.items():
        marks = [
            [places[name], views[name].places(faults), views[name].places(ties)]
            for name, (faults, ties) in difference.marks.items()
            if name in places
        ]
        differences.append({"who": _who(who), "faults": difference.faults, "ties": difference.ties, "marks": marks})
    return {
        "index": frame.index,
        "reasons": list(frame.reasons),
        "label": frame.label,
        "decided": frame.decisions.get("oracle"),
        "others": [[_who(who), c] for who, c in frame.decisions.items() if c != frame.decisions.get("oracle")],
        "inputs": [frame.inputs[view.name][0] for view in evidence.inputs],
        "spikes": [frame.spikes[name] for name in names],
        "counts": [frame.counts[name] for name in names],
        "scores": _scores(frame, readout),
        "differences": differences,
    }


def _who(name: str) -> str:
    return "Keras" if name == "keras" else cut(name)


def _scores(frame: FrameEvidence, readout: Readout | None) -> list[list[Any]]:
    """Return `[class, fraction of a full bar, text]`, best first."""
    if not frame.scores:
        return []
    neurons = 0 if readout is None else _voters(readout)
    if neurons:
        # (2 s - 1) . (2 key - 1) is the number of neurons that agree with a class minus those that do not.
        agreeing = [(place, (value + neurons) / 2) for place, value in frame.scores]
        return [[place, round(n / neurons, 4), f"{n:.0f} of {neurons}"] for place, n in agreeing]
    low, high = min(value for _, value in frame.scores), max(value for _, value in frame.scores)
    reach = max(high - low, 1e-12)
    return [[place, round(0.05 + 0.95 * (value - low) / reach, 4), f"{value:.3g}"] for place, value in frame.scores]


def _voters(readout: Readout) -> int:
    """Return how many neurons vote in a Whetstone decoder; 0 for any other read-out."""
    operator = readout.operators[0]
    if readout.kind != "key" or len(readout.operators) != 1 or not isinstance(operator, Dense):
        return 0
    votes = operator.weight / 2.0
    plain = bool((np.abs(votes) == 1.0).all() and (readout.bias == -votes.sum(axis=0)).all())
    return len(votes) if plain else 0


def still_wave(evidence: Evidence) -> str:
    """Return the first chosen frame as pictures in a row, for readers without scripts."""
    if not evidence.frames:
        return ""
    frame, graph = evidence.frames[0], evidence.graph
    cards = []
    for view in evidence.populations[:_STILL_POPULATIONS]:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(frame.spikes[view.name]), np.uint8))[: view.shown]
        cards.append(
            f"<figure><figcaption>step {graph.depth(view.name)}: <strong>{escape(view.name)}</strong>, "
            f"{count(frame.counts[view.name])} of {count(int(np.prod(view.shape)))} fired</figcaption>"
            f"{_still(view, bits)}</figure>"
        )
    decided = frame.decisions.get("oracle")
    end = "" if decided is None else f"<p>The network decides for class {decided}.</p>"
    return f'<div class="charts">{"".join(cards)}</div>{end}'


def _still(view: View, bits: npt.NDArray[np.uint8]) -> str:
    columns, area = view.columns, view.height * view.width
    rows = -(-area // columns)
    maps = max(1, min(view.maps, _STILL_UNITS // max(area, 1)))
    across = max(1, int(np.ceil(np.sqrt(maps * rows / max(columns, 1)))))
    across = min(across, maps)
    width, height = across * (columns + 1) - 1, -(-maps // across) * (rows + 1) - 1
    ground, on = [], []
    for number in range(maps):
        left, top = (number % across) * (columns + 1), (number // across) * (rows + 1)
        ground.append(f"M{left} {top}h{columns}v{rows}h{-columns}z")
        fired = np.flatnonzero(bits[number * area : min((number + 1) * area, number * area + _STILL_UNITS)])
        on += [f"M{left + int(unit) % columns} {top + int(unit) // columns}h1v1h-1z" for unit in fired]
    told = f"{cut(view.name)}: {len(on)} spikes" + (
        f" in the first {maps} of {view.maps} maps" if maps < view.maps else ""
    )
    return drawing(
        width, height, told, f'<path class="cells" d="{"".join(ground)}"/><path class="on" d="{"".join(on)}"/>'
    )
