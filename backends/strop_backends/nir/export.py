"""The standalone folder for NIR: the graph, frames in NIR's layout, the expected spikes, and a script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.export.arrays import describe_decision, readout_arrays
from strop.export.script import write_script
from strop.graph import Graph
from strop.running.encode import FrameDict, encode
from strop.running.oracle import evaluate
from strop_backends.nir.emit import natural
from strop_backends.nir.writing import graph_hint, to_nir, write_file

_TEMPLATE = Path(__file__).parent / "templates" / "run.py"

_README = """\
# {name}, as NIR

A network of {neurons:,} threshold neurons, written by strop in the Neuromorphic Intermediate Representation.

| file | what is in it |
|---|---|
| `network.nir` | the graph: `nir.read("network.nir")` |
{frames}| `run.py` | evaluates the graph by NIR's equations and compares every spike: `pip install nir; python run.py` |
| `standalone.py` | reading, comparing and the read-out, for `run.py` |

Tensors have their channels first. An input node takes encoded frames ({encodings}). A neuron
fires where its input is greater than NIR's threshold, which is the next {precision} below the threshold of the
network: it fires at the network's own threshold too. Output nodes give the values of the read-out before any
softmax or sigmoid; the largest wins, and a single one that is greater than 0 is class 1. Further steps
are in the node's metadata.

| node | what it is |
|---|---|
{nodes}
"""


def write_nir(
    graph: Graph, out: Path, frames: FrameDict | None, labels: npt.NDArray[np.int64] | None, **options: Any
) -> None:
    """Fill the folder `out` for the target `nir`; see `strop.export.folders.export`.

    Options are those of `strop_backends.nir.writing.to_nir`: `precision`, `delays` and `dt`.
    """
    unknown = sorted(set(options) - {"precision", "delays", "dt"})
    if unknown:
        raise BackendError(f"the target 'nir' does not know the option(s) {', '.join(unknown)}")
    written = to_nir(graph, **options)
    write_file(out / "network.nir", written)
    write_script(out, _TEMPLATE)
    if frames is not None:
        np.savez_compressed(out / "frames.npz", **_frames(graph, written, frames, labels))  # type: ignore[arg-type]
    rows = "\n".join(f"| `{name}` | {type(node).__name__} |" for name, node in written.nodes.items())
    text = _README.format(
        name=graph.name,
        neurons=graph.neurons,
        encodings=", ".join(f"`{node.name}`: {node.encoding}" for node in graph.inputs),
        precision=options.get("precision", "float64"),
        frames=""
        if frames is None
        else "| `frames.npz` | `input:NODE`, `expected:NODE`, `labels`, and how they are decided |\n",
        nodes=rows,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _frames(
    graph: Graph, written: Any, frames: FrameDict, labels: npt.NDArray[np.int64] | None
) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of each input node and the expected spikes of each Threshold, in NIR's layout."""
    signals = encode(graph, frames)
    spikes = evaluate(graph, signals)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, node in written.nodes.items():
        title = str(graph_hint(node.metadata).get("name"))
        if isinstance(node, nir.Input):
            place = natural(graph.signal_shape(title))
            values = signals[title].reshape(len(signals[title]), -1)
            arrays[f"input:{name}"] = values[:, place].astype(np.float64)
        elif isinstance(node, nir.Threshold):
            values = spikes[title]
            flat = node.threshold.ndim == 1
            place = np.arange(values[0].size) if flat else natural(values.shape[1:])
            arrays[f"expected:{name}"] = values.reshape(len(values), -1)[:, place]
    decision = describe_decision(graph)
    if labels is not None and decision is not None:
        decision["output"] = graph_hint(written.metadata)["outputs"][0]
        arrays |= {"labels": labels, "readout": np.array(json.dumps(decision))}
        arrays |= {key: values for key, values in readout_arrays(graph).items() if key == "readout_after"}
    return arrays
