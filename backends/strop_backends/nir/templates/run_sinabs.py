#!/usr/bin/env python
"""Template: `write_nir` in `../export.py` copies this file as it is into a folder for Sinabs, as `run.py`.

    pip install sinabs
    python run.py [--limit N] [--one-by-one]

Beside this script are
    torch_spikes.py, standalone.py  what such scripts share
    network.nir    the graph: every population is a LIF with tau = 1e-4 steps, or an IF where it is an image
    frames.npz     "input:input": the frames; "expected:NODE": the spikes of each population; "labels"

Sinabs lets a neuron fire several times in a step; `SingleSpike` lets it fire once, where `v >= threshold`. Every call
starts with cleared states: an IF keeps its charge. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch_spikes
from sinabs.activation import SingleSpike
from sinabs.layers import StatefulLayer
from sinabs.nir import from_nir


def load(graph: Any, count: int) -> Any:
    """Return Sinabs's network for batches of `count` frames, of one step each."""
    network = from_nir(graph, batch_size=count, num_timesteps=1)
    for layer in network.modules():
        if isinstance(layer, StatefulLayer):
            layer.spike_fn = SingleSpike
    return network


def reset(network: Any) -> None:
    """Clear the states of all layers."""
    for layer in network.modules():
        if isinstance(layer, StatefulLayer):
            layer.reset_states()


if __name__ == "__main__":
    sys.exit(torch_spikes.main(load, reset))
