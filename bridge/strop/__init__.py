"""strop: sharpened (Whetstone) Keras networks, lowered to spiking simulators, every spike verified.

>>> import strop
>>> model = strop.load_model("model.keras")
>>> graph = strop.lower(model)
>>> result = strop.simulate(graph, frames, "brian2")
>>> report = strop.verify(model, frames, backends=("brian2",))

Importing strop loads neither TensorFlow nor a simulator; what needs them imports them when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strop.errors import StropError
from strop.graph import Graph
from strop.report import Report

# Modules that share their name with a function are imported here, so that the function keeps the name.
from strop.simulate import Result, build, simulate
from strop.verify import verify

if TYPE_CHECKING:
    from strop.inspection import inspect
    from strop.lowering import lower
    from strop.reader import load_model
    from strop.takeaway import export

__version__ = "0.1.0"

__all__ = [
    "Graph",
    "Report",
    "Result",
    "StropError",
    "build",
    "export",
    "inspect",
    "load_model",
    "lower",
    "simulate",
    "verify",
]

_LAZY = {
    "export": "strop.takeaway",
    "inspect": "strop.inspection",
    "load_model": "strop.reader",
    "lower": "strop.lowering",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "keras":
        return import_module("strop.keras")
    raise AttributeError(f"module 'strop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "keras"])
