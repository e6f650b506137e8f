"""`MemorylessThreshold`: the memoryless threshold neuron as a Nengo neuron type. It needs nothing of strop."""

from __future__ import annotations

from typing import Any

import nengo
import numpy as np
import numpy.typing as npt
from nengo.dists import Choice
from nengo.exceptions import ValidationError
from nengo.params import NdarrayParam, NumberParam

FloatArray = npt.NDArray[np.float64]


class MemorylessThreshold(nengo.neurons.NeuronType):  # type: ignore[misc]  # Nengo ships no types
    """Neurons that fire in a step iff their input current reaches the threshold, and keep no state.

    `output_j = amplitude if J_j >= threshold_j else 0`, with `J = gain * input + bias`.

    A spike is `amplitude` high, not `amplitude / dt` as in Nengo's own spiking types: connections then carry
    the weights as they were trained, whatever the time step, and no product is rounded that could decide a
    tie.

    Parameters
    ----------
    threshold : float or array, shape (n_neurons,)
        Dimensionless, as the input current.
    amplitude : float
        Height of a spike.
    initial_state : dict, optional
        As in Nengo. The one state is `threshold`; a value given here stands in place of the parameter.

    Notes
    -----
    The threshold is kept as a state signal because Nengo's optimiser merges neurons of equal types and then
    hands `step` the currents of several ensembles at once (nengo 4.1.0, `builder/optimizer.py`,
    `SimNeuronsMerger`): states are merged with them, parameters are not. It never changes.
    """

    threshold = NdarrayParam("threshold", shape=("...",))
    amplitude = NumberParam("amplitude", low=0, low_open=True)

    state = {"threshold": Choice([0.5])}  # noqa: RUF012  # Nengo reads this from the class
    negative = False
    spiking = True

    def __init__(
        self, threshold: Any = 0.5, amplitude: float = 1.0, initial_state: dict[str, Any] | None = None
    ) -> None:
        super().__init__(initial_state)
        self.threshold = np.array(threshold, dtype=np.float64)
        self.amplitude = amplitude
        # Looking a parameter up costs as much as comparing a hundred neurons, in every step.
        self._height = float(amplitude)
        if self.threshold.ndim > 1 or not np.isfinite(self.threshold).all():
            raise ValidationError(
                "must be a finite number, or a vector of one for each neuron", attr="threshold", obj=self
            )

    def make_state(self, n_neurons: int, rng: Any = np.random, dtype: Any = None) -> dict[str, FloatArray]:
        """Return the threshold of every neuron, shape (n_neurons,)."""
        state: dict[str, FloatArray] = super().make_state(n_neurons, rng=rng, dtype=dtype)
        thresholds = self._thresholds(n_neurons)
        if not self.initial_state or "threshold" not in self.initial_state:
            state["threshold"] = thresholds.astype(state["threshold"].dtype)
        return state

    def _thresholds(self, n_neurons: int) -> FloatArray:
        if self.threshold.ndim and self.threshold.shape != (n_neurons,):
            raise ValidationError(
                f"has {self.threshold.size} values for {n_neurons} neurons", attr="threshold", obj=self
            )
        return np.broadcast_to(self.threshold, (n_neurons,))

    def gain_bias(self, max_rates: Any, intercepts: Any) -> tuple[FloatArray, FloatArray]:
        """Return gains of one, and the biases that make a neuron fire from its intercept on.

        A rate cannot be chosen: a neuron fires in every step in which its current reaches the threshold.
        """
        intercepts = np.atleast_1d(np.asarray(intercepts, dtype=np.float64))
        return np.ones_like(intercepts), self.threshold - intercepts

    def max_rates_intercepts(self, gain: Any, bias: Any) -> tuple[FloatArray, FloatArray]:
        """Return the highest output, and the inputs from which on neurons fire."""
        gain, bias = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (gain, bias))
        return np.full_like(gain, self.amplitude), (self._thresholds(len(gain)) - bias) / gain

    def rates(self, x: Any, gain: Any, bias: Any) -> FloatArray:
        """Return the output for constant inputs `x`: spikes per step times the amplitude, not Hz."""
        current: FloatArray = self.current(x, gain, bias)
        output = np.zeros_like(current)
        self.step(1.0, current, output, self.threshold)
        return output

    def step(  # type: ignore[override,unused-ignore]  # Nengo passes states by name
        self, dt: float, J: FloatArray, output: FloatArray, threshold: FloatArray
    ) -> None:
        """Fire where the current reaches the threshold: the one comparison of this backend."""
        np.greater_equal(J, threshold, out=output)
        if self._height != 1.0:
            output *= self._height
