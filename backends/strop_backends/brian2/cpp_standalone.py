"""`StandaloneRunner`: Brian2's C++ standalone mode, a program compiled once for all networks of a size.

The step is that of `network.py`: the stimulus is added, the threshold is evaluated in `thresholds`, the potential is
then reset to the bias, and synapses add to it. The stimulus (pulses of height one, or input currents) is three files:
how many values enter by the end of each step, the neurons that they enter, and the values.

Read in brian2 2.9.0, `devices/cpp_standalone`:

* `set_device` keeps the device before it on a stack and `reset_device` goes back to it (`devices/device.py`). A device
  of our own, not the one that is registered as `cpp_standalone`, does not disturb a project that the user is building.
* `build(run=False)` writes and compiles a project and does not run it. `main` reads every array that was set from
  Python from `static_arrays/NAME` in the folder in which it is started (`templates/objects.cpp`, `_load_arrays`), and
  writes what the monitors hold to the folder after `--results_dir` (`_write_arrays`). So weights, thresholds and
  frames are files, and a file that is replaced needs no compilation; the program runs by itself, without Brian2,
  and any number of them side by side.
* The lengths of arrays and the number of steps are compiled in. So neurons and synapses are padded to powers of two, by
  neurons that never fire and synapses that start at one of those. Networks of one size class share a program, and a
  short chunk is padded with silence.
* A synapse costs its entry in the queue, and two indices that are read through it (`templates/synapses.cpp`). A
  template of our own (`code/segments.cpp`) makes a synapse of Brian2's a run of them, whose targets follow each other.
* Brian2 compiles with `-ffast-math`, which may flush the smallest numbers to zero and reorder sums: not here. No
  preference of the user's changes the program: see `preferences.EXACT_PROGRAM`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import brian2
import numpy as np
import numpy.typing as npt
from brian2.devices.cpp_standalone.codeobject import CPPStandaloneCodeObject
from brian2.devices.cpp_standalone.device import CPPStandaloneDevice
from brian2.groups.group import CodeRunner

from strop.errors import BackendError
from strop.graph import Graph, Projection, synapses_of
from strop.graph.capacity import require_memory
from strop.running.backend import Pair, Runner, checked_weights
from strop.running.oracle import host_spikes
from strop.running.simulate import chunk_size
from strop.running.stimulus import current_driven_populations, input_currents, stimulus_nodes
from strop_backends.brian2.drive import IntArray
from strop_backends.brian2.parts import layout
from strop_backends.brian2.preferences import EXACT_PROGRAM, preferring

# Bytes per synapse at the peak (tests/equivalence/test_memory.py).
_BYTES_PER_SYNAPSE = 125
_ADVICE = "Simulate it on the 'brian2' backend with convolutions='kernel', or on 'reference'"
# The smallest size class: silence costs a fraction of a second, another program some ten seconds.
_LEAST_NEURONS, _LEAST_RUNS, _LEAST_STEPS = 1024, 8192, 64
# The program knows its arrays by these parts of their names (`CPPStandaloneDevice.static_array`).
_ARRAYS = {
    "th": "strop_units_th",
    "bias": "strop_units_bias",
    "v": "strop_units_v",
    "start": "strop_synapses_start",
    "length": "strop_synapses_length",
    "delay": "_delay",  # behind "strop_synapses"; since 2.11 with the pathway's name between them
    "pre": "sources",
    "post": "targets",
}
# Those that our templates read, of any length.
_FILES: Mapping[str, type] = {"w": np.float64, "ends": np.int64, "places": np.int32, "values": np.float64}


class _Code(CPPStandaloneCodeObject):  # type: ignore[misc]  # Brian2 ships no types
    """Brian2's C++ code, with the templates of the folder `code`."""

    templater: ClassVar[Any] = CPPStandaloneCodeObject.templater.derive("strop_backends.brian2", templates_dir="code")


@dataclass(frozen=True)
class _Size:
    """Sizes that are compiled into a program: neurons, runs of synapses, and steps."""

    neurons: int
    runs: int
    steps: int


@dataclass(frozen=True)
class _Program:
    """A compiled program: its path, the files that it reads (name and dtype) and those that it writes."""

    main: Path
    inputs: Mapping[str, tuple[str, np.dtype[Any]]]
    outputs: Mapping[str, str]


@contextmanager
def _device(device: Any) -> Iterator[None]:
    """Make `device` Brian2's current one within a `with` block, with exact compiler settings."""
    brian2.set_device(device, build_on_run=False)
    try:
        with preferring(EXACT_PROGRAM):
            yield
    finally:
        brian2.devices.reset_device()


@cache
def _folder() -> Path:
    """Return the folder of this process's programs, removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="strop-brian2-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder).resolve()


@cache
def _compiled(size: _Size) -> _Program:
    """Write and compile the program for networks of this size; takes some ten seconds."""
    folder = _folder() / f"neurons{size.neurons}-runs{size.runs}-steps{size.steps}"
    device = CPPStandaloneDevice()
    with _device(device):
        clock = brian2.Clock(dt=1 * brian2.ms, name="strop_clock")
        neurons = brian2.NeuronGroup(
            size.neurons,
            "v : 1\nth : 1 (constant)\nbias : 1 (constant)",
            threshold="v >= th",
            reset="",
            clock=clock,
            name="strop_units",
        )
        neurons.resetter["spike"].active = False
        neurons.thresholder["spike"].codeobj_class = _Code
        neurons.th, neurons.bias, neurons.v = np.zeros((3, size.neurons))
        stimulus = CodeRunner(
            neurons, "stimulus", clock=clock, when="before_thresholds", name="strop_deliver", codeobj_class=_Code
        )
        neurons.contained_objects.append(stimulus)
        neurons.run_regularly("v = bias", when="after_thresholds", name="strop_forget")
        synapses = brian2.Synapses(
            neurons,
            neurons,
            "start : integer (constant)\nlength : integer (constant)",
            on_pre="v_post += length",  # what our template does instead is in `code/segments.cpp`
            clock=clock,
            name="strop_synapses",
        )
        synapses.pre.template, synapses.pre.codeobj_class = "segments", _Code
        none = np.zeros(size.runs, dtype=np.int32)
        synapses.connect(i=none, j=none)
        synapses.start, synapses.length, synapses.delay = none, none, np.zeros(size.runs) * brian2.second
        monitor = brian2.SpikeMonitor(neurons, name="strop_monitor")
        network = brian2.Network(neurons, synapses, monitor)
        network.run(size.steps * brian2.ms, namespace={})
        try:
            device.build(directory=str(folder), compile=True, run=False, with_output=False)
        except Exception as error:
            raise BackendError(f"brian2-standalone: the C++ program was not compiled: {error}") from error
        outputs = {what: device.get_array_filename(monitor.variables[what]) for what in ("i", "t")}
        inputs = {}
        for what, part in _ARRAYS.items():
            (name,) = (name for name in device.static_arrays if part in name)
            inputs[what] = (name, device.static_arrays[name].dtype)
        inputs |= {what: (f"strop_{what}", np.dtype(dtype)) for what, dtype in _FILES.items()}
    return _Program(folder / "main", inputs, outputs)


def _class(number: int, smallest: int) -> int:
    return max(smallest, 1 << (number - 1).bit_length())


class StandaloneRunner(Runner):
    """A compiled program that streams chunk after chunk, its input file replaced before each.

    Parameters
    ----------
    graph, frames_at_once
        As for `Brian2StandaloneBackend.build`.

    Raises
    ------
    BackendError
        If there is no C++ compiler or no `make`, or the program cannot be compiled.
    CapacityError
        If the synapses would not fit into memory.
    """

    def __init__(self, graph: Graph, frames_at_once: int | None = None) -> None:
        require_compiler()
        wanted = chunk_size(graph) if frames_at_once is None else frames_at_once
        if not isinstance(wanted, int) or wanted < 1:
            raise BackendError(f"brian2-standalone: frames_at_once must be a positive integer, got {frames_at_once!r}")
        self.graph = graph
        self.spans = layout(graph)
        driven = current_driven_populations(graph)
        self._stimulated = [name for name, span in self.spans.items() if span.stimulus or name in driven]
        carried = [p for p in graph.projections if p.source in self.spans and not self.spans[p.target].stimulus]
        count = sum(p.operator.synapse_count for p in carried)
        require_memory(f"expanding {graph.name!r} into {count:,} Brian2 synapses", count * _BYTES_PER_SYNAPSE, _ADVICE)
        runs = self._lay_out(carried)
        # One more: the neuron that never fires.
        self.size = _Size(
            _class(1 + max(span.stop for span in self.spans.values()), _LEAST_NEURONS),
            _class(len(runs["start"]), _LEAST_RUNS),
            _class(wanted + graph.total_depth, _LEAST_STEPS),
        )
        self.count = self.size.steps - graph.total_depth
        # A spike of every neuron in every step at worst, and the raster made of them.
        require_memory(
            f"a C++ program for {self.size.neurons:,} neurons and {self.size.steps:,} steps",
            13 * self.size.steps * self.size.neurons,
            f"{_ADVICE}, or give frames_at_once",
        )
        self.program = _compiled(self.size)
        self.folder = Path(tempfile.mkdtemp(prefix="network-", dir=_folder()))
        (self.folder / "static_arrays").mkdir()
        self._write_neurons()
        self._write_synapses(runs)

    def _write(self, what: str, values: npt.NDArray[Any]) -> None:
        name, dtype = self.program.inputs[what]
        values.astype(dtype).tofile(self.folder / "static_arrays" / name)

    def _read(self, what: str) -> npt.NDArray[np.float64]:
        name, dtype = self.program.inputs[what]
        return np.fromfile(self.folder / "static_arrays" / name, dtype).astype(np.float64)

    def _write_neurons(self) -> None:
        size = self.size
        # Padding neurons never fire.
        th, bias = np.full(size.neurons, np.finfo(np.float64).max), np.zeros(size.neurons)
        for name, span in self.spans.items():
            part = slice(span.start, span.stop)
            if span.stimulus:
                th[part] = 0.5
            else:
                population = self.graph.population(name)
                th[part], bias[part] = population.threshold.reshape(-1), population.bias.reshape(-1)
        for what, values in (("th", th), ("bias", bias), ("v", bias)):
            self._write(what, values)

    def _lay_out(self, carried: list[Projection]) -> dict[str, npt.NDArray[Any]]:
        """Return the synapses as runs: same source, same delay, one target behind the other."""
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
        pairs = list(dict.fromkeys((p.source, p.target) for p in carried))
        for source, target in pairs:
            pre, post, weight = synapses_of(self.graph, source, target)
            # Input delivered in a step decides in the next one: that is one step of the delay.
            delay = np.full(len(pre), (self.graph.depth(target) - self.graph.depth(source) - 1) * 1e-3)
            parts.append((pre + self.spans[source].start, post + self.spans[target].start, weight, delay))
        pre, post, weight, delay = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((post, pre))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        ends = np.cumsum([len(part[0]) for part in parts])
        self._places: dict[Pair, IntArray] = {
            pair: place[a:b] for pair, a, b in zip(pairs, ends, ends[1:], strict=False) if b > a
        }
        pre, post, delay = pre[order], post[order], delay[order]
        cut = (np.diff(pre) != 0) | (np.diff(post) != 1) | (np.diff(delay) != 0)
        start = np.flatnonzero(np.concatenate([[True], cut])[: len(pre)])
        return {
            "start": start,
            "length": np.diff(np.concatenate([start, [len(pre)]])),
            "pre": pre[start],
            "post": post[start],
            "delay": delay[start],
            "w": weight[order],
        }

    def _write_synapses(self, runs: Mapping[str, npt.NDArray[Any]]) -> None:
        self._write("w", runs["w"])
        last = self.size.neurons - 1
        for what, rest in (("start", 0), ("length", 0), ("pre", last), ("post", last), ("delay", 0)):
            filled = np.full(self.size.runs, rest, dtype=runs[what].dtype)
            filled[: len(runs[what])] = runs[what]
            self._write(what, filled)

    # Running -----------------------------------------------------------------------------------------------------

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`. Longer chunks are run in parts."""
        count = len(next(iter(signals.values())))
        starts = range(0, count, self.count)
        parts = [
            self._run({n: values[start : start + self.count] for n, values in signals.items()}) for start in starts
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.graph.population_names}

    def _run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        count = len(next(iter(signals.values())))
        self._write_input(signals, count)
        with tempfile.TemporaryDirectory(prefix="strop-brian2-") as results:
            done = subprocess.run(
                [str(self.program.main), "--results_dir", f"{results}/"],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                reason = done.stderr.strip() or "it printed nothing"
                raise BackendError(f"brian2-standalone: the program ended with {done.returncode}: {reason}")
            neuron = np.fromfile(Path(results) / self.program.outputs["i"], dtype=np.int32)
            time = np.fromfile(Path(results) / self.program.outputs["t"], dtype=np.float64)
        raster = np.zeros((self.size.steps, self.size.neurons), dtype=np.bool_)
        raster[np.rint(time * 1e3).astype(np.int64), neuron] = True
        answers = {}
        for name in self.graph.population_names:
            span, first = self.spans[name], self.graph.depth(name)
            part = raster[first : first + count, span.start : span.stop]
            answers[name] = part.reshape(count, *self.graph.population(name).shape)
        return answers

    def _write_input(self, signals: Mapping[str, npt.NDArray[Any]], count: int) -> None:
        """Write the stimulus: the values of each step, and the neurons that they enter."""
        stimulus = {**signals, **host_spikes(self.graph, signals)}
        entering = {name: stimulus[name].reshape(count, -1) for name in stimulus_nodes(self.graph)}
        entering |= input_currents(self.graph, signals)
        steps, places, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
        for name in self._stimulated:
            frame, neuron = np.nonzero(entering[name])
            steps.append(frame + self.graph.depth(name))
            places.append(neuron + self.spans[name].start)
            values.append(entering[name][frame, neuron].astype(np.float64))
        step = np.concatenate(steps)
        order = np.argsort(step, kind="stable")
        counts = np.bincount(step, minlength=self.size.steps)
        self._write("ends", np.concatenate([[0], np.cumsum(counts)]))
        self._write("places", np.concatenate(places)[order])
        self._write("values", np.concatenate(values)[order])

    def reset(self) -> None:
        """Do nothing: every chunk is a run of the program from its beginning."""

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights in the program's file; see `strop.running.backend.Runner`."""
        weights = self._read("w")
        return {pair: weights[place] for pair, place in self._places.items()}

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Write other weights to the program's file; nothing is compiled. See `strop.running.backend.Runner`."""
        kept = self._read("w")
        for pair, values in checked_weights(weights, self._places, "brian2-standalone").items():
            kept[self._places[pair]] = values
        self._write("w", kept)

    def close(self) -> None:
        """Remove this network's files; the program stays for others of its size, until Python ends."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_compiler() -> None:
    """Raise `BackendError` if there is no C++ compiler, or no `make`."""
    compiler = os.environ.get("CXX", "g++").split()[0]
    for tool in ("make", compiler):
        if shutil.which(tool) is None:
            raise BackendError(
                f"brian2-standalone needs a C++ compiler and make, and there is no {tool!r} on the PATH; install them "
                "(on Debian: build-essential), or use the backend 'brian2', which also runs on NumPy"
            )
