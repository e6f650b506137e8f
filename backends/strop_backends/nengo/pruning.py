"""A built Nengo model without the operators that do nothing for these networks, for `NengoRunner`.

What nengo 4.1.0 builds beside what a memoryless neuron needs:

* For each ensemble (`builder/ensemble.py`) the product of its encoders with a decoded input, which is always 0 here:
  every connection ends at neurons.
* For each connection to neurons (`builder/connection.py`) a signal `weighted`, which is set to 0, incremented by the
  transform, multiplied by the neurons' gains and added to their input. The gains are 1 here: the transform may add to
  the input itself. The sum has the same terms, and `0 + a` and `1 * a` round nothing.
* Neurons whose threshold is between no spike and one, and that get nothing but the spikes of a stimulus
  (`SpikingNetwork`, populations that the host evaluates): the stimulus may set their output itself.
"""

from __future__ import annotations

import nengo
import numpy as np
from nengo.builder import Model
from nengo.builder.operator import ElementwiseInc, Operator, Reset
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from strop_backends.nengo.network import SpikingNetwork


def prune(model: Model, network: SpikingNetwork) -> int:
    """Remove such operators from a model, before a simulator is made of it; return how many there were.

    Parameters
    ----------
    model : nengo.builder.Model
        Built of `network` and nothing else.
    network : SpikingNetwork
    """
    before = len(model.operators)
    _without(model, _encodings(model, network))
    _without(model, _repeats(model, network))
    _without(model, _detours(model, network))
    return before - len(model.operators)


def _without(model: Model, idle: list[Operator]) -> None:
    gone = {id(operator) for operator in idle}
    model.operators[:] = [operator for operator in model.operators if id(operator) not in gone]


def _encodings(model: Model, network: SpikingNetwork) -> list[Operator]:
    """Return what encodes a decoded input, for ensembles that get none."""
    encoded = {id(connection.post_obj) for connection in network.all_connections}
    found: list[Operator] = []
    for ensemble in network.all_ensembles:
        signal = model.sig[ensemble]["in"]
        touching = _touching(model, signal)
        if id(ensemble) not in encoded and sorted(type(op).__name__ for op in touching) == ["DotInc", "Reset"]:
            found += touching
    return found


def _repeats(model: Model, network: SpikingNetwork) -> list[Operator]:
    """Let stimuli set the output of the neurons that repeat them, and return what was in between."""
    found: list[Operator] = []
    for name in network.graph.host_populations & network.inputs.keys():
        node, ensemble = network.inputs[name], network.populations[name]
        played, current, output = (
            model.sig[node]["out"],
            model.sig[ensemble.neurons]["in"],
            model.sig[ensemble.neurons]["out"],
        )
        processes = [op for op in model.operators if isinstance(op, SimProcess) and op.sets == [played]]
        between = _touching(model, current)
        kinds = sorted(type(op).__name__ for op in between)
        if len(processes) == 1 and kinds == ["Copy", "ElementwiseInc", "SimNeurons"] and not np.any(ensemble.bias):
            processes[0].sets[0] = output
            found += between
    return found


def _detours(model: Model, network: SpikingNetwork) -> list[Operator]:
    """Let transforms add to the input of neurons with gains of 1, and return what was in between."""
    found: list[Operator] = []
    for connection in network.all_connections:
        if connection.transform.__class__ is nengo.transforms.NoTransform:
            continue
        weighted = model.sig[connection]["weighted"]
        touching = _touching(model, weighted)
        resets = [op for op in touching if isinstance(op, Reset)]
        gains = [op for op in touching if isinstance(op, ElementwiseInc) and weighted in op.reads]
        adding = [op for op in touching if op.incs == [weighted]]
        if not len(resets) == len(gains) == len(adding) == 1 or len(touching) != 3:
            continue
        (gain,) = gains
        factor = next(signal for signal in gain.reads if signal is not weighted)
        if (factor.initial_value == 1.0).all() and gain.incs[0].shape == weighted.shape:
            adding[0].incs[0] = gain.incs[0]
            found += [*resets, gain]
    return found


def _touching(model: Model, signal: Signal) -> list[Operator]:
    """Return all operators that set, increment, read or update a signal."""
    return [op for op in model.operators if any(other is signal for other in op.all_signals)]
