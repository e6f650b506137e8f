"""The standalone folder for Nengo: a script that builds, runs and checks the network without strop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.export.script import refuse_options, write_folder
from strop.graph import Graph
from strop.running.encode import FrameDict

_TEMPLATE = Path(__file__).parent / "templates" / "run.py"

_README = """\
# {name}, for Nengo

A network of {neurons:,} threshold neurons and {synapses:,} synapses, written by strop. It needs neither strop
nor Keras:

    pip install "nengo>=4.0" scipy
    python run.py

{account}"""


def write_nengo(
    graph: Graph, out: Path, frames: FrameDict | None, labels: npt.NDArray[np.int64] | None, **options: Any
) -> None:
    """Fill the folder `out` for the target `nengo`; see `strop.export.folders.export`."""
    refuse_options("nengo", options)
    write_folder(graph, out, frames, labels, "nengo", _TEMPLATE, _README)
