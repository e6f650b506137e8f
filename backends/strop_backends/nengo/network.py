"""`SpikingNetwork`: a graph as a `nengo.Network`.

A step of Nengo, from the source of nengo 4.1.0:

* Within a step, operators run in the order of their data: a signal is set, then incremented, then read, then
  updated
  (`builder/operator.py`, module docstring; `simulator.py`, `operator_dependency_graph`). A connection with
  `synapse=None` adds no "update", so a spike arrives at its targets in the *same* step.
* So the current of an ensemble is `bias + sum(gain * transform(spikes))` of this very step
  (`builder/ensemble.py`,
  `Copy` of the bias; `builder/connection.py`, `ElementwiseInc` of the gains, here 1.0), and the neurons
  compare it with their thresholds once.

Therefore *every* population responds to a frame presented at step n in step n, whatever its depth: the spikes of a
frame take one step, and the delays of skip connections, which only keep frames aligned, vanish. The network has no
recurrent connection, so no state is left for the next step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, pairs_of, synapses_of
from strop.graph.capacity import require_memory
from strop.running.backend import Pair, checked_weights
from strop.running.encode import as_frames, encode
from strop.running.oracle import host_spikes
from strop_backends.nengo.neuron import MemorylessThreshold
from strop_backends.nengo.stimulus import FrameQueue, Stimulus
from strop_backends.nengo.synapses import Synapses, weights_in
from strop_backends.nengo.transforms import BYTES_PER_SYNAPSE, transform_of

# Every other parameter, with Nengo's own default: a parameter that is left out takes its value from the `config` of
# the networks that surround this one (nengo 4.1.0, `config.py`, `Config.default`).
NODE: Mapping[str, Any] = {"size_in": None, "size_out": None, "seed": None}
PROBE: Mapping[str, Any] = {
    "attr": "output",
    "sample_every": None,
    "synapse": None,
    "solver": nengo.params.ConnectionDefault,
    "seed": None,
}
ENSEMBLE: Mapping[str, Any] = {
    "radius": 1.0,
    "intercepts": nengo.dists.Uniform(-1.0, 0.9),
    "max_rates": nengo.dists.Uniform(200, 400),
    "eval_points": np.zeros((1, 1)),
    "n_eval_points": None,
    "noise": None,
    "normalize_encoders": False,
    "seed": None,
}
CONNECTION: Mapping[str, Any] = {
    "synapse": None,
    "function": None,
    "solver": nengo.solvers.LstsqL2(),
    "learning_rule_type": None,
    "eval_points": None,
    "scale_eval_points": True,
    "seed": None,
}


class SpikingNetwork(nengo.Network):  # type: ignore[misc]  # Nengo ships no types
    """A `nengo.Network` of the populations of a graph, to probe, extend and run.

    >>> network = strop.build(graph, "nengo")
    >>> with network:
    ...     probe = nengo.Probe(network.populations["dense_1"].neurons)
    >>> network.present(frames)                        # one frame per time step
    >>> with nengo.Simulator(network) as sim:
    ...     sim.run_steps(len(frames))
    >>> sim.data[probe]                                # shape (frames, neurons), 1.0 where a neuron fired

    Every population answers frame n in the step in which it enters. Connections are between neurons, without synapse.
    A population that the host evaluates (encoding "host") is an ensemble too, whose spikes are stimulus spikes.

    Every parameter of every object is set explicitly, whatever the `config` of a parent network.

    Parameters
    ----------
    graph : Graph
    probes : bool, str or sequence of str
        Probe the spikes of every population, or of those named.
    adjustable : bool
        Give every synapse a weight of its own, that can be read and changed while a simulator runs; otherwise
        convolutions stay convolutions.
    prefix : str
        Prefix of all labels.
    name : str, optional
        The network's own label; by default the graph's name.

    Attributes
    ----------
    inputs : dict of name to nengo.Node
        Stimulus nodes: one for each input, and for each population that the host evaluates.
    populations : dict of name to nengo.Ensemble
        Labelled as in the graph.
    projections : dict of (source, target) to nengo.Connection
        Those with synapses; the last one, where several connect the same pair.
    probed : dict of name to nengo.Probe
    """

    def __init__(
        self, graph: Graph, probes: Any = False, adjustable: bool = False, prefix: str = "", name: str | None = None
    ) -> None:
        super().__init__(label=prefix + graph.name if name is None else name, seed=0)
        self.graph, self.adjustable, self._prefix = graph, adjustable, prefix
        self.inputs: dict[str, nengo.Node] = {}
        self.populations: dict[str, nengo.Ensemble] = {}
        self.projections: dict[Pair, nengo.Connection] = {}
        self.probed: dict[str, nengo.Probe] = {}
        self.frames = FrameQueue()
        wanted = graph.population_names if probes is True else (probes,) if isinstance(probes, str) else probes or ()
        with self:
            for node in graph.inputs:
                if any(p.source == node.name and p.target not in graph.host_populations for p in graph.projections):
                    self._add_input(node.name, node.name)
            for population in graph.populations:
                self._add_population(population.name)
            for pair in pairs_of(graph):
                if pair[1] not in graph.host_populations:
                    self._connect(pair)
            for probed in wanted:
                graph.population(probed)
                self.probed[probed] = nengo.Probe(self.populations[probed].neurons, label=prefix + probed, **PROBE)

    def _add_input(self, name: str, label: str) -> None:
        stimulus = Stimulus(name, math.prod(self.graph.signal_shape(name)), self.frames)
        self.inputs[name] = nengo.Node(stimulus, label=self._prefix + label, **NODE)

    def _add_population(self, name: str) -> None:
        graph, population = self.graph, self.graph.population(name)
        host = name in graph.host_populations
        threshold = np.array([0.5]) if host else population.threshold.reshape(-1)
        bias = np.zeros(population.size) if host else population.bias.reshape(-1)
        same = bool((threshold == threshold[0]).all())
        ensemble = nengo.Ensemble(
            population.size,
            dimensions=1,
            # Encoders are not used; set, so that Nengo does not draw any.
            encoders=np.ones((population.size, 1)),
            gain=np.ones(population.size),
            bias=bias,
            neuron_type=MemorylessThreshold(threshold[0] if same else threshold),
            label=self._prefix + name,
            **ENSEMBLE,
        )
        self.populations[name] = ensemble
        if host:
            self._add_input(name, f"{name}.played")
            nengo.Connection(
                self.inputs[name],
                ensemble.neurons,
                transform=nengo.transforms.NoTransform(population.size),
                label=f"{self._prefix}{name}.played",
                **CONNECTION,
            )

    def _connect(self, pair: Pair) -> None:
        source, target = pair
        where = f"{source} -> {target}"
        sender = self.populations.get(source)
        for transform in self._transforms(pair, where):
            self.projections[pair] = nengo.Connection(
                self.inputs[source] if sender is None else sender.neurons,
                self.populations[target].neurons,
                transform=transform,
                label=self._prefix + where,
                **CONNECTION,
            )

    def _transforms(self, pair: Pair, where: str) -> list[Any]:
        members = pairs_of(self.graph)[pair]
        if not self.adjustable:
            found = [transform_of(p.operator, where) for p in members]
            return [transform for transform in found if transform is not None]
        count = sum(p.operator.synapse_count for p in members)
        require_memory(
            f"expanding {where} into {count:,} adjustable Nengo synapses",
            count * BYTES_PER_SYNAPSE,
            "Leave out adjustable=True, which keeps convolutions as they are",
        )
        pre, post, weight = synapses_of(self.graph, *pair)
        shape = (members[0].operator.size_out, members[0].operator.size_in)
        return [Synapses(shape, pre, post, weight)] if len(weight) else []

    # For the user's script ---------------------------------------------------------------------------------

    def present(self, frames: Any, start: int | None = None) -> None:
        """Present frames, one per time step.

        Every running simulator takes them, behind those still in its queue. A simulator that begins (because it is new
        or was reset) takes the frames presented last: all those presented since frames last entered any simulator.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Step in which the first frame enters; by default the next that is free. Every population answers frame n
            in step `start + n`.

        Raises
        ------
        BackendError
            If frames that were presented before enter then; and, when a simulator runs that is past `start`, from it.
        """
        self.play(encode(self.graph, as_frames(self.graph, frames)), start)

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None = None) -> None:
        """Present encoded frames (see `strop.running.encode.encode`), as `present` does."""
        stimulus = {**signals, **host_spikes(self.graph, signals)}
        self.frames.add({name: stimulus[name].reshape(len(stimulus[name]), -1) for name in self.inputs}, start)

    def clear(self) -> None:
        """Drop all frames that have not entered yet."""
        self.frames.clear()

    def weights(self, simulator: nengo.Simulator) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights that a simulator has now, by projection, in the order of `strop.graph.synapses_of`.

        They are dimensionless, in the graph's units. The network must be `adjustable`.
        """
        return {
            pair: weights_in(simulator, connection)[connection.transform.place]
            for pair, connection in self._adjustable().items()
        }

    def set_weights(self, simulator: nengo.Simulator, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights of one simulator in place, between two steps; `simulator.reset()` sets them back.

        Parameters
        ----------
        simulator : nengo.Simulator
        weights : mapping of (source, target) to array, shape (synapses,)
            As `weights` returns them; projections that are not named keep theirs.
        """
        connections = self._adjustable()
        present = {pair: connection.transform.place for pair, connection in connections.items()}
        for pair, values in checked_weights(weights, present, "nengo").items():
            weights_in(simulator, connections[pair])[present[pair]] = values

    def _adjustable(self) -> dict[Pair, nengo.Connection]:
        if not self.adjustable:
            raise BackendError(
                "nengo: the weights of this network are in Nengo's own transforms, which no simulator can change; "
                "build it with adjustable=True"
            )
        return self.projections
