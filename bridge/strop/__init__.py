"""strop: sharpened (Whetstone) Keras networks, lowered to spiking simulators, every spike verified.

>>> import strop
>>> model = strop.load_model("model.keras")
>>> graph = strop.lower(model)
>>> result = strop.simulate(graph, frames, "brian2")
>>> report = strop.verify(model, frames, backends=("brian2",))

Importing strop loads neither TensorFlow nor a simulator; what needs them imports them when it is called.
"""

from __future__ import annotations

from strop.cli.signals import end_on_signals, is_command_line

if is_command_line():
    end_on_signals()

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any
from warnings import warn

from strop.errors import StropError

# Not lazily: the first import of the room `strop.export` would put the package in the place of the function.
from strop.export.folders import export
from strop.graph import Graph
from strop.running.simulate import Result, build, simulate
from strop.verification.report import Report
from strop.verification.verify import verify

if TYPE_CHECKING:
    from strop.costs.inspection import inspect
    from strop.export.keras_model import to_keras
    from strop.lowering import lower
    from strop.quantization.certify import certify
    from strop.quantization.quantize import quantize
    from strop.reader import load_model
    from strop.verification.explain import explain

__version__ = "0.1.0"

__all__ = [
    "Graph",
    "Report",
    "Result",
    "StropError",
    "build",
    "certify",
    "explain",
    "export",
    "inspect",
    "load_model",
    "lower",
    "quantize",
    "simulate",
    "to_keras",
    "verify",
]

_LAZY = {
    "certify": "strop.quantization.certify",
    "explain": "strop.verification.explain",
    "inspect": "strop.costs.inspection",
    "load_model": "strop.reader",
    "lower": "strop.lowering",
    "quantize": "strop.quantization.quantize",
    "to_keras": "strop.export.keras_model",
}
_ROOMS = ("display", "keras")

# Where the modules of 0.1 are now. Their old names work until 0.3, and say so.
_MOVED = {
    "activity": ("costs.activity",),
    "arithmetic": ("costs.macs",),
    "backend": ("running.backend", "running.registry"),
    "bounds": ("verification.bounds",),
    "capacity": ("graph.capacity",),
    "data": ("cli.data_files", "graph.files.atomic"),
    "decode": ("running.decode", "graph.nodes"),
    "encode": ("running.encode", "running.frame_notes", "graph.planes"),
    "energy": ("costs.energy",),
    "evidence": ("verification.evidence",),
    "fidelity": ("running.fidelity",),
    "inspection": ("costs.inspection", "costs.records"),
    "page": ("display",),
    "portable": ("export.arrays",),
    "reference": ("running.oracle", "running.reference"),
    "report": ("verification.report", "verification.outcome"),
    "rounding": ("graph.rounding.stages", "graph.rounding.evaluation", "graph.rounding.formats"),
    "store": ("graph.files.read", "graph.files.write", "graph.files.layout"),
    "tables": ("verification.table", "costs.table"),
    "takeaway": ("export.folders",),
}


class _MovedModules(MetaPathFinder, Loader):
    """Finds modules under the names that they had in 0.1."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        known = fullname.startswith("strop.") and fullname.removeprefix("strop.") in _MOVED
        return ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        places = [f"strop.{place}" for place in _MOVED[module.__name__.removeprefix("strop.")]]
        warn(f"{module.__name__} is {' and '.join(places)} now", DeprecationWarning, stacklevel=2)
        for place in reversed(places):
            vars(module).update({name: value for name, value in vars(import_module(place)).items() if name[:2] != "__"})


sys.meta_path.append(_MovedModules())


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return import_module(f"strop.{name}")
    raise AttributeError(f"module 'strop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS, "__version__"])


def _page(report: Report) -> str:
    from strop.display import render_page

    return render_page(report)


Report.page = staticmethod(_page)
