"""The standalone folder for Brian2: a script that builds, runs and checks the network without strop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.export.arrays import describe, write_portable
from strop.export.script import write_script
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
    if options:
        raise BackendError(f"the target 'brian2' does not know the option(s) {', '.join(sorted(options))}")
    network = write_portable(graph, out, frames, labels, "brian2", ENCODINGS)
    write_script(out, _TEMPLATE)
    (out / "README.md").write_text(_README.format(**describe(network, frames)), encoding="utf-8")
