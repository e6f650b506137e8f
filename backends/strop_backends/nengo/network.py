"""A graph as a `nengo.Network`.

What a step of Nengo does was read in nengo 4.1.0:

* Within a step, operators run in the order of their data: a signal is set, then incremented, then read, then
  updated
  (`builder/operator.py`, module docstring; `simulator.py`, `operator_dependency_graph`). A connection with
  `synapse=None` adds no "update", so what a neuron fires reaches its target in the *same* step.
* So the current of an ensemble is `bias + sum(gain * transform(spikes))` of this very step
  (`builder/ensemble.py`,
  `Copy` of the bias; `builder/connection.py`, `ElementwiseInc` of the gains, here 1.0), and the neurons look
  at it once.

A frame that is played at step n is therefore answered by *every* population at step n, whatever its depth:
the wave of a frame is rebased to one step, and the delays of skip connections, which only keep waves aligned,
vanish. The network has no recurrent connection, so nothing is left for the next step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt

from strop.encode import as_frames, encode
from strop.graph import Graph, Projection
from strop.reference import host_spikes
from strop_backends.nengo.neuron import MemorylessThreshold, Playback
from strop_backends.nengo.transforms import transform_of


class SpikingNetwork(nengo.Network):  # type: ignore[misc]  # Nengo ships no types
    """A `nengo.Network` of the populations of a graph, to probe, extend and run.

    >>> network = strop.build(graph, "nengo")
    >>> with network:
    ...     probe = nengo.Probe(network.populations["dense_1"].neurons)
    >>> network.present(frames)                        # plays the frames in, one per time step
    >>> with nengo.Simulator(network) as sim:
    ...     sim.run_steps(len(frames))
    >>> sim.data[probe]                                # shape (frames, units), 1.0 where a unit fired

    Every population answers frame n in step n. Connections are between neurons, without synapse. A population
    that the host evaluates (encoding "host") is an ensemble too: its spikes are played into it.

    Parameters
    ----------
    graph : Graph
    probes : bool or sequence of str
        Probe the spikes of every population, or of those named.

    Attributes
    ----------
    inputs : dict of name to nengo.Node
        What comes from outside: one for each input, and for each population that the host evaluates.
    populations : dict of name to nengo.Ensemble
        Labelled as in the graph.
    projections : dict of (source, target) to nengo.Connection
        Those that connect something.
    probed : dict of name to nengo.Probe
    """

    def __init__(self, graph: Graph, probes: Any = False) -> None:
        super().__init__(label=graph.name, seed=0)
        self.graph = graph
        self.inputs: dict[str, nengo.Node] = {}
        self.populations: dict[str, nengo.Ensemble] = {}
        self.projections: dict[tuple[str, str], nengo.Connection] = {}
        self.probed: dict[str, nengo.Probe] = {}
        self.playbacks: dict[str, Playback] = {}
        wanted = graph.population_names if probes is True else tuple(probes or ())
        with self:
            for node in graph.inputs:
                if any(p.source == node.name and p.target not in graph.host_populations for p in graph.projections):
                    self._add_input(node.name, node.name)
            for population in graph.populations:
                self._add_population(population.name)
            for projection in graph.projections:
                if projection.target not in graph.host_populations:
                    self._connect(projection)
            for name in wanted:
                graph.population(name)
                self.probed[name] = nengo.Probe(self.populations[name].neurons, label=name)

    def _add_input(self, name: str, label: str) -> None:
        self.playbacks[name] = Playback(math.prod(self.graph.signal_shape(name)))
        self.inputs[name] = nengo.Node(self.playbacks[name], label=label)

    def _add_population(self, name: str) -> None:
        graph, population = self.graph, self.graph.population(name)
        host = name in graph.host_populations
        threshold = np.array([0.5]) if host else population.threshold.reshape(-1)
        bias = np.zeros(population.size) if host else population.bias.reshape(-1)
        same = bool((threshold == threshold[0]).all())
        ensemble = nengo.Ensemble(
            population.size,
            dimensions=1,
            # Nothing comes in through encoders; set, so that Nengo need not draw any.
            encoders=np.ones((population.size, 1)),
            eval_points=np.zeros((1, 1)),
            normalize_encoders=False,
            gain=np.ones(population.size),
            bias=bias,
            neuron_type=MemorylessThreshold(threshold[0] if same else threshold),
            label=name,
        )
        self.populations[name] = ensemble
        if host:
            self._add_input(name, f"{name}.played")
            nengo.Connection(self.inputs[name], ensemble.neurons, synapse=None, label=f"{name}.played")

    def _connect(self, projection: Projection) -> None:
        name = f"{projection.source} -> {projection.target}"
        transform = transform_of(projection.operator, name)
        if transform is None:
            return
        source = self.populations.get(projection.source)
        connection = nengo.Connection(
            self.inputs[projection.source] if source is None else source.neurons,
            self.populations[projection.target].neurons,
            transform=transform,
            synapse=None,
            label=name,
        )
        self.projections[projection.source, projection.target] = connection

    # For the user's script ---------------------------------------------------------------------------------

    def present(self, frames: Any, start: int = 0) -> None:
        """Play frames in, one per time step, in place of those presented before.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int
            Step in which the first frame enters; a simulator begins with step 0. Every population answers
            frame n in step `start + n`.
        """
        self.play(encode(self.graph, as_frames(self.graph, frames)), start)

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int = 0) -> None:
        """Play encoded frames in (see `strop.encode.encode`), the first in step `start`."""
        played = {**signals, **host_spikes(self.graph, signals)}
        for name, playback in self.playbacks.items():
            playback.rows = played[name].reshape(len(played[name]), -1)
            playback.first = start
