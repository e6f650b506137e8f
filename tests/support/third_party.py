"""Warnings of other people's packages, each named, for `pytest.mark.filterwarnings`."""

from __future__ import annotations

import pytest

# Brian2 2.9 calls pyparsing 3.3 by its old names while it is imported.
BRIAN2_IMPORT = pytest.mark.filterwarnings(r"ignore:'\w+' (argument is )?deprecated\W:DeprecationWarning")
# PyNN 0.13 on NEURON: it says so when mpi4py is not there.
PYNN_NEURON_IMPORT = pytest.mark.filterwarnings("ignore:mpi4py not available:UserWarning")
# Nengo 4.1 reaches into NumPy 2 by the old name of a private module while it is imported.
NENGO_IMPORT = pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
