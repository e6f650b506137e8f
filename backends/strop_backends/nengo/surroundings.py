"""States in which a user's script may leave Nengo before it calls strop; none of them may change a spike.

Each is a context manager that sets the state and undoes it, for the conformance suite and for the property tests that
draw several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import nengo
import numpy as np

# Settings of a parent's config, by class; each is legitimate for what users build themselves.
CONFIGURED: Mapping[str, Mapping[Any, Mapping[str, Any]]] = {
    "noisy ensembles": {
        nengo.Ensemble: {"noise": nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 5), seed=1)},
    },
    "other ensembles": {
        nengo.Ensemble: {
            "neuron_type": nengo.LIFRate(),
            "gain": nengo.dists.Choice([3.0]),
            "bias": nengo.dists.Choice([-2.0]),
            "radius": 4.0,
            "intercepts": nengo.dists.Choice([0.5]),
            "max_rates": nengo.dists.Choice([50]),
            "normalize_encoders": True,
            "n_eval_points": 7,
            "seed": 3,
        },
    },
    "other connections": {
        nengo.Connection: {
            "synapse": nengo.Lowpass(0.1),
            "transform": 0.25,
            "solver": nengo.solvers.LstsqL2(weights=True),
            "scale_eval_points": False,
            "seed": 3,
        },
    },
    "other probes": {nengo.Probe: {"synapse": nengo.Lowpass(0.02), "sample_every": 0.01, "seed": 3}},
    "other nodes": {nengo.Node: {"size_out": 3, "size_in": 2}},
}


@contextmanager
def configured(settings: Mapping[Any, Mapping[str, Any]]) -> Iterator[nengo.Network]:
    """Open the definition of a network with these defaults for its objects."""
    with nengo.Network(seed=9) as parent:
        for kind, values in settings.items():
            for name, value in values.items():
                setattr(parent.config[kind], name, value)
        yield parent
    assert not parent.all_ensembles, "a network that was only simulated has become part of the user's"


@contextmanager
def rc(section: str, option: str, value: str) -> Iterator[None]:
    """Set an option of `nengo.rc` within a `with` block."""
    before = nengo.rc.get(section, option)
    nengo.rc.set(section, option, value)
    try:
        yield
    finally:
        nengo.rc.set(section, option, before)


@contextmanager
def _used() -> Iterator[None]:
    """Run a network of the user's, and keep it."""
    with nengo.Network(seed=1, add_to_container=False) as mine:
        # Given in full, for it may be defined within a parent that has another configuration.
        nengo.Node(0.5, size_in=None, size_out=1)
    with rc("decoder_cache", "enabled", "False"), nengo.Simulator(mine, progress_bar=False) as simulator:
        simulator.run_steps(3)
        yield
        simulator.run_steps(3)
        assert simulator.n_steps == 6


@contextmanager
def _seeded() -> Iterator[None]:
    # The global generator is what Nengo draws from where no seed is given (`simulator.py`).
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(77)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


SURROUNDINGS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    **{f"in a network with {name}": partial(configured, settings) for name, settings in CONFIGURED.items()},
    "in 32 bits": partial(rc, "precision", "bits", "32"),
    "without decoder cache": partial(rc, "decoder_cache", "enabled", "False"),
    "failing fast": partial(rc, "nengo.Simulator", "fail_fast", "True"),
    "with progress bars": partial(rc, "progress", "progress_bar", "True"),
    "a simulator that is running": _used,
    "a seed of one's own": _seeded,
}
