"""The wave of spikes: from the evidence to the JSON that the page's script draws, and to still pictures without it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.display.drawing import Drawing, shape
from strop.display.wording import cut
from strop.graph import Dense, Readout
from strop.verification.evidence import Evidence, FrameEvidence, View

# Still pictures are paths of squares: so many populations and neurons keep them small.
_STILL_POPULATIONS, _STILL_NEURONS = 16, 2048
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
        "opening": evidence.opening,
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
    """Return, for each class, which neurons of the last population vote for it when they fire: the n-hot key."""
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
    for name, found in frame.differences.items():
        marks = [
            [places[population], views[population].places(faults), views[population].places(ties)]
            for population, (faults, ties) in found.marks.items()
            if population in places
        ]
        differences.append({"name": _shown_name(name), "faults": found.faults, "ties": found.ties, "marks": marks})
    return {
        "index": frame.index,
        "reasons": list(frame.reasons),
        "label": frame.label,
        "decided": frame.decisions.get("oracle"),
        "others": [[_shown_name(name), c] for name, c in frame.decisions.items() if c != frame.decisions.get("oracle")],
        "inputs": [frame.inputs[view.name][0] for view in evidence.inputs],
        "spikes": [frame.spikes[name] for name in names],
        "counts": [frame.counts[name] for name in names],
        "scores": _scores(frame, readout),
        "differences": differences,
    }


def _shown_name(name: str) -> str:
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


def still_wave(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the frame that the page opens on as pictures in a row, for readers without scripts.

    Returns
    -------
    list of mapping
        One per population: its `step`, `name`, how many `fired` of how many `neurons`, and the `picture`.
    """
    if not evidence.frames:
        return []
    frame, graph = evidence.frames[evidence.opening], evidence.graph
    return [
        {
            "step": graph.depth(view.name),
            "name": view.name,
            "fired": frame.counts[view.name],
            "neurons": int(np.prod(view.shape)),
            "picture": _still(view, _bits(frame.spikes[view.name])[: view.shown]),
        }
        for view in evidence.populations[:_STILL_POPULATIONS]
    ]


def _bits(packed: str) -> npt.NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8))


def _still(view: View, bits: npt.NDArray[np.uint8]) -> Drawing:
    columns, area = view.columns, view.height * view.width
    rows = -(-area // columns)
    maps = max(1, min(view.maps, _STILL_NEURONS // max(area, 1)))
    across = max(1, int(np.ceil(np.sqrt(maps * rows / max(columns, 1)))))
    across = min(across, maps)
    width, height = across * (columns + 1) - 1, -(-maps // across) * (rows + 1) - 1
    ground, on = [], []
    for number in range(maps):
        left, top = (number % across) * (columns + 1), (number // across) * (rows + 1)
        ground.append(f"M{left} {top}h{columns}v{rows}h{-columns}z")
        fired = np.flatnonzero(bits[number * area : min((number + 1) * area, number * area + _STILL_NEURONS)])
        on += [f"M{left + int(neuron) % columns} {top + int(neuron) // columns}h1v1h-1z" for neuron in fired]
    less = f" in the first {maps} of {view.maps} maps" if maps < view.maps else ""
    shapes = [shape("path", class_="cells", d="".join(ground)), shape("path", class_="on", d="".join(on))]
    return Drawing(width, height, f"{cut(view.name)}: {len(on)} spikes{less}", shapes)
