"""Nengo: an ensemble per population, connections between neurons without synapse, a frame per time step.

Nothing of Nengo is imported before a network is built.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from strop.graph import ENCODINGS, Graph
from strop.running.arithmetic import FLOAT64, Arithmetic
from strop.running.backend import Backend, Runner

__all__ = ["NengoBackend", "load_nengo"]


def load_nengo() -> Any:
    """Import Nengo and return it, without the warning that its import gives.

    nengo 4.1.0 takes `numpy.core.umath.clip` (`utils/numpy.py`), a name that NumPy 2 deprecates: where
    warnings are errors, as in many test suites, Nengo could not be imported at all.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"numpy\.core is deprecated", DeprecationWarning)
        return import_module("nengo")


class NengoBackend(Backend):
    """Nengo 4 or newer, reference simulator, float64."""

    name: ClassVar[str] = "nengo"
    summary: ClassVar[str] = "Nengo's reference simulator, an ensemble per population, a frame per time step"
    encodings: ClassVar[tuple[str, ...]] = ENCODINGS
    weight_options: ClassVar[Mapping[str, Any]] = {"adjustable": True}

    @property
    def arithmetic(self) -> Arithmetic:
        """float64: each step copies the bias, adds `W x` for every connection, and compares.

        `W x` is the sum of the weights of neurons that fired, in any order (`strop_backends.nengo.event_driven`).
        """
        source = "nengo 4.1.0, builder/ensemble.py (Copy of the bias, gain 1); strop_backends.nengo.event_driven"
        return replace(FLOAT64, name=self.name, source=source)

    @classmethod
    def version(cls) -> str:
        """Version of Nengo; raises `ImportError` if it is not installed."""
        try:
            return f"nengo {version('nengo')}"
        except PackageNotFoundError as error:
            raise ImportError("Nengo is not installed") from error

    def build(self, graph: Graph, **options: Any) -> Any:
        """Return a `nengo.Network`; see `strop_backends.nengo.network.SpikingNetwork`.

        Parameters
        ----------
        graph : Graph
        probes : bool or sequence of str, default False
            Probe the spikes of every population, or of those named.
        adjustable : bool, default False
            Give every synapse a weight that can be read and changed while a simulator runs.
        prefix : str, default ""
            Prefix of all labels.
        name : str, optional
            The network's own label; by default the graph's name.
        """
        load_nengo()
        from strop_backends.nengo.network import SpikingNetwork

        self._refuse_unknown(options, {"probes", "adjustable", "prefix", "name"})
        return SpikingNetwork(graph, **options)

    def load(self) -> None:
        load_nengo()
        import_module("strop_backends.nengo.run")

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build the network and a simulator, and return a runner.

        Parameters
        ----------
        graph : Graph
        dt : float, default 1e-3
            Length of a time step in seconds; results do not depend on it.
        optimize : bool, default False
            Let Nengo merge operators; results do not depend on it.
        adjustable : bool, default False
            As for `build`.
        """
        load_nengo()
        from strop_backends.nengo.run import NengoRunner

        self._refuse_unknown(options, {"dt", "optimize", "adjustable"})
        return NengoRunner(graph, **options)

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return other time steps, Nengo's optimiser, and single synapses."""
        return {
            "steps of 0.1 ms": {"dt": 1e-4},
            "steps of 0.3 ms": {"dt": 0.3e-3},
            "steps of 7 s": {"dt": 7.0},
            "optimised": {"optimize": True},
            "adjustable": {"adjustable": True},
        }

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Return states in which a script may leave Nengo; see `strop_backends.nengo.surroundings`."""
        load_nengo()
        from strop_backends.nengo.surroundings import SURROUNDINGS

        return SURROUNDINGS

    def _refuse_unknown(self, options: dict[str, Any], known: set[str]) -> None:
        self.refuse_options({key: value for key, value in options.items() if key not in known}, known)
