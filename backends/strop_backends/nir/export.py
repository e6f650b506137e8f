"""The standalone folder for NIR: the graph, frames in NIR's layout, the expected spikes, and a script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.export.arrays import describe_decision, readout_arrays
from strop.export.script import refuse_options, write_script
from strop.graph import Graph
from strop.running.encode import FrameDict, encode
from strop.running.oracle import evaluate
from strop_backends.nir.emit import natural
from strop_backends.nir.files import write_file
from strop_backends.nir.neurons import NEURONS, level
from strop_backends.nir.profiles import Profile, get_profile
from strop_backends.nir.rounding import account, recentre
from strop_backends.nir.writing import graph_hint, to_nir

_TEMPLATES = Path(__file__).parent / "templates"

_README = """\
# {name}, as NIR

A network of {neurons:,} threshold neurons, written by strop in the Neuromorphic Intermediate Representation, for
{consumer} (profile `{profile}`).

| file | what is in it |
|---|---|
| `network.nir` | the graph: `nir.read("network.nir")`, with nir 1.0.4 or later |
{frames}| `run.py` | {run} |
| `standalone.py`{shared} | reading, comparing and the read-out, for `run.py` |

Tensors have their channels first. The input node takes encoded frames ({encodings}). {neuron} Output nodes
give the values of the read-out before any softmax or sigmoid; the largest wins, and a single one that is greater than 0
is class 1. Further steps are at the root of the file, in `strop`, where no other tool looks.

How frames are presented: {present}
{rounding}
| node | what it is |
|---|---|
{nodes}
"""

_OPTIONS = ("precision", "delays", "dt", "profile", "pools", "rounding")


def write_nir(
    graph: Graph, out: Path, frames: FrameDict | None, labels: npt.NDArray[np.int64] | None, **options: Any
) -> None:
    """Fill the folder `out` for the target `nir`; see `strop.export.folders.export`.

    Options are those of `strop_backends.nir.writing.to_nir`. With `rounding`, thresholds are moved to where the frames
    of the folder fire as before, if there is such a place, and the README counts the spikes that change.
    """
    refuse_options("nir", options, _OPTIONS)
    profile = get_profile(options.get("profile", "threshold"))
    written = to_nir(graph, **options)
    signals = None if frames is None else encode(graph, frames)
    rounded = account(recentre(graph, written, signals)) if options.get("rounding") else ""
    write_file(out / "network.nir", written)
    shared = [_TEMPLATES / "torch_spikes.py"] if profile.batched else []
    write_script(out, _TEMPLATES / profile.script, *shared)
    if signals is not None:
        np.savez_compressed(out / "frames.npz", **_frames(graph, written, signals, labels))  # type: ignore[arg-type]
    (out / "README.md").write_text(_readme(graph, written, profile, signals is not None, rounded), encoding="utf-8")


def _readme(graph: Graph, written: Any, profile: Profile, frames: bool, rounded: str) -> str:
    about = [graph_hint(node.metadata) for node in written.nodes.values() if isinstance(node, NEURONS)]
    precision = about[0]["precision"]
    by_equations = "evaluates the graph by NIR's equations and compares every spike: `pip install nir; python run.py`"
    below = (
        f"A neuron fires where its input is greater than the threshold in the file, the next {precision} below "
        "the threshold of the network: it fires at the network's own threshold too."
    )
    at = "A neuron fires where its input is the threshold in the file, or greater."
    return _README.format(
        name=graph.name,
        neurons=graph.neurons,
        consumer=profile.consumer,
        profile=profile.name,
        encodings=", ".join(f"`{node.name}`: {node.encoding}" for node in graph.inputs),
        frames="| `frames.npz` | `input:NODE`, `expected:NODE`, `step`, `labels`, and how they are decided |\n"
        if frames
        else "",
        run=f"loads it into {profile.consumer} and compares every spike" if profile.batched else by_equations,
        shared=", `torch_spikes.py`" if profile.batched else "",
        neuron=at if profile.fires == ">=" else below,
        present=profile.frames,
        rounding=f"\n{rounded}\n" if rounded else "",
        nodes="\n".join(f"| `{name}` | {type(node).__name__} |" for name, node in written.nodes.items()),
    )


def _frames(
    graph: Graph, written: Any, signals: Any, labels: npt.NDArray[np.int64] | None
) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of each input node and the expected spikes of each population, in NIR's layout."""
    spikes = evaluate(graph, signals)
    about = graph_hint(written.metadata)
    arrays: dict[str, npt.NDArray[Any]] = {"step": np.array(float(about["dt"]))}
    for name, node in written.nodes.items():
        title = str(graph_hint(node.metadata).get("name"))
        if isinstance(node, nir.Input):
            place = natural(graph.signal_shape(title))
            values = signals[title].reshape(len(signals[title]), -1)
            arrays[f"input:{name}"] = values[:, place].astype(np.float64)
        elif isinstance(node, NEURONS):
            values = spikes[title]
            place = np.arange(values[0].size) if level(node).ndim == 1 else natural(values.shape[1:])
            arrays[f"expected:{name}"] = values.reshape(len(values), -1)[:, place]
    decision = describe_decision(graph)
    if labels is not None and decision is not None:
        decision["output"] = about["outputs"][0]
        arrays |= {"labels": labels, "readout": np.array(json.dumps(decision))}
        arrays |= {key: values for key, values in readout_arrays(graph).items() if key == "readout_after"}
    return arrays
