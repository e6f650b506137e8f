"""Networks in NIR, and what NIR's published equations make of them."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.export.script import write_script
from strop.graph import (
    Graph,
)
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

nir = pytest.importorskip("nir")

from strop_backends.nir.emit import natural  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


SCRIPT = ROOT / "backends" / "strop_backends" / "nir" / "templates" / "run.py"


def equations() -> Any:
    """The evaluator that goes into standalone folders: NIR's published equations, without any code of strop's."""
    assert "strop" not in SCRIPT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        write_script(Path(folder), SCRIPT)
        spec = importlib.util.spec_from_file_location("nir_equations", Path(folder) / "run.py")
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        assert spec.loader is not None
        spec.loader.exec_module(module)
        sys.path.remove(str(Path(folder).resolve()))
    return module


EQUATIONS = equations()


def spikes_by_nirs_equations(graph: Graph, written: Any, frames: Any, dtype: Any = np.float64) -> dict[str, Any]:
    """Evaluate a written graph and return its spikes in strop's order, frame by frame."""
    signals = encode(graph, as_frames(graph, frames))
    count = len(next(iter(signals.values())))
    late = graph.total_depth
    inputs = {}
    names = {json.loads(node.metadata["strop"])["name"]: name for name, node in written.inputs.items()}
    for title, values in signals.items():
        flat = values.reshape(count, -1)[:, natural(values.shape[1:])].astype(dtype)
        inputs[names[title]] = np.concatenate([flat, np.zeros((late, *flat.shape[1:]), dtype)])
    values, times = EQUATIONS.evaluate(written, inputs)
    answers = {}
    for name, node in written.nodes.items():
        if isinstance(node, nir.Threshold):
            about = json.loads(node.metadata["strop"])
            found = values[name][times[name] : times[name] + count] > 0.5
            shape = tuple(about["shape"])
            answers[about["name"]] = (np.moveaxis(found, 1, -1) if found.ndim > 2 else found).reshape(count, *shape)
    return answers


def assert_same_spikes(graph: Graph, written: Any, frames: Any, dtype: Any = np.float64) -> int:
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = spikes_by_nirs_equations(graph, written, frames, dtype)
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert np.array_equal(found[name], values), name
    return sum(int(values.sum()) for values in wanted.values())


def chain(*nodes: Any, shape: Any, type_check: bool = True) -> Any:
    named = {f"n{n}": node for n, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    ends = {
        "input": nir.Input(input_type={"input": np.array(shape)}),
        "output": nir.Output(output_type={"output": np.array(nodes[-1].output_type["output"])}),
    }
    return nir.NIRGraph({**ends, **named}, list(pairwise(names)), type_check=type_check)


def threshold(n: int = 2) -> Any:
    return nir.Threshold(np.ones(n))
