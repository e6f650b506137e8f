"""The standalone folder for Brian2: a script that builds, runs and checks the network without strop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.export.script import refuse_options, write_folder
from strop.graph import ENCODINGS, Graph
from strop.running.encode import FrameDict

_TEMPLATE = Path(__file__).parent / "templates" / "run.py"

_README = """\
# {name}, for Brian2

A network of {neurons:,} threshold neurons and {synapses:,} synapses, written by strop. It needs neither strop
nor Keras:

    pip install "brian2>=2.9"
    python run.py

On Python 3.11 the newest Brian2 is 2.9, which needs `"numpy<2.4"` beside it.

{account}"""


def write_brian2(
    graph: Graph, out: Path, frames: FrameDict | None, labels: npt.NDArray[np.int64] | None, **options: Any
) -> None:
    """Fill the folder `out` for the target `brian2`; see `strop.export.folders.export`."""
    refuse_options("brian2", options)
    write_folder(graph, out, frames, labels, "brian2", _TEMPLATE, _README, ENCODINGS)
