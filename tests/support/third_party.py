"""Warnings of other people's packages, each named, for `pytest.mark.filterwarnings`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest


def require_installed(distribution: str) -> None:
    """Skip where a distribution is not installed; `importorskip` takes the folder tests/unit/nengo for Nengo."""
    try:
        version(distribution)
    except PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")


# Brian2 2.9 calls pyparsing 3.3 by its old names while it is imported.
BRIAN2_IMPORT = pytest.mark.filterwarnings(r"ignore:'\w+' (argument is )?deprecated\W:DeprecationWarning")
# PyNN 0.13 on NEURON: it says so when mpi4py is not there.
PYNN_NEURON_IMPORT = pytest.mark.filterwarnings("ignore:mpi4py not available:UserWarning")
# Nengo 4.1 reaches into NumPy 2 by the old name of a private module while it is imported.
NENGO_IMPORT = pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
