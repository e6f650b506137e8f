#!/usr/bin/env python
"""Template: `write_nir` in `../export.py` copies this file as it is into a folder for Norse, as `run.py`.

    pip install norse nirtorch nir
    python run.py [--limit N] [--one-by-one]

Beside this script are
    torch_spikes.py, standalone.py  what such scripts share
    network.nir    the graph: every population is a LIF whose tau is the step, which becomes a LIFBoxCell
    frames.npz     "input:input": the frames; "expected:NODE": the spikes of each population; "labels"

Every call starts with a new state: from v = 0 a step gives v = input exactly, from another v it is rounded. It ends
with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import nir
import norse.torch
import torch_spikes


def load(graph: Any, count: int) -> Any:
    """Return Norse's network, with the step that the file was written for."""
    neurons = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    return norse.torch.from_nir(graph, dt=float(neurons.tau.reshape(-1)[0]))


def reset(network: Any) -> None:
    """Do nothing: no state is handed over from call to call."""


if __name__ == "__main__":
    sys.exit(torch_spikes.main(load, reset))
