"""The framework that Keras runs on: chosen where Keras's own default, TensorFlow, is not installed."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

# Keras's name of each framework that trains, and the package that it is; in the order of preference.
_PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
_DISTRIBUTIONS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}


def choose_framework() -> None:
    """Let Keras run on an installed framework, unless the user chose one.

    Keras 3.15 (`keras/src/backend/config.py`) takes the environment variable `KERAS_BACKEND`, else ``keras.json`` in
    its folder, else TensorFlow; at its first import it writes ``keras.json`` with that default, whether or not
    TensorFlow is installed. So the file's word counts only where its framework is there. Nothing is changed once Keras
    is imported.
    """
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    installed = [name for name, package in _PACKAGES.items() if find_spec(package) is not None]
    if installed and _configured() not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]


def _configured() -> str:
    """Return what Keras's configuration file says, or its default."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        found = json.loads((Path(home) / "keras.json").read_text("utf-8"))
        return str(found.get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def describe_framework() -> str:
    """Return Keras and what it runs on, with versions.

    >>> describe_framework()
    'Keras 3.15.1 on tensorflow 2.21.0'
    """
    import keras

    name = keras.backend.backend()
    for distribution in _DISTRIBUTIONS.get(name, ()):
        try:
            return f"Keras {keras.__version__} on {name} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return f"Keras {keras.__version__} on {name}"
