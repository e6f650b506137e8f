"""The one family of exceptions that strop raises on purpose.

Every message says what is wrong, where (file, layer name, shape) and what to do about it. The command line turns
any `StropError` into one line on standard error and the exit code of its class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from types import TracebackType
from typing import Any


class StropError(Exception):
    """Base of all errors that strop raises on purpose; `exit_code` is what the command line ends with."""

    exit_code: int = 2

    def __init__(self, *words: object) -> None:
        super().__init__(*words)
        _show_as_python_does()


def _show_as_python_does() -> None:
    """Keep Brian2 from calling an uncaught `StropError` an unexpected error of its own; it does so for any exception.

    Brian2 replaces `sys.excepthook` when it is imported, before or after strop.
    """
    hook = sys.excepthook
    if getattr(hook, "__module__", "") != "brian2.utils.logger":
        return

    def shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        (sys.__excepthook__ if issubclass(kind, StropError) else hook)(kind, error, trace)

    sys.excepthook = shown


class GraphError(StropError, ValueError):
    """A graph, node or operator is not well formed (shape, dtype, cycle, dangling name)."""


class UnsupportedLayerError(StropError):
    """A layer of the model cannot be carried over exactly; names the layer, the reason and the way out.

    Attributes
    ----------
    refused : tuple of str
        All that is refused for what it is, a sentence each, where the reader looked further than the first.
    """

    refused: tuple[str, ...] = ()


class NotSharpenedError(StropError):
    """A spiking activation of the model is not fully sharpened, so its outputs are not single bits."""


class ModelFileError(StropError):
    """A model file cannot be read: missing, truncated, of another kind, or holding values that are not finite."""


class DataError(StropError, ValueError):
    """Frames or labels do not fit the network: wrong shape, wrong dtype, empty, or not finite."""


class ExtraMissingError(StropError, ImportError):
    """An optional package is not installed; names the extra that installs it."""


class CapacityError(StropError):
    """A request needs more memory, synapses or delay than is available; raised before allocating."""


class QuantizationError(StropError):
    """A graph cannot be brought into a target's arithmetic; names the population, the neuron and the bits that it
    needs."""


class BackendError(StropError):
    """A backend is installed but cannot run this graph, or the simulator failed while it ran.

    Attributes
    ----------
    backend : str or None
        Name of the backend that failed, where several were requested.
    """

    backend: str | None = None


class ProcessError(StropError):
    """A process that runs a network for this one ended, or does not answer as it should."""


class BackendMissingError(BackendError):
    """A backend is unknown, not installed or broken; names the extra to install."""

    exit_code = 3


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return `". Did you mean 'brian2'?"` for the nearest known name, or the empty string where none is near.

    >>> did_you_mean("Brian", ["brian2", "nengo"])
    ". Did you mean 'brian2'?"

    Parameters
    ----------
    name : str
        As the user wrote it; for anything but a string nothing is suggested.
    known : iterable of str
    """
    if not isinstance(name, str):
        return ""
    names = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), names, n=1)
    # "nest" for "pynn-nest": a part of a name, where it is a part of one alone.
    inside = [candidate for candidate in names if name and name.lower() in candidate]
    best = near or (inside if len(inside) == 1 else [])
    return f". Did you mean {names[best[0]]!r}?" if best else ""


# Backends that strop ships with, and the extra that installs their simulator.
EXTRAS = {
    "brian2": "brian2",
    "brian2-standalone": "brian2",
    "nengo": "nengo",
    "nir": "nir",
    "pynn-brian2": "pynn,brian2",
    "pynn-neuron": "neuron",
    "pynn-spinnaker": "spinnaker",
}


def install_advice(name: str) -> str:
    """Return `". Install it with: pip install 'strop[...]'"` for a backend of strop's own, or the empty string."""
    extra = EXTRAS.get(name) or ("pynn" if name.startswith("pynn-") else None)
    return f". Install it with: pip install 'strop[{extra}]'" if extra else ""
