"""Writing NIR: the consumer's comparator, channels first, biases in the affine maps, delays where paths differ.

NIR's equations (nir 1.0.8): `Threshold` gives 1 where `v > v_thr` (`ir/threshold.py`), `Affine` and the
convolutions take no time, several edges into a node add up, and `Delay` gives `x(t - tau)` (`ir/delay.py`).
So a NIR graph without delays answers a frame in the instant it enters; where a graph skips layers, every
projection gets a `Delay` of its steps, and population P answers at `depth(P)` steps, as in strop.
What a consumer makes of it is in `strop_backends.nir.profiles`.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Dense, Graph, Population, Readout
from strop_backends.nir.emit import (
    Place,
    as_convolution,
    convolution,
    describe,
    emit,
    hint,
    image,
    is_flat,
    is_image,
    natural,
)
from strop_backends.nir.files import KEY, table_in
from strop_backends.nir.neurons import compared_with, make_neurons, same_for_all
from strop_backends.nir.profiles import POOLS, Profile, check_step, get_profile

PRECISIONS = ("float64", "float32")
DELAYS = ("auto", "always", "never")

# Attributes of torch.nn.ModuleDict (PyTorch 2.13), which no layer of a consumer that is built on it may be called.
_TAKEN = re.compile(
    "add_module|apply|bfloat16|buffers|call_super_init|children|clear|compile|cpu|cuda|double|dump_patches|eval|"
    "extra_repr|float|forward|get_.*|half|ipu|items|keys|load_state_dict|modules|mtia|named_.*|parameters|pop|"
    "register_.*|requires_grad_|set_.*|share_memory|state|state_dict|to|to_empty|train|training|type|update|values|"
    "xpu|zero_grad"
)


def to_nir(
    graph: Graph,
    precision: str | None = None,
    delays: str = "auto",
    dt: float | None = None,
    profile: str = "threshold",
    pools: str = "auto",
    rounding: bool = False,
) -> Any:
    """Return a `nir.NIRGraph` that gives the same spikes, and passes NIR's own type check.

    >>> to_nir(graph, profile="snntorch")

    A NIR input takes the signal of strop's input: the frame, or its binary values or bit planes as channels
    (see `strop.running.encode.encode`), channels first. Read-outs become affine maps: the logits. Functions of
    them (a softmax, a sigmoid, a mean of several) are in the metadata of the output node.

    Parameters
    ----------
    graph : Graph
    precision : {"float64", "float32"}, optional
        Precision of the consumer; by default that of the profile. What a neuron is compared with is set in this
        precision; with "float32", a weight or bias that float32 cannot hold is refused, unless `rounding`.
    delays : {"auto", "always", "never"}
        Whether every projection carries a `Delay` of its steps. "auto": only in graphs with skip connections, and
        where the profile knows delays. "never" is for consumers that evaluate a frame in one instant, as NIR's
        equations do.
    dt : float, optional
        Length of a step: the unit of delays, and the time constant of LIFs. By default that of the profile.
    profile : {"threshold", "lif", "snntorch", "norse", "sinabs"}
        For whom it is written: see `strop_backends.nir.profiles`.
    pools : {"auto", "sum", "convolution"}
        Pools as `SumPool2d` or as `Conv2d`; "auto": as the profile's consumer computes them exactly.
    rounding : bool
        Round weights and biases to the nearest float32, where they are none.

    Raises
    ------
    BackendError
        If an option is unknown, this precision cannot hold a value, or the profile cannot say this graph exactly;
        names the population and the reason.
    CapacityError
        If an operator that NIR has no node for would become too large a matrix.
    """
    chosen = get_profile(profile)
    precision = chosen.precision if precision is None else precision
    dt = chosen.dt if dt is None else dt
    if precision not in PRECISIONS or delays not in DELAYS or pools not in POOLS:
        raise BackendError(
            f"nir: precision must be one of {', '.join(PRECISIONS)}, delays one of {', '.join(DELAYS)}, pools one of "
            f"{', '.join(POOLS)}; got {precision!r}, {delays!r}, {pools!r}"
        )
    check_step(chosen, dt)
    if precision != chosen.precision and not chosen.any_precision:
        raise BackendError(
            f"nir: {chosen.consumer} calculates in {chosen.precision}; leave precision={precision!r} out"
        )
    if pools == "convolution":
        chosen = replace(chosen, maps=chosen.maps - {"SumPool2d"})
    elif pools == "sum" and "SumPool2d" not in chosen.maps:
        raise BackendError(
            f"nir: {chosen.consumer} has no SumPool2d, or one that rounds (it divides by the size of its window); "
            "leave pools='sum' out"
        )
    _check_form(graph, chosen, delays)
    return _Writer(graph, chosen, precision, delays, dt, rounding).finish()


def _check_form(graph: Graph, profile: Profile, delays: str) -> None:
    """Refuse a graph whose form the profile's consumer does not know."""
    if delays == "always" and not profile.delays:
        raise BackendError(
            f"nir: {profile.consumer} knows no Delay; it answers a frame in the instant in which it enters, so leave "
            "delays='always' out"
        )
    for what, names in (("input", [node.name for node in graph.inputs]), ("output", list(graph.outputs))):
        if len(names) > 1 and not profile.many:
            raise BackendError(
                f"nir: {profile.consumer} takes a graph with one {what}; this one has {len(names)}: "
                f"{', '.join(names)}. Export it with --profile lif"
            )
    if not profile.many and (loose := _loose(graph)):
        raise BackendError(
            f"nir: population {loose[0]!r} does not lead to the output; {profile.consumer} would take it for an output"
        )
    if not profile.merges:
        readouts = [(r.name, len(r.sources)) for r in graph.readouts if r.name in graph.outputs]
        paths = [(name, len(graph.incoming(name))) for name in graph.population_names]
        for name, count in (*paths, *readouts):
            if count > 1:
                raise BackendError(
                    f"nir: {count} projections meet at {name!r}, and {profile.consumer} runs a node before all that "
                    "feeds it is there. Export the graph with --profile snntorch or lif"
                )


def _loose(graph: Graph) -> list[str]:
    """Return the populations that nothing takes spikes from."""
    read = {p.source for p in graph.projections} | set(graph.outputs)
    read |= {source for r in graph.readouts if r.name in graph.outputs for source in r.sources}
    return [name for name in graph.population_names if name not in read]


class _Writer:
    """The NIR graph as it grows."""

    def __init__(self, graph: Graph, profile: Profile, precision: str, delays: str, dt: float, rounding: bool) -> None:
        self.graph, self.profile, self.precision, self.dt = graph, profile, precision, dt
        self.rounding = rounding
        skips = any(p.delay > 1 for p in graph.projections)
        self.delayed = delays == "always" or (delays == "auto" and skips and profile.delays)
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.ids: dict[str, str] = {}
        self.places: dict[str, Place] = {}

    def finish(self) -> Any:
        graph = self.graph
        # Spyx looks for a node of the name "input".
        alone = len(graph.inputs) == 1 and self.profile.name != "threshold"
        for node in graph.inputs:
            self.places[node.name] = natural(node.signal_shape)
            about = {"name": node.name, "shape": node.shape, "encoding": node.encoding, "bits": node.bits}
            shape = np.array(self.places[node.name].shape)
            about |= {"level": float(node.level), "offset": float(node.offset)}
            # None has no place in NIR's metadata.
            about |= {} if node.step is None else {"step": float(node.step)}
            about |= {"dtype": node.dtype, "scaled_by": node.scaled_by} if node.whole_numbers else {}
            made = nir.Input(input_type={"input": shape}, metadata=hint(**about))
            self.ids[node.name] = self._add("input" if alone else node.name, made)
        for population in graph.populations:
            self._population(population)
        for name in graph.outputs:
            readout = next((r for r in graph.readouts if r.name == name), None)
            self._output(name, readout)
        metadata = hint(
            name=graph.name,
            outputs=[self._output_id(name) for name in graph.outputs],
            inputs=[node.name for node in graph.inputs],
            populations=graph.population_names,
            projections=[(p.source, p.target) for p in graph.projections],
            profile=self.profile.name,
            dt=float(self.dt),
        )
        return nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    def _output_id(self, name: str) -> str:
        return self.ids[f"output {name}"]

    def _add(self, name: str, node: Any) -> str:
        """Add a node under an identifier made of `name`: a slash would make HDF5 groups of it."""
        clean = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "node"
        if self.profile.name != "threshold" and clean in ("input", "output") and clean != type(node).__name__.lower():
            clean = f"{clean}_"
        if self.profile.batched and (keyword.iskeyword(clean) or _TAKEN.fullmatch(clean)):
            clean = f"{clean}_"
        candidate, number = clean, 2
        while candidate in self.nodes:
            candidate, number = f"{clean}_{number}", number + 1
        self.nodes[candidate] = node
        return candidate

    def _emit(self, operator: Any, source: str, target: str, flat: bool = False) -> tuple[list[Any], Place]:
        return emit(operator, self.places[source], f"{source} -> {target}", flat, self.profile.maps)

    def _population(self, population: Population) -> None:
        name, shape = population.name, population.shape
        threshold, bias = population.threshold, population.bias
        if self.profile.one_threshold:
            threshold, bias = same_for_all(population, self.precision, self.profile.consumer)
        links = [(p.source, p.operator, p.delay) for p in self.graph.incoming(name)]
        per_channel = bool((bias == bias.reshape(-1, shape[-1])[0]).all())
        chains = [self._emit(op, source, name) for source, op, _ in links]
        flat = not (all(is_image(place, shape) for _, place in chains) and (per_channel or len(shape) == 1))
        # Of an image of neurons the consumer must know a map that takes one to another.
        flat = flat or (len(shape) > 1 and f"Conv{len(shape) - 1}d" not in self.profile.maps)
        if flat and not all(is_flat(place) for _, place in chains):
            chains = [self._emit(op, source, name, flat=True) for source, op, _ in links]
        self.places[name] = np.arange(population.size, dtype=np.int64) if flat else image(shape)
        self._add_bias([nodes for nodes, _ in chains], bias, shape, flat)
        compared = compared_with(threshold, self.precision, self.profile.fires).reshape(-1)[self.places[name]]
        about = {"name": name, "shape": shape, "precision": self.precision}
        about |= {"fires": self.profile.fires} if self.profile.fires != ">" else {}
        self.ids[name] = self._add(name, make_neurons(self.profile, self.dt, compared, hint(**about)))
        for (source, _, delay), (nodes, place) in zip(links, chains, strict=True):
            if self.delayed:
                nodes.append(nir.Delay(delay=np.full(place.shape, delay * self.dt)))
            self._link(source, self.ids[name], nodes, f"{name}_from_{source}")

    def _add_bias(self, chains: list[list[Any]], bias: npt.NDArray[Any], shape: Any, flat: bool) -> None:
        """Put the bias into the affine map or convolution that ends a chain, or behind a chain into one of its own."""
        if not bias.any():
            return
        for nodes in chains:
            if nodes and isinstance(nodes[-1], (nir.Linear, nir.Conv1d, nir.Conv2d)):
                nodes[-1] = _with_bias(nodes[-1], bias)
                return
        chains[0].append(_with_bias(_identity(shape, flat), bias))

    def _output(self, name: str, readout: Readout | None) -> None:
        alone = len(self.graph.outputs) == 1 and self.profile.name != "threshold"
        if readout is None:
            shape = np.array(self.places[name].shape)
            node = nir.Output(output_type={"output": shape}, metadata=hint(population=name))
            self.ids[f"output {name}"] = self._add("output" if alone else f"{name}_output", node)
            self._link(name, self._output_id(name), [], name)
            return
        chains = [
            self._emit(op, source, readout.name, flat=True)[0]
            for source, op in zip(readout.sources, readout.operators, strict=True)
        ]
        size = int(np.prod(readout.logits_shape))
        for nodes in chains:
            # The decode is an affine map in any case, so that consumers find one.
            if not nodes or not isinstance(nodes[-1], nir.Linear):
                nodes.append(_identity((size,), True))
        chains[0][-1] = _with_bias(chains[0][-1], readout.bias)
        about: dict[str, Any] = {"name": name, "kind": readout.kind, "shape": readout.logits_shape}
        about |= {} if readout.after is None else {"after": describe(readout.after)}
        about |= {"argmax": True} if readout.argmax else {}
        node = nir.Output(output_type={"output": np.array([size])}, metadata=hint(**about))
        target = self.ids[f"output {name}"] = self._add("output" if alone else name, node)
        if len(chains) > 1 and self.profile.batched:
            # nirtorch hands the parts of a sum to an Output one by one.
            total = self._ready(_identity((size,), True), name)
            target = self._add(f"{name}_sum", total)
            self.edges.append((target, self._output_id(name)))
        last = max(self.graph.depth(source) for source in readout.sources)
        for source, nodes in zip(readout.sources, chains, strict=True):
            if self.delayed and (wait := last - self.graph.depth(source)):
                nodes.append(nir.Delay(delay=np.full((size,), wait * self.dt)))
            self._link(source, target, nodes, f"{name}_from_{source}")

    def _link(self, source: str, target: str, nodes: list[Any], label: str) -> None:
        """Add a chain of nodes between two that are there."""
        before = self.ids[source]
        if not nodes and (before, target) in self.edges:
            # NIR takes an edge once; two equal projections are two.
            place = self.places[source]
            flat = place.ndim == 1
            shape = place.shape if flat else (*place.shape[1:], place.shape[0])
            nodes = [nir.Scale(scale=np.ones(place.shape)) if "Scale" in self.profile.maps else _identity(shape, flat)]
        for number, node in enumerate(nodes):
            suffix = "" if len(nodes) == 1 else f"_{number + 1}"
            name = self._add(f"{label}{suffix}", self._ready(node, label))
            self.edges.append((before, name))
            before = name
        self.edges.append((before, target))

    def _ready(self, node: Any, where: str) -> Any:
        """Return a node in the form and the precision of the consumer, or refuse."""
        if isinstance(node, nir.Linear) and "Linear" not in self.profile.maps:
            node = _with_bias(node, np.zeros(len(node.weight)))
        if isinstance(node, nir.Flatten) and self.profile.batched:
            # Counted from behind, so that a batch axis in front does no harm.
            node = nir.Flatten(node.input_type, start_dim=-len(node.input_type["input"]), end_dim=-1)
        if self.precision == "float64":
            return node
        for key in ("weight", "bias", "scale"):
            values = getattr(node, key, None)
            if values is None:
                continue
            short = values.astype(np.float32)
            if not self.rounding and not np.array_equal(short, values):
                worst = float(values[short != values].reshape(-1)[0])
                raise BackendError(
                    f"nir: {where} holds the {key} {worst!r}, which float32 cannot hold; export with "
                    "rounding=True (--round) to have it rounded, quantise the graph first, or take precision='float64' "
                    "for a consumer that calculates in it"
                )
            setattr(node, key, short)
        return node


def _identity(shape: tuple[int, ...], flat: bool) -> Any:
    """Return a map that changes nothing, of a vector or of an image of that shape, channels last."""
    if flat:
        return nir.Linear(weight=np.eye(int(np.prod(shape))), metadata=hint(stage={"type": "Bias"}))
    return convolution(as_convolution(Dense(np.eye(shape[-1]), shape[:-1])), {"type": "Bias"})


def _with_bias(node: Any, bias: npt.NDArray[np.float64]) -> Any:
    if isinstance(node, nir.Linear):
        return nir.Affine(weight=node.weight, bias=bias.reshape(-1).copy(), metadata=node.metadata)
    node.bias = bias.reshape(-1, bias.shape[-1])[0].copy()
    return node


def graph_hint(metadata: Any) -> dict[str, Any]:
    """Return strop's entry in a node's metadata, or an empty dict."""
    return table_in(metadata.get(KEY)) if isinstance(metadata, dict) else {}
