"""How every tensor of the new network is scaled: ``new = old / scale``, one scale for all tensors that are merged.

A linear layer divides by the scale of its outputs and multiplies by that of its inputs, within its weights; so does a
batch normalisation. Layers that keep proportions (pools, padding, sums) tie the scales of what they touch together. An
activation wants its inputs divided by the width of its ramp and gives values of its height. Where the wish of one
activation meets that of another, or an input of the model, a `Rescaling` goes between.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from strop.keras.conversion.program import Program, Step
from strop.keras.conversion.ramps import Ramp


class Scales:
    """The scale of every tensor of a program.

    Parameters
    ----------
    program : Program
    ramps : mapping of key to Ramp
        The measured counterpart of each activation.
    """

    def __init__(self, program: Program, ramps: dict[Any, Ramp]) -> None:
        self._parents: dict[int, int] = {}
        self._tie(program)
        fixed = {self._group(value) for value in program.inputs}
        fixed |= {self._group(v) for s in program.steps if _keeps_its_values(s) for v in s.outputs}
        wanted: dict[int, list[float]] = defaultdict(list)
        for side in ("outputs", "inputs"):  # the height of what is there goes before the width of what follows
            for step in program.activations:
                ramp = ramps[step.key]
                if side == "outputs" and ramp.low == 0.0:
                    wanted[self._group(step.outputs[0])].append(ramp.high)
                elif side == "inputs" and ramp.width is not None:
                    wanted[self._group(step.inputs[0])].append(ramp.width)
        self._scales = {group: found[0] for group, found in wanted.items() if group not in fixed}

    def of(self, value: Any) -> float:
        """Return by what the values of a symbolic tensor are divided."""
        return self._scales.get(self._group(value), 1.0)

    def _tie(self, program: Program) -> None:
        first: dict[tuple[Any, str], Any] = {}
        for step in program.steps:
            if step.kind == "same":
                self._union(step.inputs + step.outputs)
            elif step.kind in ("linear", "norm"):
                # Shared weights can be rescaled in one way only.
                for side, values in (("inputs", step.inputs), ("outputs", step.outputs)):
                    self._union([first.setdefault((step.key, side), values[0]), values[0]])

    def _union(self, values: list[Any]) -> None:
        for value in values[1:]:
            self._parents[self._group(value)] = self._group(values[0])

    def _group(self, value: Any) -> int:
        number = id(value)
        while self._parents.setdefault(number, number) != number:
            number = self._parents[number]
        return number


def _keeps_its_values(step: Step) -> bool:
    return step.kind == "other" or step.activation is not None
