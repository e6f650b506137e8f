"""Plain arrays and JSON of a graph, for standalone folders, whose scripts run without strop.

    network.json   populations and projections: names, sizes, depths, delays
    network.npz    threshold, bias; pre, post, weight of every projection; the read-out
    frames.npz     the stimulus spikes, the input currents, the expected spikes, and the labels

Everything is float64, int32 or bool, written without pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.export.folder_certificate import write_certificate
from strop.graph import Graph, Input, Operator, Projection
from strop.graph.capacity import require_memory
from strop.running.decode import RISING, decides, is_binary, keeps_order, readout_of
from strop.running.encode import FrameDict, encode
from strop.running.oracle import evaluate
from strop.running.stimulus import (
    analogue_inputs,
    current_driven_populations,
    input_currents,
    refuse_currents,
    stimulus_nodes,
)

# Pairs of indices and a weight, once as they are expanded and once on their way to the file.
_BYTES_PER_SYNAPSE = 64
_SAMPLE_FRAMES = 16

# The arithmetics that targets do not share with float64.
ARITHMETICS = {"spinnaker": "spinnaker"}

_ACCOUNT = """\
`run.py` builds the network, presents {frames}, compares every spike of every layer with the expected ones,
prints a table, and ends with 0 if all are equal, else with 1. It is meant to be read and changed; `--help`
lists its options.

| file | what is in it |
|---|---|
| `run.py` | the script |
| `standalone.py` | what the scripts for all simulators share: reading these files, comparing, the read-out |
| `network.json` | populations (name, shape, size, depth) and projections (source, target, delay in steps) |
| `network.npz` | `threshold:P`, `bias:P`; `pre:A->B`, `post:A->B`, `weight:A->B`; `readout:P`, `readout:bias` \
and `readout_after` |
| `frames.npz` | `played:P`: stimulus spikes, `expected:P`: expected spikes, one row per frame; `driven:P`: input \
currents, one row per frame; `labels` where they are known |
| `certificate.json` | what is proved of the spikes for all inputs, and `check_certificate.py`, which proves it again |

Neurons count in C order over their population's shape, channels last. No file holds pickled objects.

| population | neurons | depth | |
|---|---|---|---|
{table}
"""


def write_portable(
    graph: Graph,
    folder: Path,
    frames: FrameDict | None,
    labels: npt.NDArray[np.int64] | None,
    target: str,
    encodings: Sequence[str] = ("host", "bitplane", "binary"),
) -> dict[str, Any]:
    """Write `network.json`, `network.npz`, `frames.npz` and the certificate; return what was written to the first.

    Parameters
    ----------
    frames : mapping of input name to float32 array, shape (n, *input_shape), or None
        None: a few random frames are taken, so that there is something to compare.
    labels : int64 array, shape (n,), or None
    target : str
        For messages.

    Raises
    ------
    BackendError
        If the graph has an input whose encoding is not among `encodings`; or, where `current` is not, a population
        that is fed both by an analogue input and by spikes.
    CapacityError
        If the synapses would not fit into memory.
    """
    for node in graph.inputs:
        if node.encoding not in encodings:
            raise BackendError(
                f"the target {target!r} cannot take the encoding {node.encoding!r} of input {node.name!r}; lower the "
                f"model with one of: {', '.join(encodings)}"
            )
    if "current" not in encodings:
        refuse_currents(graph, f"the target {target!r}")
    stimulus, driven = stimulus_nodes(graph), current_driven_populations(graph)
    carried = [p for p in graph.projections if p.target not in stimulus and p.source not in analogue_inputs(graph)]
    count = sum(p.operator.synapse_count for p in carried)
    require_memory(f"expanding {graph.name!r} into {count:,} synapses", count * _BYTES_PER_SYNAPSE)

    arrays: dict[str, npt.NDArray[Any]] = {}
    populations = _describe_populations(graph, stimulus, driven, arrays)
    projections = _describe_projections(carried, arrays)
    readout = describe_decision(graph)
    if readout is not None:
        arrays |= readout_arrays(graph)
    network = {
        "name": graph.name,
        "depth": graph.total_depth,
        "populations": populations,
        "projections": projections,
        "readout": readout,
    }
    (folder / "network.json").write_text(json.dumps(network, indent=2) + "\n", encoding="utf-8")
    save_arrays(folder / "network.npz", arrays)
    write_certificate(folder, graph, ARITHMETICS.get(target, "float64"), network, arrays)
    save_arrays(folder / "frames.npz", _frame_arrays(graph, stimulus, frames, labels))
    return network


def _describe_populations(
    graph: Graph, stimulus: Sequence[str], driven: Mapping[str, Any], arrays: dict[str, npt.NDArray[Any]]
) -> list[dict[str, Any]]:
    """Return the populations of `network.json`, and put their thresholds and biases into `arrays`."""
    populations = []
    for name in [*(n for n in stimulus if n not in graph.population_names), *graph.population_names]:
        shape = graph.signal_shape(name)
        populations.append(
            {
                "name": name,
                "shape": list(shape),
                "size": int(np.prod(shape, dtype=np.int64)),
                "depth": graph.depth(name),
                "played": name in stimulus,
                "driven": name in driven,
            }
        )
        if name not in stimulus:
            population = graph.population(name)
            arrays[f"threshold:{name}"] = population.threshold.reshape(-1)
            arrays[f"bias:{name}"] = population.bias.reshape(-1)
    return populations


def _describe_projections(carried: Sequence[Projection], arrays: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Return the projections of `network.json`, and put their synapses into `arrays`."""
    projections: list[dict[str, Any]] = []
    for p in carried:
        key = f"{p.source}->{p.target}"
        # A network may have several projections between the same two nodes.
        same = sum(entry["source"] == p.source and entry["target"] == p.target for entry in projections)
        key += f" ({same + 1})" if same else ""
        pre, post, weight = p.operator.to_coo()
        arrays[f"pre:{key}"], arrays[f"post:{key}"] = pre.astype(np.int32), post.astype(np.int32)
        arrays[f"weight:{key}"] = weight
        projections.append({"source": p.source, "target": p.target, "delay": p.delay, "synapses": len(pre), "key": key})
    return projections


def describe(network: Mapping[str, Any], frames: FrameDict | None) -> dict[str, Any]:
    """Return the values for a folder's README: name, neurons, synapses, and the description of its files.

    Parameters
    ----------
    network : dict
        The return value of `write_portable`.
    frames : mapping or None
        The frames passed to it.
    """
    count = 0 if frames is None else len(next(iter(frames.values())))
    rows = (
        f"| {p['name']} | {p['size']:,} | {p['depth']} | "
        f"{'stimulus' if p['played'] else 'input currents' if p['driven'] else ''} |"
        for p in network["populations"]
    )
    presented = f"{count:,} frames" if count else "a few random frames"
    return {
        "name": network["name"],
        "neurons": sum(p["size"] for p in network["populations"] if not p["played"]),
        "synapses": sum(p["synapses"] for p in network["projections"]),
        "account": _ACCOUNT.format(frames=presented, table="\n".join(rows)),
    }


# Functions that the scripts have, for read-outs that average several of them.
_FUNCTIONS = ("key", "softmax", "log_softmax", "sigmoid")


def describe_decision(graph: Graph) -> dict[str, Any] | None:
    """Return the steps from the first read-out to classes, as JSON values (see `strop.running.decode.class_scores`).

    `scores = bias + sum of spikes @ matrix`, one matrix for each source; then `clip`, or a `function` of each `group`;
    then the matrix `readout_after`, if there is one. The largest score wins, the lower of equals; a single score stands
    for class 1, which wins where it is greater than `above`. None where nothing is decided, or by a mean of functions
    that the scripts do not have.
    """
    readout = readout_of(graph)
    if readout is None or not decides(graph):
        return None
    ordered, binary = keeps_order(readout), is_binary(readout)
    if not ordered and readout.kind not in _FUNCTIONS:
        return None
    return {
        "sources": list(readout.sources),
        "classes": 2 if binary else int(np.prod(readout.value_shape)),
        "above": (0.0 if ordered else 0.5) if binary else None,
        "clip": [None if np.isinf(end) else end for end in RISING.get(readout.kind, ())] if ordered else [],
        "function": None if ordered else {"key": "softmax"}.get(readout.kind, readout.kind),
        "group": int(readout.logits_shape[-1]) if readout.logits_shape else 1,
    }


def readout_arrays(graph: Graph) -> dict[str, npt.NDArray[np.float64]]:
    """Return the first read-out's arrays: a matrix for each source, the bias, and the map behind the function."""
    readout = readout_of(graph)
    assert readout is not None
    pairs = zip(readout.sources, readout.operators, strict=True)
    arrays = {f"readout:{source}": _matrix(operator) for source, operator in pairs}
    arrays["readout:bias"] = readout.bias.reshape(-1)
    if readout.after is not None:
        arrays["readout_after"] = _matrix(readout.after)
    return arrays


def _matrix(operator: Operator) -> npt.NDArray[np.float64]:
    """Return an operator as a matrix of shape (inputs, outputs)."""
    pre, post, weight = operator.to_coo()
    matrix = np.zeros((operator.size_in, operator.size_out))
    matrix[pre, post] = weight
    return matrix


def sample_frames(graph: Graph) -> FrameDict:
    """Return a few random frames: those of an 8-bit camera (255ths, or whole numbers where the model takes those), or
    values of an input's bit planes.
    """
    rng = np.random.default_rng(0)

    def sample(node: Input) -> npt.NDArray[np.float32]:
        if node.whole_numbers and node.encoding != "bitplane":
            most = {"bool": 1, "int8": 127}.get(node.dtype, 255)
            return rng.integers(0, most + 1, (_SAMPLE_FRAMES, *node.shape)).astype(np.float32)
        return node.plane_values(rng.integers(0, 1 << node.bits, (_SAMPLE_FRAMES, *node.shape))).astype(np.float32)

    return {node.name: sample(node) for node in graph.inputs}


def _frame_arrays(
    graph: Graph,
    stimulus: Sequence[str],
    frames: FrameDict | None,
    labels: npt.NDArray[np.int64] | None,
) -> dict[str, npt.NDArray[Any]]:
    frames = sample_frames(graph) if frames is None else frames
    signals = encode(graph, frames)
    spikes: Mapping[str, npt.NDArray[Any]] = {**signals, **evaluate(graph, signals)}
    count = len(next(iter(frames.values())))
    arrays: dict[str, npt.NDArray[Any]] = {
        f"played:{name}": spikes[name].reshape(count, -1).astype(np.bool_) for name in stimulus
    }
    for name in graph.population_names:
        if name not in stimulus:
            arrays[f"expected:{name}"] = spikes[name].reshape(count, -1)
    arrays |= {f"driven:{name}": values for name, values in input_currents(graph, signals).items()}
    if labels is not None:
        arrays["labels"] = labels
    return arrays


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays to an `.npz` file, without pickle."""
    with path.open("wb") as file:
        # The stubs take the keyword arguments for the one flag that is no array.
        np.savez_compressed(file, **dict[str, Any](arrays))
