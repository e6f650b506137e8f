"""The weights of one stage of an operator, and the same stage with other weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from strop.graph.convolution import Convolution, SumPool
from strop.graph.operator import FloatArray, Operator
from strop.graph.operators import Dense, Scale, Select, Sparse

_Stage = TypeVar("_Stage", bound=Operator)


def stage_weights(stage: Operator) -> FloatArray:
    """Return the weights of one stage of an operator; one for those that only add or move."""
    match stage:
        case Dense() | Sparse():
            return stage.weight
        case Convolution():
            return stage.kernel
        case Scale():
            return stage.factor
        case Select() | SumPool():
            return np.ones(())
        case _:
            raise TypeError(f"the weights of {type(stage).__name__} are not known")


def with_stage_weights(stage: _Stage, weights: FloatArray) -> _Stage:
    """Return the same stage with other weights; those of a convolution may have another number of filters."""
    match stage:
        case Dense() | Sparse():
            return replace(stage, weight=weights)
        case Convolution():
            return replace(stage, kernel=weights)
        case Scale():
            return replace(stage, factor=weights)
        case _:
            raise TypeError(f"{type(stage).__name__} has no weights to replace")
