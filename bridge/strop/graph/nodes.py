"""Nodes of a graph: inputs, populations of threshold neurons, projections between them, read-outs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError, did_you_mean
from strop.graph.content import Content
from strop.graph.operator import FloatArray, Operator, Shape, as_float64, as_shape

ENCODINGS = ("host", "bitplane", "binary", "current")
# Integer types of a model's input; frames themselves are float32, which holds all numbers of all but the widest.
WHOLE_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# Functions of the logits one by one, and functions of groups of them that lie along the last axis.
ELEMENTWISE_KINDS = (
    *("sigmoid", "hard_sigmoid", "log_sigmoid", "tanh", "hard_tanh", "relu", "relu6", "softplus", "softsign"),
)
READOUT_KINDS = ("key", "softmax", "linear", "spikes", "winner", "log_softmax", *ELEMENTWISE_KINDS)
# Read-outs whose single value is the probability of class 1 against class 0.
BINARY_KINDS = ("sigmoid", "hard_sigmoid")
MOST_BITS = 24
_NAME = re.compile(r"[^\s\x00-\x1f]+\Z")


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise GraphError(f"{what} needs a name without blanks, got {name!r}")


def _broadcast(what: str, values: Any, shape: Shape) -> FloatArray:
    array = as_float64(what, values)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise GraphError(f"{what} of shape {array.shape} does not fit neurons of shape {shape}") from None


@dataclass(frozen=True, eq=False)
class Input(Content):
    """Input of a graph: frames, and how they are encoded.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Shape of a frame as the user gives it, without batch axis.
    encoding : {"host", "bitplane", "binary", "current"}
        How a frame becomes spikes or currents; see DESIGN section 6 and `strop.running.encode`.
    bits : int
        Number of planes of the `bitplane` encoding, 1 to 24; plane k carries bit k.
    level : float
        Threshold of the `binary` encoding: a value is a spike iff it is >= level.
    step, offset : float
        Values of the `bitplane` encoding: the whole number n stands for `offset + step * n`. By default
        `step` is `1 / (2^bits - 1)` and `offset` 0, so that all planes together are 1.0.
    dtype : str
        "float32", or the integer type (or "bool") that the model's input takes: then frames hold its whole numbers.
    scaled_by : str
        The layer or operation with which the model itself scales its frames ("Rescaling"); "" if it does not.
    """

    name: str
    shape: Shape
    encoding: str = "host"
    bits: int = 8
    level: float = 0.5
    step: float | None = None
    offset: float = 0.0
    dtype: str = "float32"
    scaled_by: str = ""

    def __post_init__(self) -> None:
        _check_name("Input", self.name)
        object.__setattr__(self, "shape", as_shape(f"input {self.name!r}", self.shape))
        if self.encoding not in ENCODINGS:
            known = ", ".join(ENCODINGS)
            raise GraphError(
                f"encoding must be one of {known}, got {self.encoding!r}{did_you_mean(self.encoding, ENCODINGS)}"
            )
        if not 1 <= self.bits <= MOST_BITS:
            raise GraphError(
                f"input {self.name!r}: bits must lie in 1..{MOST_BITS} (float32 holds no more), got {self.bits}"
            )
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise GraphError(f"input {self.name!r}: step must be a positive number, got {self.step}")
        if not math.isfinite(self.offset):
            raise GraphError(f"input {self.name!r}: offset must be a finite number, got {self.offset}")
        if self.dtype not in ("float32", *WHOLE_TYPES):
            raise GraphError(
                f"input {self.name!r}: dtype must be float32, or one of {', '.join(WHOLE_TYPES)}; got {self.dtype!r}"
            )

    @property
    def whole_numbers(self) -> bool:
        """Whether the model takes the whole numbers of a camera as they are: they are not divided by 255."""
        return self.dtype != "float32" or bool(self.scaled_by)

    @property
    def signal_shape(self) -> Shape:
        """Shape of the signal that the input sends in one step: the frame, or its bit planes side by side as
        channels."""
        if self.encoding != "bitplane":
            return self.shape
        return (*self.shape[:-1], self.shape[-1] * self.bits)

    def plane_values(self, numbers: npt.NDArray[Any]) -> FloatArray:
        """Return the values that whole numbers of `bits` bits stand for under the `bitplane` encoding, float64."""
        full = (1 << self.bits) - 1
        # Divided, not multiplied by the inverse: k / 255 as closely as float64 has it.
        values: FloatArray = numbers / full if self.step is None else numbers * self.step
        return values + self.offset

    @property
    def spiking(self) -> bool:
        """Whether the input sends spikes, which a simulator carries over synapses."""
        return self.encoding in ("bitplane", "binary")


@dataclass(frozen=True, eq=False)
class Population(Content):
    """Memoryless binary threshold neurons: a spike iff `bias + input >= threshold`; no state outlives the step.

    Neuron j spikes at step t iff `a_j(t) >= threshold_j` with
    `a_j(t) = bias_j + sum over incoming projections p of (W_p s_src(t - delay_p))_j`.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Channels last, without batch axis.
    threshold, bias : float or array that broadcasts to `shape`
        Dimensionless, as in Keras.
    """

    name: str
    shape: Shape
    threshold: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        _check_name("Population", self.name)
        shape = as_shape(f"population {self.name!r}", self.shape)
        object.__setattr__(self, "shape", shape)
        for what in ("threshold", "bias"):
            values = _broadcast(f"{what} of population {self.name!r}", getattr(self, what), shape)
            object.__setattr__(self, what, values)

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Projection(Content):
    """All synapses from one node to one population.

    Parameters
    ----------
    source, target : str
        Names of an input or population, and of a population.
    operator : Operator
    delay : int
        In steps, at least 1; in a valid graph `depth(target) - depth(source)`.
    """

    source: str
    target: str
    operator: Operator
    delay: int = 1

    def __post_init__(self) -> None:
        if self.delay < 1:
            raise GraphError(f"projection {self.source} -> {self.target}: delay must be >= 1, got {self.delay}")


@dataclass(frozen=True, eq=False)
class Readout(Content):
    """Read-out: decodes the last spikes, off the simulator.

    `logits = bias + sum_k operators[k](sources[k])`, then the function that `kind` names, then `after`, then the
    argmax: see `strop.running.decode.respond`.

    Parameters
    ----------
    name : str
    kind : str
        "linear": the logits as they are; "softmax", "log_softmax": of a linear layer, over the last axis; "key":
        softmax of the products with an n-hot key (Whetstone's Softmax_Decode); "sigmoid", "hard_sigmoid",
        "log_sigmoid", "tanh", "hard_tanh", "relu", "relu6", "softplus", "softsign": of each logit, as the Keras
        activations of these names; "spikes": spikes rearranged (a Flatten or Reshape at the end); "winner": one spike,
        of the class that won.
    sources : tuple of str
        Populations that it reads.
    operators : tuple of Operator
        One per source, all with the same `shape_out`.
    bias : float or array that broadcasts to the logits' shape
    after : Operator, optional
        Linear map of the function's values: a Reshape or Permute at the end, the mean of several softmaxes.
    argmax : bool
        Whether the output is the index of the largest value along the last axis, the lower one of equals.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    operators: tuple[Operator, ...]
    bias: FloatArray = field(default_factory=lambda: np.zeros(()))
    after: Operator | None = None
    argmax: bool = False

    def __post_init__(self) -> None:
        _check_name("Readout", self.name)
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "operators", tuple(self.operators))
        if self.kind not in READOUT_KINDS:
            raise GraphError(f"kind of read-out {self.name!r} must be one of {', '.join(READOUT_KINDS)}")
        if not self.sources or len(self.sources) != len(self.operators):
            raise GraphError(f"read-out {self.name!r} needs one operator for each of its sources")
        if len({operator.shape_out for operator in self.operators}) != 1:
            raise GraphError(f"the operators of read-out {self.name!r} differ in their output shapes")
        object.__setattr__(self, "bias", _broadcast(f"bias of read-out {self.name!r}", self.bias, self.logits_shape))
        if self.after is not None and self.after.shape_in != self.logits_shape:
            raise GraphError(
                f"read-out {self.name!r}: what comes after the function takes {self.after.shape_in}, the logits have "
                f"the shape {self.logits_shape}"
            )
        if self.argmax and not self.value_shape:
            raise GraphError(f"read-out {self.name!r} has a single value per frame: there is no largest among several")

    @property
    def logits_shape(self) -> Shape:
        """Shape of one frame of logits."""
        return self.operators[0].shape_out

    @property
    def value_shape(self) -> Shape:
        """Shape of one frame of values, before any argmax."""
        return self.logits_shape if self.after is None else self.after.shape_out

    @property
    def shape(self) -> Shape:
        """Shape of one decoded frame."""
        return self.value_shape[:-1] if self.argmax else self.value_shape
