#!/usr/bin/env python
"""Template: `write_nir` in `../export.py` copies this file as it is into a folder for snnTorch, as `run.py`.

    pip install snntorch nirtorch nir
    python run.py [--limit N] [--one-by-one]

Beside this script are
    torch_spikes.py, standalone.py  what such scripts share
    network.nir    the graph: every population is a LIF with tau = 1e-4, which is snnTorch's step, so Leaky(beta=0)
    frames.npz     "input:input": the frames; "expected:NODE": the spikes of each population; "labels"

No state has to be cleared: with beta = 0 nothing of a frame is left. It ends with 0 if every spike is as expected, with
1 if one is not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch_spikes
from snntorch.import_nir import import_from_nir


def load(graph: Any, count: int) -> Any:
    """Return snnTorch's network."""
    return import_from_nir(graph)


def reset(network: Any) -> None:
    """Leave the states as they are."""


if __name__ == "__main__":
    sys.exit(torch_spikes.main(load, reset))
