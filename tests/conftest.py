"""Shared fixtures, and the option that chooses the backends of the equivalence suite."""

from __future__ import annotations

import os
import random
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# TensorFlow's start-up messages would drown the tests' own output; this must be set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# Other processes work beside the tests, so that how long an example takes says nothing. All else is as in Hypothesis,
# which has settings of its own where CI is set.
settings.register_profile("no deadline", settings.default, deadline=None)
settings.load_profile("no deadline")

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Where other people's trained models and MNIST are, if they are there at all."""
    return Path(os.environ.get("STROP_SHARED", ROOT.parent / "shared"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        help="a backend to test (again for more); default: all installed",
    )
    parser.addoption(
        "--keras-2",
        metavar="FOLDER",
        help="where tf_keras is; it is then `tf.keras` too, as its SpectralNormalization expects",
    )


def pytest_configure(config: pytest.Config) -> None:
    if folder := config.getoption("--keras-2"):
        sys.path.insert(0, folder)
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow reads it when it is imported.


def pytest_runtest_setup(item: pytest.Item) -> None:
    # New models of Keras draw weights from the global generators of Python and NumPy: the same ones each time.
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global one is meant)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note whether a test ran, and why not: `.ci/run` names those that ran in no environment."""
    folder = os.environ.get("STROP_OUTCOMES")
    if folder and (report.when == "call" or report.outcome == "skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        with (Path(folder) / f"{os.getpid()}.txt").open("a") as file:
            file.write("\t".join([report.outcome, report.nodeid, " ".join(reason.split())]) + "\n")


@pytest.fixture
def shared() -> Path:
    pytest.importorskip("keras", reason="other people's trained models are Keras models, and Keras is not installed")
    folder = shared_folder()
    if not (folder / "models").is_dir():
        pytest.skip(f"other people's trained models are not at {folder}")
    return folder
