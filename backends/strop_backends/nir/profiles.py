"""Profiles: what the tools that read NIR take of it, and how they integrate, reset and compare.

Everything here was read in the sources of the releases that it names. NIR's own equation of a LIF is `tau dv/dt =
(v_leak - v) + r I`; one step of Euler's method with `tau = dt`, `r = 1` and `v_leak = 0` gives `v = I`, whatever v was
before: a neuron without memory. That is how a threshold of strop's becomes a LIF. Tools differ in the rest: the step
they take, `>` or `>=`, how many thresholds a layer may have, and which maps they know.

* snnTorch 1.0.0 (`import_nir.py`, `_neurons/leaky.py`): dt is 1e-4, `beta = 1 - dt / tau`, `mem = beta mem + input`,
  and a spike where `mem - threshold > 0`; one threshold for a layer. IF becomes `Leaky(beta=0.9)`, which is no IF. No
  Conv1d, Scale, SumPool2d, Threshold or Delay. nirtorch 2.6 (`nir_interpreter.py`) carries it out: it adds up what
  meets at a node, takes one Input, and never ends with two Outputs.
* Norse 1.1.0 (`utils/import_nir.py`, `functional/lif_box.py`): `v += dt / tau (input + v_leak - v)` in float32, a spike
  where `v - v_th > 0`; dt is an argument, 1e-3 by default. In float32 `v + (input - v)` is `input` only from `v = 0`,
  so each frame starts with a new state. Two paths that meet are not added up (nirtorch's `trace_execution` is a walk in
  depth: a node runs before its second source). Its SumPool2d divides by the size of the window and multiplies again.
* Sinabs 3.1.3 (`nir.py`, `layers/functional/lif.py`): `alpha = exp(-1 / tau)` with tau in steps, which is 0 in float32
  for any tau below 0.0096; `v = alpha v + input`, and `MultiSpike` counts how often v holds the threshold. With
  `SingleSpike`, which the user sets, a spike where `v - threshold >= 0`. A LIF whose `v_leak` has more than one axis
  ends in an error, so images of neurons are IFs (`alpha = 1`), and each frame starts with a new state. No Linear, no
  Scale; its Conv1d asks an array for `detach`. It needs nir 1.0.4, which knows neither metadata nor `v_reset`, and the
  same walk in depth carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.errors import BackendError, did_you_mean
from strop_backends.nir.emit import MAPS

POOLS = ("auto", "sum", "convolution")


@dataclass(frozen=True)
class Profile:
    """How a NIR file is written for a consumer, or a family of them.

    Attributes
    ----------
    name, consumer : str
        As the user calls it, and what it was read in.
    neuron, image_neuron : {"Threshold", "LIF", "IF"}
        The node that stands for a population, if it is a vector, and if it is an image, channels first.
    maps : frozenset of str
        Linear nodes that the consumer knows.
    dt : float
        The step, in the unit of tau and of delays; the default where `any_dt`, else the only one.
    precision : {"float64", "float32"}
        The default where `any_precision`, else the only one.
    fires : {">", ">="}
        The consumer's comparator.
    one_threshold : bool
        Whether a layer has a single threshold.
    delays, merges, many : bool
        Whether the consumer knows Delay, adds up paths that meet, and takes several inputs or outputs.
    batched : bool
        Whether the consumer's tensors have a batch axis, which NIR's have not: a Flatten then counts axes from behind.
    script : str
        The template of `run.py`.
    frames : str
        How frames must be presented, in a sentence of the folder's README.
    """

    name: str
    consumer: str
    neuron: str
    image_neuron: str
    maps: frozenset[str]
    dt: float
    precision: str
    fires: str = ">"
    any_dt: bool = False
    any_precision: bool = False
    one_threshold: bool = False
    delays: bool = False
    merges: bool = True
    many: bool = False
    batched: bool = True
    script: str = "run.py"
    frames: str = ""


_AT_ONCE = "A frame for each step, one after the other; or as a batch, since no neuron remembers a frame."

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "threshold",
            "NIR's equations, one by one",
            "Threshold",
            "Threshold",
            MAPS,
            1.0,
            "float64",
            any_dt=True,
            any_precision=True,
            delays=True,
            many=True,
            batched=False,
            frames=_AT_ONCE,
        ),
        Profile(
            "lif",
            "tools that take a step of Euler's method with dt = tau",
            "LIF",
            "LIF",
            MAPS,
            1e-4,
            "float64",
            any_dt=True,
            any_precision=True,
            delays=True,
            many=True,
            batched=False,
            frames=_AT_ONCE,
        ),
        Profile(
            "snntorch",
            "snnTorch 1.0.0",
            "LIF",
            "LIF",
            frozenset({"Affine", "Linear", "Conv2d"}),
            1e-4,
            "float32",
            one_threshold=True,
            script="run_snntorch.py",
            frames=_AT_ONCE,
        ),
        Profile(
            "norse",
            "Norse 1.1.0",
            "LIF",
            "LIF",
            frozenset({"Affine", "Linear", "Conv2d"}),
            1e-3,
            "float32",
            any_dt=True,
            merges=False,
            script="run_norse.py",
            frames="Every frame with a new state (`state=None`), or all frames as one batch: in float32 a step of "
            "Norse's leaves rounding errors of the frame before.",
        ),
        Profile(
            "sinabs",
            "Sinabs 3.1.3",
            "LIF",
            "IF",
            frozenset({"Affine", "Conv2d"}),
            1e-4,
            "float32",
            fires=">=",
            merges=False,
            script="run_sinabs.py",
            frames="As a batch (`from_nir(graph, batch_size=N, num_timesteps=1)`), or with `reset_states()` of every "
            "layer before each frame. Set `spike_fn = SingleSpike` on every spiking layer: the default, `MultiSpike`, "
            "sends several spikes at once.",
        ),
    )
}


def get_profile(name: str) -> Profile:
    """Return the profile of that name, or raise `BackendError`."""
    if name not in PROFILES:
        raise BackendError(
            f"nir: profile must be one of {', '.join(PROFILES)}; got {name!r}{did_you_mean(name, PROFILES)}"
        )
    return PROFILES[name]


def check_step(profile: Profile, dt: float) -> None:
    """Refuse a step that the consumer does not take, or with which its neurons would keep some of their charge."""
    if not dt > 0:
        raise BackendError(f"nir: dt must be positive, got {dt!r}")
    if not profile.any_dt and dt != profile.dt:
        raise BackendError(f"nir: {profile.consumer} takes steps of dt={profile.dt:g}; leave dt={dt!r} out")
    if profile.name == "norse":
        # Norse computes dt * (1 / tau) in float32; anything but 1 leaves a part of the potential in place.
        short = np.float32(dt)
        if short * (np.float32(1.0) / short) != np.float32(1.0):
            raise BackendError(f"nir: in Norse's float32, dt * (1 / dt) is not 1 for dt={dt!r}; take 0.001 or 1.0")
