"""The tutorial runs from its first cell to its last, and the page in the manual is the one that it gives."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_tutorial", DOCS / "render_tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up while it is made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page and the figures of a run of now."""
    for name in ("keras", "sklearn", "matplotlib", "brian2", "nengo", "pyNN", "nest"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the tutorial needs {name}, which is not installed")
    folder = tmp_path_factory.mktemp("tutorial")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", DOCS / "render_tutorial.py", "--out", folder],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_page_holds_every_cell_of_the_script(renderer: ModuleType) -> None:
    script = (DOCS / "tutorial.py").read_text(encoding="utf-8")
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert len(renderer.read_cells(script)) > 20
    assert renderer.stale(script, page) == [], "run python docs/render_tutorial.py"


def test_a_changed_cell_is_noticed(renderer: ModuleType) -> None:
    script = (DOCS / "tutorial.py").read_text(encoding="utf-8")
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    changed = script.replace("graph = strop.lower(model)", "graph = strop.lower(model, encoding='binary')")
    assert changed != script
    assert len(renderer.stale(changed, page)) == 1


def test_figures_of_the_page_are_there_and_small(renderer: ModuleType) -> None:
    cells = renderer.read_cells((DOCS / "tutorial.py").read_text(encoding="utf-8"))
    figures = {f"{cell.figure}.svg" for cell in cells if cell.figure}
    assert len(figures) >= 6
    there = {path.name: path.stat().st_size for path in (DOCS / "figures").glob("tutorial-*.svg")}
    assert set(there) == figures
    assert max(there.values()) < MOST_BYTES


def test_links_of_the_readme_lead_to_files() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\((?!https?:)([^)#]+)", readme))
    assert {"docs/tutorial.md", "docs/index.md"} <= targets
    assert [target for target in sorted(targets) if not (DOCS.parent / target).exists()] == []


def test_badges_of_the_readme_are_true() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "badge/Python-3.11_to_3.13-" in readme
    assert f"badge/licence-{project['license'].replace('-', '--')}-" in readme
    assert any(part.startswith("keras>=3") for part in project["optional-dependencies"]["keras"])
    assert "badge/Keras-3-" in readme


def test_the_moving_picture_is_small() -> None:
    assert (DOCS / "wave.gif").stat().st_size < 1_000_000


def test_a_run_gives_the_page_but_for_its_figures_in_numbers(renderer: ModuleType, rendered: Path) -> None:
    now = (rendered / "tutorial.md").read_text(encoding="utf-8")
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert renderer.skeleton(now) == renderer.skeleton(page)
    figures = {path.name for path in (DOCS / "figures").glob("tutorial-*.svg")}
    assert {path.name for path in (rendered / "figures").iterdir()} == figures


def test_what_the_tutorial_promises_holds(rendered: Path) -> None:
    page = (rendered / "tutorial.md").read_text(encoding="utf-8")
    accuracy = re.search(r"test accuracy: ([\d.]+)%", page)
    assert accuracy is not None
    assert float(accuracy[1]) >= 95.0
    counts = re.findall(r"^(?:brian2|nengo|pynn-nest) .* spikes: (\{.*\})$", page, re.MULTILINE)
    assert len(counts) == 3
    assert len(set(counts)) == 1
    assert "PASSED: every spike and every output is accounted for" in page
    faults = re.search(r"passed: False; faults: (\d+), in (\d+) of 360 images", page)
    assert faults is not None
    assert int(faults[1]) == int(faults[2]) > 0
    assert re.search(r"spikes of the last layer: [1-9]\d*; different from the oracle: 0", page)
    assert "360 images took 364 steps" in page
    assert "every spike is as expected" in page
    assert "exit code: 0" in page
