"""Nengo: an ensemble per population, connections between neurons without synapse, a frame per time step.

Nothing of Nengo is imported before a network is built.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from strop.backend import Backend, Runner
from strop.graph import ENCODINGS, Graph

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
        """
        load_nengo()
        from strop_backends.nengo.network import SpikingNetwork

        self._refuse_unknown(options, {"probes"})
        return SpikingNetwork(graph, **options)

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build the network and a simulator, and return a runner.

        Parameters
        ----------
        graph : Graph
        dt : float, default 1e-3
            Length of a time step in seconds; results do not depend on it.
        """
        load_nengo()
        from strop_backends.nengo.run import NengoRunner

        self._refuse_unknown(options, {"dt"})
        return NengoRunner(graph, **options)

    def _refuse_unknown(self, options: dict[str, Any], known: set[str]) -> None:
        self.refuse_options({key: value for key, value in options.items() if key not in known}, known)
