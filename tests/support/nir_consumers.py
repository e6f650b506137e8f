"""Tools that read NIR, as functions for the golden NIR cases: `--nir-reader nir_consumers:snntorch`.

Each loads a file with the tool's own reader, runs the frames as the profile of that tool says, and returns the spikes
of every layer of neurons. A tool is imported where it is used. `swapped` and `charged` are wrong on purpose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import nir
import numpy as np

Spikes = dict[str, Any]


def neurons(graph: Any) -> list[str]:
    """Return the names of all nodes that fire."""
    return [name for name, node in graph.nodes.items() if isinstance(node, (nir.Threshold, nir.IF, nir.LIF))]


def _torch(graph: Any, network: Any, frames: Spikes) -> Spikes:
    """Run a network of PyTorch modules, called as the nodes are, on all frames as one batch."""
    import torch

    found: Spikes = {}
    hooks = []
    for name in neurons(graph):

        def keep(module: Any, inputs: Any, answer: Any, name: str = name) -> None:
            found[name] = (answer[0] if isinstance(answer, tuple) else answer).detach().numpy()

        hooks.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        network(*(torch.from_numpy(values) for values in frames.values()))
    for hook in hooks:
        hook.remove()
    return found


def snntorch(path: str, frames: Spikes) -> Spikes:
    """snnTorch."""
    from snntorch.import_nir import import_from_nir

    graph = nir.read(path)
    return _torch(graph, import_from_nir(nir.read(path)), frames)


def norse(path: str, frames: Spikes, dt: float) -> Spikes:
    """Norse."""
    import norse.torch

    graph = nir.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _torch(graph, norse.torch.from_nir(graph, dt=dt), frames)


def sinabs(path: str, frames: Spikes) -> Spikes:
    """Sinabs, with `SingleSpike`."""
    from sinabs.activation import SingleSpike
    from sinabs.layers import StatefulLayer
    from sinabs.nir import from_nir

    graph = nir.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = from_nir(graph, batch_size=len(next(iter(frames.values()))), num_timesteps=1)
    for layer in network.modules():
        if isinstance(layer, StatefulLayer):
            layer.spike_fn = SingleSpike
    return _torch(graph, network, frames)


def nirtorch(path: str, frames: Spikes) -> Spikes:
    """nirtorch, given a threshold and an affine map by hand: its own map loses the bias."""
    import torch
    from nirtorch import nir_to_torch

    class Fires(torch.nn.Module):
        def __init__(self, level: Any) -> None:
            super().__init__()
            self.register_buffer("level", torch.from_numpy(np.asarray(level)))

        def forward(self, x: Any) -> Any:
            return (x > self.level).to(x.dtype)

    def affine(node: Any) -> Any:
        module = torch.nn.Linear(*node.weight.shape[::-1])
        module.weight.data, module.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return module

    graph = nir.read(path)
    if sum(isinstance(node, nir.Output) for node in graph.nodes.values()) > 1:
        raise NotImplementedError("nirtorch 2.6 never ends with two Outputs: each waits for the other to be the last")
    maps = {nir.Threshold: lambda node: Fires(node.threshold), nir.Affine: affine}
    network = nir_to_torch(nir.read(path), maps)
    # Frame by frame, without a batch axis: its Flatten counts axes from the front, as NIR does.
    count = len(next(iter(frames.values())))
    parts = [_torch(graph, network, {name: values[n] for name, values in frames.items()}) for n in range(count)]
    return {name: np.stack([part[name] for part in parts]) for name in neurons(graph)}


def rockpool(path: str, frames: Spikes) -> Spikes:
    """Rockpool."""
    from rockpool.nn.modules.torch.nir import from_nir

    graph = nir.read(path)
    return _torch(graph, from_nir(graph), frames)


def spyx(path: str, frames: Spikes, dt: float) -> Spikes:
    """Spyx, a frame every second step: its LIF fires a step late, and takes the threshold away in that step."""
    from spyx.nir import from_nir

    graph = nir.read(path)
    values = next(iter(frames.values()))
    depth = len(neurons(graph))
    steps = np.zeros((2 * len(values) + depth, 1, *values.shape[1:]), np.float32)
    steps[: 2 * len(values) : 2, 0] = values
    _, (_, states) = from_nir(graph, steps, dt, return_all_states=True)
    order, name = [], "input"
    while name != "output":
        name = next(b for a, b in graph.edges if a == name)
        order += [name] if name in neurons(graph) else []
    held = [np.asarray(state)[:, 0] for state in states if hasattr(state, "shape") and np.asarray(state).size]
    found = {}
    for late, (name, potential) in enumerate(zip(order, held, strict=True)):
        at = 2 * np.arange(len(values)) + late
        found[name] = potential[at] > np.asarray(graph.nodes[name].v_threshold)
    return found


def _equations(path: str, frames: Spikes, fires: Callable[[Any, Any], Any]) -> Spikes:
    """Evaluate NIR's equations ; `fires(x, level)` is the comparator."""
    graph = nir.read(path)
    values: Spikes = dict(frames)
    waiting = [name for name in graph.nodes if name not in values]
    while waiting:
        name = next(n for n in waiting if all(a in values for a, b in graph.edges if b == n))
        waiting.remove(name)
        node, x = graph.nodes[name], sum(values[a] for a, b in graph.edges if b == name)
        if name in neurons(graph):
            level = node.threshold if isinstance(node, nir.Threshold) else node.v_threshold
            values[name] = fires(x, level).astype(np.float32)
        else:
            values[name] = SHOWN.answer(node, x, 1.0)
    return {name: values[name] for name in neurons(graph)}


def _shown() -> Any:
    """Return the evaluator of NIR's equations that strop puts into folders."""
    import importlib.util
    import sys
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "bridge" / "strop" / "export" / "templates"))
    try:
        where = root / "backends" / "strop_backends" / "nir" / "templates" / "run.py"
        spec = importlib.util.spec_from_file_location("nir_shown", where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before = list(sys.path)
        spec.loader.exec_module(module)
        sys.path[:] = before
        return module
    finally:
        sys.path.pop(0)


SHOWN = _shown()


def equations(path: str, frames: Spikes) -> Spikes:
    """NIR's equations, one by one: a neuron fires where `v > v_thr`."""
    return _equations(path, frames, lambda x, level: x > level)


def at_least(path: str, frames: Spikes) -> Spikes:
    """NIR's equations, for files of the profile `sinabs`: a neuron fires where `v >= v_thr`."""
    return _equations(path, frames, lambda x, level: x >= level)


def swapped(path: str, frames: Spikes) -> Spikes:
    """Wrong: a neuron fires at its threshold too."""
    return _equations(path, frames, lambda x, level: x >= level)


def charged(path: str, frames: Spikes) -> Spikes:
    """Wrong: a neuron that does not fire keeps its potential."""

    def fires(x: Any, level: Any) -> Any:
        spikes, held = np.zeros(x.shape, bool), np.zeros(x.shape[1:])
        for step, given in enumerate(x):
            held = held + given
            spikes[step] = held > level
            held = np.where(spikes[step], 0.0, held)
        return spikes

    return _equations(path, frames, fires)
