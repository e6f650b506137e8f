"""`import strop` is light, and arrows between packages point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import strop
import strop_backends

BRIDGE, BACKENDS = Path(strop.__file__).parent, Path(strop_backends.__file__).parent
HEAVY = {
    "tensorflow",
    "keras",
    "brian2",
    "nengo",
    "pyNN",
    "nest",
    "nir",
    "scipy",
    "h5py",
    "rich",
    "click",
    "matplotlib",
}


def test_importing_strop_loads_no_simulator_and_no_keras() -> None:
    code = "import sys, strop; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_everything_promised_is_there() -> None:
    pytest.importorskip("keras")
    for name in strop.__all__:
        assert getattr(strop, name) is not None
    assert strop.keras.SpikingBReLU.threshold == 0.5
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        strop.nonsense  # noqa: B018


def test_the_function_export_stays_when_its_room_is_imported() -> None:
    for _ in range(2):
        import_module("strop.export.arrays")
        assert callable(strop.export)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def test_the_bridge_imports_no_simulator() -> None:
    simulators = {"brian2", "nengo", "pyNN", "nest", "nir", "neuron", "spynnaker", "strop_backends"}
    files = list(BRIDGE.rglob("*.py"))
    assert len(files) > 20
    for path in files:
        assert not {name.split(".")[0] for name in imports(path)} & simulators, path


def test_the_graph_imports_nothing_of_ours_but_the_errors() -> None:
    for path in (BRIDGE / "graph").rglob("*.py"):
        ours = {name for name in imports(path) if name.startswith("strop") and not name.startswith("strop.graph")}
        assert ours <= {"strop.errors"}, path


@pytest.mark.parametrize(
    ("old", "names"),
    [
        ("backend", ("Backend", "Runner", "get_backend", "backend_names")),
        ("encode", ("as_frames", "encode", "frame_notes", "plane_weights")),
        ("reference", ("ReferenceBackend", "evaluate", "host_spikes", "gamma")),
        ("report", ("Report", "LayerReport")),
        ("inspection", ("inspect", "Inspection", "PopulationCost")),
        ("page", ("write_page", "write_training_page")),
        ("store", ("is_graph_file",)),
    ],
)
def test_modules_are_still_found_under_their_old_names(old: str, names: tuple[str, ...]) -> None:
    sys.modules.pop(f"strop.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"strop.{old} is strop"):
        module = import_module(f"strop.{old}")
    assert all(hasattr(module, name) for name in names)


def test_names_that_never_were_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("strop.nonsense")
    assert callable(strop.verify)
    assert callable(strop.simulate)


def test_no_backend_imports_a_sibling() -> None:
    folders = [folder for folder in BACKENDS.iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    assert folders
    for folder in folders:
        for path in folder.rglob("*.py"):
            theirs = {name.split(".")[1] for name in imports(path) if name.startswith("strop_backends.")}
            assert theirs <= {folder.name}, path
