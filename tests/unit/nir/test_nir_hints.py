"""Hints that strop leaves in NIR metadata, damaged: a graph is read without them, or ends in one clear error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.conformance import golden_case
from strop.errors import StropError
from strop.graph import Graph

nir = pytest.importorskip("nir")

from strop_backends.nir import read  # noqa: E402
from strop_backends.nir.files import with_hints, write_file  # noqa: E402
from strop_backends.nir.writing import to_nir  # noqa: E402

JUNK = [None, True, -1, 1.5, 1e300, 10**30, 10**400, "x", [], [1], [[1, 2], [3]], {}, {"a": 1}, [None], float("nan")]
Way = tuple[Any, ...]


def places(value: Any, path: Way = ()) -> Iterator[Way]:
    """Yield the ways to all parts of a hint."""
    yield path
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


def replaced(value: Any, path: Way, by: Any) -> Any:
    """Return a copy of a hint with another part."""
    if not path:
        return by
    copy = json.loads(json.dumps(value))
    part = copy
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = by
    return copy


@pytest.mark.parametrize(
    "name",
    [
        "convolution_2d_grouped",
        "convolution_2d_same_strided",
        "pool_overlapping_1d",
        "skip_delays",
        "two_inputs_two_outputs",
    ],
)
def test_any_damage_to_a_hint_ends_in_a_graph_or_one_clear_error(name: str) -> None:
    written, count, rng = to_nir(golden_case(name).graph), 0, np.random.default_rng(0)
    for node in [written, *written.nodes.values()]:
        if "strop" not in node.metadata:
            continue
        own = dict(node.metadata)
        found = json.loads(own["strop"])
        for path in places(found):
            junk = JUNK[rng.integers(len(JUNK))]
            node.metadata = {**own, "strop": json.dumps(replaced(found, path, junk))}
            with suppress(StropError):
                assert isinstance(read(written), Graph)
            count += 1
        node.metadata = own
    assert count > 10


def test_a_hint_of_a_gigantic_padding_or_kernel_is_left_at_once() -> None:
    graph = golden_case("convolution_2d_grouped").graph
    written = to_nir(graph)
    (node,) = [n for n in written.nodes.values() if isinstance(n, nir.Conv2d)]
    own = json.loads(node.metadata["strop"])
    for stage in ({"padding": [[0, 10**30], [0, 0]]}, {"kernel": [10**5, 10**5, 10, 10]}, {"dilation": [10**9, 1]}):
        node.metadata = {"strop": json.dumps({**own, "stage": {**own["stage"], **stage}})}
        assert read(written).projections[1].operator.synapse_count >= graph.projections[1].operator.synapse_count


@pytest.mark.parametrize(
    "text",
    ["[]", "1", '{"graph": 1}', '{"graph": 1, "nodes": ["ab"]}', '{"graph": "{}", "nodes": "x"}', "[" * 100_000, None],
)
def test_what_a_file_says_of_its_nodes_can_be_anything(text: str | None) -> None:
    written = to_nir(golden_case("convolution_2d_grouped").graph)
    for node in [written, *written.nodes.values()]:
        node.metadata = {}
    assert with_hints(written, text) is written
    assert all(not node.metadata for node in written.nodes.values())


def test_a_deeply_nested_hint_of_a_file_does_not_count(tmp_path: Path) -> None:
    written = to_nir(golden_case("convolution_2d_grouped").graph)
    written.metadata = {"strop": "[" * 100_000}
    write_file(tmp_path / "deep.nir", written)
    assert read(tmp_path / "deep.nir").neurons
