"""What a Keras layer shows is read as spikes, or refused if it shows anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strop.errors import StropError
from strop.lowering.context import Observation
from strop.lowering.probe import KerasProbe

PLAIN = (np.ones(()), np.zeros(()))


def read(shown: Any, levels: Any = PLAIN, **more: Any) -> Any:
    observation = Observation(0, "layer", more.pop("channels_first", False), levels, **more)
    return KerasProbe.__new__(KerasProbe)._read(observation, np.asarray(shown, np.float32))


def test_ones_are_spikes() -> None:
    spikes = read([[0.0, 1.0, -0.0], [1.0, 1.0, 0.0]])
    assert spikes.dtype == np.bool_
    assert spikes.tolist() == [[False, True, False], [True, True, False]]


def test_values_a_little_off_are_read_as_before() -> None:
    assert read([[1e-4, 0.9999, 1.0]]).tolist() == [[False, True, True]]


@pytest.mark.parametrize("foreign", [np.nan, 0.5, -1.0, 2.0, np.inf])
@pytest.mark.parametrize("levels", [PLAIN, (np.array(3.0), np.zeros(()))])
def test_any_other_value_is_refused(foreign: float, levels: Any) -> None:
    high = float(levels[0])
    with pytest.raises(StropError, match=r"'layer' gives values that are no spikes, for example (nan|inf|-?\d)"):
        read([[0.0, high, foreign * high]], levels)


def test_two_levels_are_read_by_their_middle() -> None:
    assert read([[-1.0, 1.0]], (np.array(2.0), np.array(-1.0))).tolist() == [[False, True]]
    assert read([[1.0, 0.0]], (np.array(-1.0), np.array(1.0))).tolist() == [[False, True]]


def test_a_third_value_that_is_allowed_is_read() -> None:
    assert read([[0.0, 0.5, 1.0]], values=(0.0, 0.5, 1.0)).tolist() == [[False, True, True]]
    # Ones alone would be read at once, if 1 were an allowed value.
    with pytest.raises(StropError, match="no spikes"):
        read([[0.0, 1.0]], values=(0.0, 0.25))


def test_channels_first_become_last() -> None:
    values = np.zeros((2, 3, 4, 5))
    values[1, 2, 3, 4] = 1.0
    spikes = read(values, channels_first=True)
    assert spikes.shape == (2, 4, 5, 3)
    assert spikes.flags.c_contiguous
    assert np.argwhere(spikes).tolist() == [[1, 3, 4, 2]]
