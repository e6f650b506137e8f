"""Brian2, in runtime mode and as a C++ program: all populations in one `NeuronGroup`, a frame per time step.

Nothing of Brian2 is imported before a network is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from strop.graph import ENCODINGS, Graph
from strop.running.arithmetic import FLOAT64, Arithmetic
from strop.running.backend import Backend, Runner, require_main_thread

__all__ = ["Brian2Backend", "Brian2StandaloneBackend"]


class Brian2Backend(Backend):
    """Brian2 2.9 or newer in runtime mode (Cython where a compiler is found, else NumPy)."""

    name: ClassVar[str] = "brian2"
    summary: ClassVar[str] = "Brian2 in runtime mode, one NeuronGroup, a frame per time step"
    encodings: ClassVar[tuple[str, ...]] = ENCODINGS
    weight_options: ClassVar[Mapping[str, Any]] = {"convolutions": "expanded"}

    @property
    def arithmetic(self) -> Arithmetic:
        """float64: each neuron starts from its bias, and each spike adds a weight (`v_post += w`)."""
        source = "Brian2 2.9.0, codegen/runtime and devices/cpp_standalone: v = bias, v_post += w, v >= th in float64"
        return replace(FLOAT64, name=self.name, source=source)

    @classmethod
    def version(cls) -> str:
        """Version of Brian2; raises `ImportError` if it is not installed."""
        try:
            return f"brian2 {version('Brian2')}"
        except PackageNotFoundError as error:
            raise ImportError("Brian2 is not installed") from error

    def build(self, graph: Graph, **options: Any) -> Any:
        """Return a `brian2.Network`; see `strop_backends.brian2.network.SpikingNetwork`.

        Parameters
        ----------
        graph : Graph
        dt : float or Brian2 time, default 1e-3
            Length of a time step, as a number in seconds.
        target : {"auto", "cython", "numpy"}
            Code-generation target of Brian2.
        prefix : str, optional
            Prefix of all Brian2 names; by default none, and names that are taken get a number.
        name : str, optional
            The network's own name.
        convolutions : {"auto", "kernel", "expanded"}, default "auto"
            Keep convolutions as kernels, or expand them into single synapses; by default they are kept where the
            synapses would not fit into memory.
        """
        require_main_thread("brian2")
        from strop_backends.brian2.network import SpikingNetwork

        return SpikingNetwork(graph, **options)

    def load(self) -> None:
        import_module("strop_backends.brian2.run")

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build the network and return a runner; options as for `build`."""
        require_main_thread("brian2")
        from strop_backends.brian2.run import Brian2Runner

        return Brian2Runner(graph, **options)

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return other time steps, and the other code generator."""
        return {
            "steps of 0.1 ms": {"dt": 1e-4},
            "steps of 0.3 ms": {"dt": 0.3e-3},
            "steps of 7 s": {"dt": 7.0},
            "NumPy": {"target": "numpy"},
            "kernels": {"convolutions": "kernel"},
            "names of its own": {"prefix": "mine_", "name": "mine", "target": "numpy"},
        }

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Return states in which a script may leave Brian2; see `strop_backends.brian2.surroundings`."""
        from strop_backends.brian2.surroundings import SURROUNDINGS

        return SURROUNDINGS


class Brian2StandaloneBackend(Brian2Backend):
    """Brian2's C++ standalone mode: a program that is compiled once for all networks of a size."""

    name: ClassVar[str] = "brian2-standalone"
    summary: ClassVar[str] = "Brian2's C++ standalone mode: a program, compiled once for all networks of a size"
    # Not by default: compiling takes some ten seconds. Asked for by name it runs wherever there is a compiler.
    runs: ClassVar[bool] = False
    weight_options: ClassVar[Mapping[str, Any]] = {}

    def build(self, graph: Graph, **options: Any) -> Any:
        """Return the compiled program with the network's files; see `strop_backends.brian2.cpp_standalone`.

        Parameters
        ----------
        graph : Graph
        frames_at_once : int, optional
            How many frames one run of the program takes; by default as many as `strop.simulate` gives it.

        Raises
        ------
        BackendError
            If there is no C++ compiler or no `make`, or for an option that is not known.
        """
        self.refuse_options(
            {name: value for name, value in options.items() if name != "frames_at_once"}, ["frames_at_once"]
        )
        require_main_thread("brian2")
        from strop_backends.brian2.cpp_standalone import StandaloneRunner

        return StandaloneRunner(graph, **options)

    def load(self) -> None:
        import_module("strop_backends.brian2.cpp_standalone")

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Return the program as a runner; options as for `build`."""
        runner: Runner = self.build(graph, **options)
        return runner

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return another number of frames at once; the program's time step is its own."""
        return {"7 frames at once": {"frames_at_once": 7}}

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Return one state of Brian2 with all preferences changed at once, because compiling takes long."""
        from strop_backends.brian2.surroundings import before_compiling

        return {"all preferences changed, another device": before_compiling}
