"""The one family of exceptions that strop raises on purpose.

Every message says what is wrong, where (file, layer name, shape) and what to do about it. The command line turns
any `StropError` into one line on standard error and the exit code of its class.
"""

from __future__ import annotations


class StropError(Exception):
    """Base of all errors that strop raises on purpose; `exit_code` is what the command line ends with."""

    exit_code: int = 2


class GraphError(StropError, ValueError):
    """A graph, node or operator is not well formed (shape, dtype, cycle, dangling name)."""


class UnsupportedLayerError(StropError):
    """A layer of the model cannot be carried over exactly; names the layer, the reason and the way out."""


class NotSharpenedError(StropError):
    """A spiking activation of the model is not fully sharpened, so its outputs are not single bits."""


class ModelFileError(StropError):
    """A model file cannot be read: missing, truncated, of another kind, or holding values that are not finite."""


class DataError(StropError, ValueError):
    """Frames or labels do not fit the network: wrong shape, wrong dtype, empty, or not finite."""


class CapacityError(StropError):
    """What was asked for needs more memory, synapses or delay than there is; raised before allocating."""


class BackendError(StropError):
    """A backend is there but cannot run this graph, or the simulator failed while it ran.

    Attributes
    ----------
    backend : str or None
        Its name, where several were asked for and one of them failed.
    """

    backend: str | None = None


class BackendMissingError(BackendError):
    """A backend is unknown, not installed or broken; names the extra to install."""

    exit_code = 3
