"""`Tuning`, `tuned_classes`: thresholds and biases, read and written through PyNN in the graph's units of measure.

NEST's delta cell has both as parameters. On Brian2 and NEURON a threshold is scaled and lifted, and a bias arrives as a
spike (see `strop_backends.pynn.brian2.dialect` and `.neuron.dialect`). There `get` and `set` of a population, of a view
and of a cell take `v_thresh` and `i_offset` as the graph's numbers, and translate them to the simulator's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop_backends.pynn.common.recorders import recorder_class

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass
class Tuning:
    """Thresholds and biases of one population, and how they are written to the simulator.

    Attributes
    ----------
    name : str
    threshold, bias, lift : float64 arrays, shape (size,)
        In the graph's units of measure; `lift` is added to thresholds so that neurons without input stay silent.
    lifts : callable
        From thresholds to lifts.
    write_threshold : callable
        Takes thresholds, which it lifts.
    write_standing : callable or None
        Takes the input of each step, `bias + lift`, of the neurons in `standing`.
    standing : int array
        Neurons with a synapse for that input.
    driven : bool
        Whether values are injected into the population; they contain bias and lift.
    frozen : str
        Why thresholds and biases cannot be changed now; empty where they can.
    """

    name: str
    threshold: FloatArray
    bias: FloatArray
    lift: FloatArray
    lifts: Callable[[FloatArray], FloatArray]
    write_threshold: Callable[[FloatArray], None]
    write_standing: Callable[[FloatArray], None] | None = None
    standing: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    driven: bool = False
    frozen: str = ""

    def change(self, threshold: FloatArray, bias: FloatArray) -> None:
        """Set thresholds and biases, or raise `BackendError` and change nothing."""
        if self.frozen:
            raise BackendError(f"thresholds and biases of {self.name!r} cannot be changed now: {self.frozen}")
        if not (np.isfinite(threshold).all() and np.isfinite(bias).all()):
            raise BackendError(f"thresholds and biases of {self.name!r} must be finite")
        lift = self.lifts(threshold)
        needed = bias + lift
        without = np.setdiff1d(np.flatnonzero(needed != 0), self.standing)
        if len(without) and not self.driven:
            raise BackendError(
                f"neuron {int(without[0])} of {self.name!r} was built without a bias and with a threshold above 0, so "
                "no source gives it anything in each step; a bias, or a threshold of 0 or less, needs a new network: "
                "strop.build a graph that has it"
            )
        self.write_threshold(threshold)
        if self.write_standing is not None:
            self.write_standing(needed[self.standing])
        self.threshold[:], self.bias[:], self.lift[:] = threshold, bias, lift


# PyNN's name of a parameter -> attribute of `Tuning`.
OWN = {"v_thresh": "threshold", "i_offset": "bias"}


class _Tuned:
    """`get` and `set` of populations and of views."""

    def _tuning_and_place(self) -> tuple[Tuning, Any]:
        raise NotImplementedError

    def get(self, parameter_names: Any, gather: bool = False, simplify: bool = True) -> Any:
        """As PyNN's `get`; `v_thresh` and `i_offset` are threshold and bias of the graph."""
        names = [parameter_names] if isinstance(parameter_names, str) else list(parameter_names)
        tuning, place = self._tuning_and_place()
        found = []
        for name in names:
            if name in OWN:
                values = getattr(tuning, OWN[name])[place].copy()
                found.append(values[0] if simplify and (values == values[0]).all() else values)
            else:
                found.append(super().get(name, gather, simplify))  # type: ignore[misc]  # PyNN's, beside this class
        return found[0] if isinstance(parameter_names, str) else found

    def set(self, **parameters: Any) -> None:
        """As PyNN's `set`; `v_thresh` and `i_offset` are threshold and bias of the graph."""
        from pyNN.parameters import LazyArray

        tuning, place = self._tuning_and_place()
        new = {attribute: getattr(tuning, attribute).copy() for attribute in OWN.values()}
        for name in OWN.keys() & parameters.keys():
            lazy = LazyArray(parameters.pop(name), shape=(len(new["bias"][place]),), dtype=float)
            new[OWN[name]][place] = lazy.evaluate(simplify=False)
        tuning.change(**new)
        if parameters:
            super().set(**parameters)  # type: ignore[misc]  # PyNN's, beside this class


def tuned_classes(sim: Any) -> tuple[type, type]:
    """Return the population, and its view, of a PyNN module, for neurons that have a `Tuning`."""

    class NeuronsView(_Tuned, sim.PopulationView):  # type: ignore[misc]  # known only at run time
        __doc__ = sim.PopulationView.__doc__

        def _tuning_and_place(self) -> tuple[Tuning, Any]:
            return self.grandparent.tuning, self.index_in_grandparent(np.arange(self.size))

        def _get_view(self, selector: Any, label: str | None = None) -> Any:
            return NeuronsView(self, selector, label)

    class Neurons(_Tuned, sim.Population):  # type: ignore[misc]
        __doc__ = sim.Population.__doc__
        _recorder_class = recorder_class(sim.Population._recorder_class)
        tuning: Tuning

        def _tuning_and_place(self) -> tuple[Tuning, Any]:
            return self.tuning, slice(None)

        def _get_view(self, selector: Any, label: str | None = None) -> Any:
            return NeuronsView(self, selector, label)

    return Neurons, NeuronsView
