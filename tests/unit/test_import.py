"""`import strop` is light, and modules are found under their old names.

Which room may import which is held by `lint-imports`; see `tool.importlinter` in pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import strop

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
    "jinja2",
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
