"""The order of a graph's nodes, where a model records it (`strop.to_keras`); Keras walks layers in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from strop.graph import Operator, Population, Readout

Connection = tuple[str, str, Operator]
_Item = TypeVar("_Item")


def in_recorded_order(
    populations: Sequence[Population],
    connections: Sequence[Connection],
    readouts: Sequence[Readout],
    records: Mapping[str, Mapping[str, Any]],
) -> tuple[list[Population], list[Connection], list[Readout]]:
    """Return nodes and connections in the order that the model's layers record.

    Where a layer was added, removed, called twice or connected anew since, the order is that of the walk.

    Parameters
    ----------
    records : mapping of node name to record
        See `strop.keras.graph_parts.record_of`.
    """
    found = _sorted(populations, [records.get(p.name, {}).get("place") for p in populations])
    rank = {population.name: n for n, population in enumerate(found)}
    if any(source in rank and rank[source] >= rank[target] for source, target, _ in connections):
        found = list(populations)
    left = {p.name: list(records.get(p.name, {}).get("projections", ())) for p in populations}
    places = [left[target].pop(0) if left[target] else None for _, target, _ in connections]
    ordered = list(connections) if any(left.values()) else _sorted(connections, places)
    return found, ordered, _sorted(readouts, [records.get(r.name, {}).get("place") for r in readouts])


def _sorted(items: Sequence[_Item], places: Sequence[int | None]) -> list[_Item]:
    """Return items in the order of their places if these are all of them, else as they are."""
    if {place for place in places if place is not None} != set(range(len(items))):
        return list(items)
    return [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0] or 0)]
