"""The picture of a graph: every node is in it, depth runs along one axis, and skip connections go round the boxes."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from strop.errors import DataError, ExtraMissingError, StropError
from strop.graph import Dense, Graph, Input, Population, Readout

pytest.importorskip("networkx", reason="pictures need the extra plot")
pytest.importorskip("matplotlib", reason="pictures need the extra plot")

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch


def residual(names: tuple[str, ...] = ("a", "b", "c", "d")) -> Graph:
    """Four populations in a row, and two projections that skip one and two of them."""
    a, b, c, d = names
    square = Dense(np.ones((3, 3)))
    return Graph.from_nodes(
        [Input("x", (3,))],
        [Population(name, (3,), 0.5, 0.0) for name in names],
        [("x", a, square), (a, b, square), (b, c, square), (c, d, square), (a, c, square), (a, d, square)],
        [Readout("out", "softmax", (d,), (Dense(np.ones((3, 2))),), np.zeros(2))],
        ["out"],
    )


def texts(svg: str) -> list[str]:
    return [
        "".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")
    ]


def test_every_node_is_drawn_with_its_numbers_and_every_step_on_the_axis() -> None:
    found = texts(residual().plot().svg())
    for text in ("x", "a", "b", "c", "d", "out", "softmax", "encoding host"):
        assert found.count(text) == 1, text
    assert found.count("3 neurons") == 4
    assert found.count("9 synapses") == 2
    assert found.count("18 synapses") == 2
    assert [text for text in found if text.startswith("step ")] == [f"step {n}" for n in range(1, 5)]
    assert sorted(text for text in found if text.startswith("delay")) == ["delay 2", "delay 3"]
    assert {"input", "on the host", "on the simulator", "read-out"} <= set(found)


def test_depth_runs_to_the_right_and_boxes_do_not_overlap() -> None:
    axes = residual().plot().figure.axes[0]
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 6
    left = [box.x0 for box in boxes]
    assert left == sorted(left)
    assert all(before.x1 < after.x0 for before, after in pairwise(boxes))


def test_arrows_that_skip_a_depth_pass_no_box_between() -> None:
    axes = residual().plot().figure.axes[0]
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 7
    bent = 0
    for arrow in arrows:
        path = arrow.get_connectionstyle()(*arrow._posA_posB)
        points = path.interpolated(1).vertices
        if len(path.vertices) == 3 and abs(path.vertices[1][1] - path.vertices[0][1]) > 1e-6:
            bent += 1
            (x0, y0), (x1, y1), (x2, y2) = path.vertices
            t = np.linspace(0.02, 0.98, 99)
            x = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2
            y = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2
            inside = [(box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1) for box in boxes]
            assert not np.any(inside)
        assert np.isfinite(points).all()
    assert bent == 2


def test_boxes_of_one_depth_stand_apart_and_near_their_sources() -> None:
    weight = Dense(np.ones((3, 3)))
    names = ["p", "q", "r", "from_r", "from_p"]
    graph = Graph.from_nodes(
        [Input("x", (3,))],
        [Population(name, (3,), 0.5, 0.0) for name in names],
        [("x", "p", weight), ("x", "q", weight), ("x", "r", weight), ("r", "from_r", weight), ("p", "from_p", weight)],
        (),
        ["from_r", "from_p"],
    )
    axes = graph.plot().figure.axes[0]
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    level = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert len({box.y0 for box in boxes[1:4]}) == 3
    assert (level["from_r"] > level["from_p"]) is (level["r"] > level["p"])


def test_the_same_graph_gives_the_same_picture() -> None:
    assert residual().plot().svg() == residual().plot().svg()
    assert residual().plot().svg() != residual(("a", "b", "c", "e")).plot().svg()
    assert residual().plot()._repr_svg_().startswith("<?xml")


def test_names_are_text_and_nothing_else() -> None:
    names = ("<script>", "$x^2$", "a&b", "long" * 30)
    found = texts(residual(names).plot().svg())
    assert {"<script>", "$x^2$", "a&b"} <= set(found)
    assert any("…" in text and len(text) < 30 for text in found)


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_pictures_are_written_in_three_formats(suffix: str, start: bytes, tmp_path: Path) -> None:
    residual().plot(tmp_path / f"net{suffix}")
    assert (tmp_path / f"net{suffix}").read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [f"net{suffix}"]


def test_other_names_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for name, message in (("net.bmp", r"must end in .svg, .png, .pdf"), ("no/net.svg", "does not exist")):
        with pytest.raises(DataError, match=message):
            residual().plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'strop\[plot\]'") as caught:
        residual().plot()
    assert isinstance(caught.value, StropError)
    assert caught.value.exit_code == 2


def test_another_process_draws_the_same_picture() -> None:
    """Python's hashes of names differ from process to process."""
    code = (
        "import hashlib, numpy as np\n"
        "from strop.graph import Dense, Graph, Input, Population\n"
        "names = [f'p{number}' for number in range(9)]\n"
        "g = Graph.from_nodes([Input('x', (3,))], [Population(n, (3,), 0.5, 0.0) for n in names],\n"
        "    [('x', n, Dense(np.ones((3, 3)))) for n in names], (), names)\n"
        "print(hashlib.sha256(g.plot().svg().encode()).hexdigest())\n"
    )
    pictures = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": value},
        ).stdout
        for value in ("0", "1", "2")
    }
    assert len(pictures) == 1
