"""`strop.inspect`: neurons, synapses, fan-in, fan-out, depth and memory; with frames, events and energy too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.costs.activity import Activity, count_activity
from strop.costs.energy import FLOAT32_ADD, FLOAT32_MAC, NEUROMORPHIC, STATEMENT, float32_energy
from strop.costs.macs import LayerMacs, graph_arithmetic, host_arithmetic, readout_arithmetic, total
from strop.costs.records import Costs, PopulationCost
from strop.costs.target import target_facts
from strop.errors import DataError
from strop.graph import Graph, Operator, counts_are_exact, fan_in, fan_out
from strop.graph.html_table import html_table
from strop.running.encode import Frames
from strop.running.frame_source import FrameSource, frame_source
from strop.running.frames import frames_and_labels
from strop.running.model_argument import ModelOrGraph, keys_of, model_or_graph
from strop.running.stimulus import analogue_inputs

# Bytes per synapse in the three arrays of `Operator.to_coo`: pre and post (int64), weight (float64).
COO_BYTES = 24


class Inspection(Costs):
    """The result of `strop.inspect`; prints itself as a table."""

    def __str__(self) -> str:
        from strop.costs.table import render_inspection  # rich, only where something is printed

        return render_inspection(self)

    def _repr_html_(self) -> str:
        rows = [
            (
                row.name,
                "×".join(map(str, row.shape)),
                row.neurons,
                row.synapses,
                row.fan_in,
                row.fan_out,
                row.depth,
                ", ".join(row.sources),
            )
            for row in self.populations
        ]
        about = "{populations:,} populations, {neurons:,} neurons, {synapses:,} synapses, depth {depth}".format(
            **self.totals
        )
        notes = list(self.notes)
        if self.activity is not None:
            notes.append(f"{self.activity['synaptic_events_per_frame']:,.0f} synaptic events per frame")
        headings = ("population", "shape", "neurons", "synapses", "fan-in", "fan-out", "depth", "fed by")
        return html_table(self.model, headings, rows, notes, about.format(**self.totals))


def inspect(
    model: ModelOrGraph,
    frames: Frames | None = None,
    *,
    encoding: str = "host",
    decision: str = "host",
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    target: str | None = None,
    copies: int | str | None = None,
    workers: int | None = None,
    client: Any = None,
) -> Inspection:
    """Return what a network costs: neurons, synapses, memory; with frames, synaptic events and energy estimates.

    >>> costs = strop.inspect(model, frames)
    >>> print(costs)
    >>> costs.activity["synaptic_events_per_frame"]

    Parameters
    ----------
    model : keras.Model, Graph or path
        A sharpened model, or a graph; of a graph, the dense arithmetic is that of its operators.
    frames : array, shape (n, *input_shape), optional
        Or several, or a stream of them, as for `strop.verify`; see `strop.running.encode.as_frames`.
    encoding, decision, bits, step, offset
        For a Keras model; see `strop.lower`.
    target : str, optional
        Name of a backend whose fidelity and mapping are reported for each population.
    copies : int or "fill", optional
        For a target that maps (`spinnaker`): how many copies of the network stand side by side.
    workers, client : optional
        Processes, here or of a Dask scheduler, that count the spikes of the frames; see `strop.verify`.

    Raises
    ------
    StropError
        If the model cannot be lowered, the frames do not fit, or the backend is missing.
    """
    model = model_or_graph(model, "strop.inspect")
    if isinstance(model, Graph):
        return inspect_graph(model, target, frames, copies=copies, workers=workers, client=client)
    from strop.costs.keras_macs import model_arithmetic
    from strop.lowering import lower

    graph = lower(model, encoding, decision=decision, bits=bits, step=step, offset=offset, frames=frames)
    if frames is not None:
        frames = _frames(graph, frames, target, keys_of(model, graph)[0])
    return inspect_graph(graph, target, frames, model_arithmetic(model), copies, workers=workers, client=client)


def inspect_graph(
    graph: Graph,
    target: str | None = None,
    frames: Frames | FrameSource | None = None,
    dense: list[LayerMacs] | None = None,
    copies: int | str | None = None,
    *,
    workers: int | None = None,
    client: Any = None,
) -> Inspection:
    """Return the costs of `graph`; no operator is expanded for it.

    Parameters
    ----------
    target : str, optional
        Name of a backend whose fidelity and mapping are reported for each population.
    frames : array, shape (n, *input_shape), optional
        To count spikes and events. Targets that map a graph (`spinnaker`) also report the load of these frames, and
        which spikes would differ.
    dense : list of LayerMacs, optional
        The arithmetic of the Keras model, layer by layer; by default that of the graph's operators.
    copies : int or "fill", optional
        As for `inspect`.
    workers, client : optional
        See `inspect`.

    Raises
    ------
    BackendMissingError
        If `target` cannot be used.
    DataError
        If the frames do not fit.
    """
    if copies is not None and target is None:
        raise DataError('copies are for a target that maps the network: give target="spinnaker" too')
    frames = None if frames is None else _frames(graph, frames, target)
    source = None if frames is None else frame_source(graph, frames)
    rows = [_population_cost(graph, name) for name in graph.population_names]
    synapses = sum(row.synapses for row in rows)
    totals = {
        "populations": len(rows),
        "neurons": graph.neurons,
        "synapses": synapses,
        "depth": graph.total_depth,
        "stored_bytes": 8 * sum(row.parameters for row in rows),
        "expanded_bytes": COO_BYTES * synapses,
        "counts_exact": all(counts_are_exact(p.operator) for p in graph.projections),
    }
    inputs = [{"name": node.name, "shape": list(node.shape), "encoding": node.encoding} for node in graph.inputs]
    readouts = {readout.name: readout for readout in graph.readouts}
    outputs = [
        {
            "name": name,
            "kind": readouts[name].kind if name in readouts else "spikes",
            "argmax": name in readouts and readouts[name].argmax,
            "shape": list(readouts[name].shape if name in readouts else graph.population(name).shape),
        }
        for name in graph.outputs
    ]
    activity = None if source is None else count_activity(graph, source, workers, client)
    arithmetic = _arithmetic(graph, dense)
    return Inspection(
        graph.name,
        rows,
        totals,
        inputs,
        outputs,
        None if target is None else target_facts(graph, target, frames, copies),
        arithmetic=arithmetic,
        decision=_decision(graph, rows, activity),
        activity=None if activity is None else _activity(graph, activity),
        energy=None if activity is None else _energy(activity, arithmetic),
        notes=[*graph.assumptions, *_notes(graph), *([] if source is None else source.frame_notes)],
    )


def _frames(
    graph: Graph, frames: Frames | FrameSource, target: str | None, keys: Mapping[str, str] | None = None
) -> dict[str, npt.NDArray[Any]] | FrameSource:
    """Return frames chunk by chunk; for a target, which runs them several times, as arrays in memory."""
    if target is None or isinstance(frames, FrameSource):
        return frame_source(graph, frames, inputs=keys)
    return frames_and_labels(graph, frames, keys=keys).frames


def _notes(graph: Graph) -> list[str]:
    """Return a note on populations that the host evaluates because an input meets spikes there."""
    analogue = set(analogue_inputs(graph))
    host = [name for name in graph.population_names if name in graph.host_populations]
    sources = {name: {p.source for p in graph.incoming(name)} for name in host}
    mixed = [name for name in host if sources[name] & analogue and sources[name] - analogue]
    if not mixed:
        return []
    return [
        f"{', '.join(mixed)}: an input meets spikes there, so the host evaluates {', '.join(host)}, and a chip none of "
        "them; under the encodings bitplane, binary and current a chip does"
    ]


def _population_cost(graph: Graph, name: str) -> PopulationCost:
    population, incoming = graph.population(name), graph.incoming(name)
    ends: npt.NDArray[np.int64] = sum((fan_in(p.operator) for p in incoming), np.zeros(population.shape, np.int64))
    starts: npt.NDArray[np.int64] = sum(
        (fan_out(p.operator) for p in graph.projections if p.source == name), np.zeros(population.shape, np.int64)
    )
    return PopulationCost(
        name,
        population.shape,
        population.size,
        int(ends.sum()),
        sum(stored_values(p.operator) for p in incoming),
        int(ends.max()),
        graph.depth(name),
        tuple(p.source for p in incoming),
        tuple(_kind(p.operator) for p in incoming),
        float(ends.mean()),
        int(starts.max()),
        float(starts.mean()),
    )


def _arithmetic(graph: Graph, dense: list[LayerMacs] | None) -> dict[str, Any]:
    layers = graph_arithmetic(graph) if dense is None else dense
    parts = {"dense": layers, "host": host_arithmetic(graph), "readout": readout_arithmetic(graph)}
    found: dict[str, Any] = {
        name: {
            "layers": [layer.to_dict() for layer in part],
            "macs": (sums := total(part)).macs,
            "additions": sums.additions,
        }
        for name, part in parts.items()
    }
    found["dense"]["counted"] = "graph" if dense is None else "keras"
    return found


def _decision(graph: Graph, rows: list[PopulationCost], activity: Activity | None) -> dict[str, Any]:
    """Return where the winning class is found, and the costs of the populations that find it."""
    winners = [source for readout in graph.readouts if readout.kind == "winner" for source in readout.sources]
    names = {p.source for name in winners for p in graph.incoming(name)} | set(winners)
    own = [row for row in rows if row.name in names]
    found: dict[str, Any] = {
        "where": "spikes" if own else "host",
        "populations": [row.name for row in own],
        "neurons": sum(row.neurons for row in own),
        "synapses": sum(row.synapses for row in own),
        "steps": len({row.depth for row in own}),
    }
    if activity is not None:
        found["synaptic_events_per_frame"] = sum(activity.events_at(row.name) for row in own)
    return found


def _activity(graph: Graph, activity: Activity) -> dict[str, Any]:
    def sent(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "spikes_per_frame": activity.spikes_per_frame(name),
            "firing_rate": activity.firing_rate(name),
            "synaptic_events_sent_per_frame": activity.events_from(name),
        }

    populations = [
        {
            **sent(name),
            "synaptic_events_per_frame": activity.events_at(name),
            "on_host": name in graph.host_populations,
        }
        for name in graph.population_names
    ]
    spikes = sum(activity.spikes_per_frame(name) for name in graph.population_names)
    return {
        "frames": activity.frames,
        "inputs": [sent(node.name) for node in graph.inputs if node.spiking],
        "populations": populations,
        "spikes_per_frame": spikes,
        "firing_rate": spikes / graph.neurons,
        "synaptic_events_per_frame": activity.events_per_frame(),
        "readout_additions_per_frame": activity.readout_events_per_frame(),
    }


def _energy(activity: Activity, arithmetic: dict[str, Any]) -> dict[str, Any]:
    events = activity.events_per_frame()
    found: dict[str, Any] = {
        "statement": STATEMENT,
        "spiking": [{**f.to_dict(), "picojoules_per_frame": f.of(events)} for f in NEUROMORPHIC],
        "figures": [FLOAT32_MAC.to_dict(), FLOAT32_ADD.to_dict()],
    }
    for name in ("dense", "host"):
        part = arithmetic[name]
        found[name] = {"picojoules_per_frame": float32_energy(part["macs"], part["additions"])}
    # The host adds up the weights of the spikes that came; nothing is multiplied.
    found["readout"] = {"picojoules_per_frame": FLOAT32_ADD.of(activity.readout_events_per_frame())}
    return found


def stored_values(operator: Operator) -> int:
    """Return how many values an operator keeps in memory, its stages included."""
    own = (getattr(operator, name, None) for name in ("weight", "kernel", "index", "factor"))
    total = sum(values.size for values in own if values is not None)
    return int(total) + sum(stored_values(stage) for stage in getattr(operator, "stages", ()))


def _kind(operator: Operator) -> str:
    stages = getattr(operator, "stages", (operator,))
    return " + ".join(type(stage).__name__ for stage in stages)
