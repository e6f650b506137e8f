"""The IR between Keras and the simulators: frozen nodes, linear operators, and the graph that holds them.

The flow is Keras -> `strop.lowering` -> `Graph` -> a backend. Nothing here knows of Keras or of a simulator.
"""

from strop.graph.compose import compose
from strop.graph.convolution import Convolution, SumPool
from strop.graph.degrees import counts_are_exact, fan_in, fan_out, structure
from strop.graph.equality import difference, graphs_equal
from strop.graph.network import Graph
from strop.graph.nodes import (
    ELEMENTWISE_KINDS,
    ENCODINGS,
    READOUT_KINDS,
    WHOLE_TYPES,
    Input,
    Population,
    Projection,
    Readout,
)
from strop.graph.operator import Operator
from strop.graph.operators import Composed, Dense, Scale, Select, Sparse, stages_of
from strop.graph.weights import pairs_of, synapses_of, weights_of, with_weights
from strop.graph.window import Window

__all__ = [
    "ELEMENTWISE_KINDS",
    "ENCODINGS",
    "READOUT_KINDS",
    "WHOLE_TYPES",
    "Composed",
    "Convolution",
    "Dense",
    "Graph",
    "Input",
    "Operator",
    "Population",
    "Projection",
    "Readout",
    "Scale",
    "Select",
    "Sparse",
    "SumPool",
    "Window",
    "compose",
    "counts_are_exact",
    "difference",
    "fan_in",
    "fan_out",
    "graphs_equal",
    "pairs_of",
    "stages_of",
    "structure",
    "synapses_of",
    "weights_of",
    "with_weights",
]
