"""The five lines of docs/explain.md: a small network is broken in four ways, and each is explained.

python docs/render_explain.py           # writes them into the page
python docs/render_explain.py --check   # ends with 1 if the page has others
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import strop
from strop.graph import Composed, Convolution, Dense, Graph, Input, Population, Readout, Select, SumPool
from strop.running.backend import Runner
from strop.running.reference import ReferenceBackend

_PAGE = Path(__file__).with_name("explain.md")
_CALL = "net.strop --data frames.npz"


def network() -> Graph:
    """An image, a convolution, a pool, and a dense layer of ten neurons behind a flatten."""
    rng = np.random.default_rng(3)
    conv = Convolution((12, 12, 1), rng.normal(0, 0.6, (3, 3, 1, 4)), (1, 1), (1, 1), ((1, 1), (1, 1)))
    pool = SumPool(conv.shape_out, (2, 2), (2, 2), ((0, 0), (0, 0)))
    flatten = Select(pool.shape_out, np.arange(pool.size_out))
    return Graph.from_nodes(
        [Input("image", (12, 12, 1))],
        [
            Population("conv", conv.shape_out, 0.5, np.broadcast_to(rng.normal(0, 0.2, 4), conv.shape_out)),
            Population("pool", pool.shape_out, 0.5, 0.0),
            Population("dense", (10,), 0.5, rng.normal(0, 0.2, 10)),
        ],
        [
            ("image", "conv", conv),
            ("conv", "pool", pool),
            ("pool", "dense", Composed((flatten, Dense(rng.normal(0, 0.2, (144, 10)))))),
        ],
        [Readout("out", "softmax", ("dense",), (Dense(rng.normal(size=(10, 3))),), np.zeros(3))],
        ["out"],
        "net",
    )


class Broken(ReferenceBackend):
    """A backend that runs another graph than it is given."""

    name = "broken"

    def __init__(self, change: Callable[[Graph], Graph]) -> None:
        self.change = change

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        return super().prepare(self.change(graph))


class Late(ReferenceBackend):
    """A backend that records one population a step late."""

    name = "late"

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        honest = super().prepare(graph)

        class Recorded(Runner):
            def run(self, signals: Any) -> Any:
                spikes = honest.run(signals)
                return {**spikes, "pool": np.roll(spikes["pool"], 1, axis=0)}

        return Recorded()


def _neurons(graph: Graph, name: str, **changes: Any) -> Graph:
    changed = tuple(replace(p, **changes) if p.name == name else p for p in graph.populations)
    return replace(graph, populations=changed)


def _into(graph: Graph, name: str, operator: Callable[[Any], Any]) -> Graph:
    changed = tuple(replace(p, operator=operator(p.operator)) if p.target == name else p for p in graph.projections)
    return replace(graph, projections=changed)


def _one_weight(operator: Any) -> Any:
    flatten, dense = operator.stages
    weight = np.array(dense.weight)
    weight[40, 3] += 0.8
    return Composed((flatten, Dense(weight)))


def _channels_first(operator: Any) -> Any:
    order = np.arange(operator.size_in).reshape(operator.shape_in).transpose(2, 0, 1).reshape(-1)
    return Composed((Select(operator.shape_in, order), operator.stages[1]))


BACKENDS = {
    "threshold": Broken(lambda graph: _neurons(graph, "dense", threshold=0.6)),
    "weight": Broken(lambda graph: _into(graph, "dense", _one_weight)),
    "order": Broken(lambda graph: _into(graph, "dense", _channels_first)),
    "delay": Late(),
}


def lines_of(backend: ReferenceBackend) -> list[str]:
    """Return the five lines of a backend that is broken."""
    frames = np.random.default_rng(4).random((200, 12, 12, 1), np.float32)
    report = strop.verify(network(), frames, backends=[backend])
    return report.explanations()[0].lines(_CALL)


def rendered(page: str) -> str:
    """Return the page with the lines of each broken backend between its marks."""
    for name, backend in BACKENDS.items():
        start, end = f"<!-- {name} -->\n```text\n", "\n```\n"
        before, _, after = page.partition(start)
        page = before + start + "\n".join(lines_of(backend)) + end + after.partition(end)[2]
    return page


def main() -> int:
    """Write the page, or check it."""
    page = _PAGE.read_text(encoding="utf-8")
    found = rendered(page)
    if "--check" in sys.argv:
        return int(found != page)
    _PAGE.write_text(found, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
