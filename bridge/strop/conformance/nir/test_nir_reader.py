"""A reader of NIR on every golden case: the spikes of every node of neurons.

pytest --pyargs strop.conformance.nir --nir-reader module:function
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from strop.conformance.nir.cases import NirCase, load_case


def test_every_spike_of_a_nir_file(nir_reader: Callable[..., Any], nir_profile: str, nir_case: str) -> None:
    """Load the file, run the frames, compare."""
    case = load_case(nir_profile, nir_case)
    frames = {name: values.copy() for name, values in case.frames.items()}
    takes_dt = "dt" in inspect.signature(nir_reader).parameters
    found = nir_reader(str(case.path), frames, **({"dt": case.dt} if takes_dt else {}))
    wrong = [said for node, right in case.spikes.items() if (said := _difference(found, node, right))]
    assert not wrong, f"{case.name}: {case.says} {'; '.join(wrong)}"
    assert _some_neuron_fires(case)


def _difference(found: Any, node: str, right: Any) -> str:
    """Return in what the spikes of a node are wrong, or ""."""
    if node not in found:
        return f"nothing is said of node {node!r}"
    values = np.asarray(found[node])
    if values.shape != right.shape:
        return f"node {node!r} answers in the shape {values.shape}, not {right.shape}"
    if not np.isin(values, (0, 1)).all():
        return f"node {node!r} answers with other numbers than 0 and 1"
    differs = values.astype(bool) != right
    if not differs.any():
        return ""
    frame, *place = (int(n) for n in np.argwhere(differs)[0])
    fires = "fires" if values[(frame, *place)] else "does not fire"
    return f"{differs.sum()} spikes of node {node!r} differ, the first in frame {frame}: neuron {tuple(place)} {fires}"


def _some_neuron_fires(case: NirCase) -> bool:
    return any(spikes.any() for spikes in case.spikes.values())
