"""Whether an operator must be expanded into synapses for its sums, and whether float64 rounds them on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.graph import Operator, Select, Sparse, SumPool, stages_of
from strop.graph.rounding.formats import lowest_bit
from strop.graph.stage_weights import stage_weights


def bounded_from_kernels(operator: Operator) -> bool:
    """Whether sums can be bounded without synapses: one stage has weights at most, and they are no single synapses."""
    weighted = [stage for stage in stages_of(operator) if not isinstance(stage, (Select, SumPool))]
    return len(weighted) <= 1 and not any(isinstance(stage, Sparse) for stage in weighted)


def expands_exactly(operator: Operator, stages: Sequence[Operator]) -> bool:
    """Whether float64 rounds no product and no sum over paths when the stages of an operator become synapses."""
    grid = sum(float(lowest_bit(stage_weights(stage)).min(initial=np.inf)) for stage in stages)
    largest = float(operator.absolute().apply(np.ones((1, *operator.shape_in))).max(initial=0.0)) * (1.0 + 2.0**-20)
    return bool(largest <= 2.0 ** min(1023.0, grid + 53.0))
