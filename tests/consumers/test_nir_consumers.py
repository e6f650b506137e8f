"""NIR and the tools that read it, with the tools themselves: `tox -e nir-consumers-snntorch` and its siblings.

Folders of strop's are run by snnTorch, Norse and Sinabs, and networks that these tools write are read by strop. All
that strop does is in a process of its own (`strop_side.py`), with the nir that lies in STROP_NIR_108.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import nir  # noqa: E402

# The tools call what PyTorch, NumPy and nirtorch are about to take away.
pytestmark = pytest.mark.filterwarnings("ignore")

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("STROP_SHARED", HERE.parents[2] / "shared"))
MODELS = ("original_whetstone_mlp.h5", "doryta-ffsnn-mnist", "doryta-lenet-mnist-6-16")
PROFILES = [name for name in ("snntorch", "norse", "sinabs") if importlib.util.find_spec(name)]


def python(
    *arguments: str | Path, nir_first: bool = False, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python, with strop's own nir first where strop is to run."""
    paths = [os.environ.get("STROP_NIR_108", "")] if nir_first else []
    path = os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("model", MODELS)
def test_trained_models_give_every_spike_of_200_frames(model: str, profile: str, tmp_path: Path) -> None:
    if not (SHARED / "models" / model).exists():
        pytest.skip(f"no shared model {model}")
    out, data = tmp_path / "out", SHARED / "data" / "mnist.npz"
    done = python(HERE / "strop_side.py", "export", SHARED / "models" / model, data, profile, out, nir_first=True)
    assert done.returncode == 0, done.stderr
    for arguments in ([], ["--one-by-one", "--limit", "40"]):
        done = python(out / "run.py", *arguments, cwd=out)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("spiking", "max_pool"))]
        assert len(rows) >= 3
        assert all(int(expected) == int(found) > 0 and int(wrong) == 0 for *_, expected, found, wrong in rows)
    # One spike turned round is found.
    with np.load(out / "frames.npz") as file:
        arrays = dict(file)
    key = next(key for key in arrays if key.startswith("expected:"))
    arrays[key].flat[7] ^= True
    np.savez(out / "frames.npz", **arrays)
    done = python(out / "run.py", cwd=out)
    assert done.returncode == 1
    assert "1 spikes DIFFER" in done.stdout


# Written by them -----------------------------------------------------------------------------------------


def quarters(layer: Any, seed: int) -> Any:
    """Give a layer weights and biases whose sums float32 holds exactly."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for values in layer.parameters():
            values.copy_(torch.from_numpy(rng.integers(-6, 7, tuple(values.shape)) / 4))
    return layer


def frames(count: int, shape: tuple[int, ...]) -> Any:
    return (np.random.default_rng(3).random((count, *shape)) < 0.4).astype(np.float32)


def read_by_strop(graph: Any, values: Any, folder: Path, *options: str) -> tuple[Any, str]:
    """Write a tool's graph, have strop read and run it; returns its spikes, or None, and what it says."""
    # snnTorch and Norse write scalars, which HDF5 does not compress; nir 1.0.4 does not compress at all.
    plain = {"compression": None} if "compression" in inspect.signature(nir.write).parameters else {}
    nir.write(str(folder / "net.nir"), graph, **plain)
    np.save(folder / "frames.npy", values)
    arguments = [folder / "net.nir", folder / "frames.npy", folder / "spikes.npz", *options]
    done = python(HERE / "strop_side.py", "read", *arguments, nir_first=True)
    if done.returncode == 2:
        return None, done.stderr
    assert done.returncode == 0, done.stderr
    with np.load(folder / "spikes.npz") as file:
        return list(dict(file).values()), done.stdout


def snntorch_network(beta: float) -> Any:
    import snntorch

    layers = [torch.nn.Linear(12, 20), torch.nn.Linear(20, 8)]
    # One number for each neuron: snnTorch 1.0.0 writes a single one as a node without axes, which nir 1.0.8 refuses.
    made = {"init_hidden": True, "reset_mechanism": "zero"}
    neurons = [snntorch.Leaky(beta=torch.full((n,), beta), threshold=torch.full((n,), 0.75), **made) for n in (20, 8)]
    return torch.nn.Sequential(quarters(layers[0], 0), neurons[0], quarters(layers[1], 1), neurons[1]), neurons


def own_spikes(network: Any, neurons: list[Any], values: Any) -> list[Any]:
    found: list[Any] = []
    for layer in neurons:
        layer.register_forward_hook(
            lambda module, inputs, answer: found.append(answer[0] if isinstance(answer, tuple) else answer)
        )
    with torch.no_grad():
        network(torch.from_numpy(values))
    return [spikes.detach().numpy() > 0.5 for spikes in found]


@pytest.mark.skipif("snntorch" not in PROFILES, reason="snnTorch is not installed")
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_leaky_of_snntorch_is_read_where_it_forgets_and_refused_where_it_remembers(beta: float, tmp_path: Path) -> None:
    from snntorch.export_nir import export_to_nir

    network, neurons = snntorch_network(beta)
    values = frames(40, (12,))
    graph = export_to_nir(network, torch.zeros(1, 12), ignore_dims=[0])
    found, said = read_by_strop(graph, values, tmp_path, "--dt", "1e-4")
    if beta:
        assert found is None
        assert "keeps 0.9 of its potential" in said
        found, said = read_by_strop(graph, values, tmp_path, "--dt", "1e-4", "--memoryless")
        assert "assumed: every frame finds" in said
    else:
        assert not said.strip()
    for layer in neurons:
        layer.reset_mem()
    wanted = own_spikes(network, neurons, values)
    assert [spikes.sum() > 0 for spikes in wanted] == [True, True]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.skipif("norse" not in PROFILES, reason="Norse is not installed")
def test_lif_of_norse_is_read_with_the_tau_that_it_writes(tmp_path: Path) -> None:
    import norse.torch as norse
    from norse.torch.functional.lif_box import LIFBoxParameters

    one, two = quarters(torch.nn.Linear(12, 20), 0), quarters(torch.nn.Linear(20, 8), 1)
    neurons = [
        norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(1000.0), v_th=torch.tensor(0.75))) for _ in "ab"
    ]
    network = norse.SequentialState(one, neurons[0], two, neurons[1])
    graph = norse.to_nir(network, torch.zeros(12))
    values = frames(40, (12,))
    found, said = read_by_strop(graph, values, tmp_path, "--dt", "1e-3")
    # Norse 1.1.0 writes dt / tau_mem_inv, which is dt tau: a thousandth of the time constant that it reads.
    assert found is None
    assert "time constant of 1e-06" in said
    found, _ = read_by_strop(graph, values, tmp_path, "--dt", "1e-6")
    wanted = own_spikes(network, neurons, values)
    assert [spikes.sum() > 0 for spikes in wanted] == [True, True]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.skipif("sinabs" not in PROFILES, reason="Sinabs is not installed")
def test_iaf_of_sinabs_is_refused_and_exact_from_rest(tmp_path: Path) -> None:
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze
    from sinabs.nir import to_nir

    values = frames(40, (12,))
    made = {"spike_fn": SingleSpike, "num_timesteps": 1, "spike_threshold": torch.tensor(0.625)}
    neurons = [IAFSqueeze(**made), IAFSqueeze(**made)]
    one, two = quarters(torch.nn.Linear(12, 20), 0), quarters(torch.nn.Linear(20, 8), 1)
    network = torch.nn.Sequential(one, neurons[0], two, neurons[1])
    graph = to_nir(network, torch.zeros(40, 12))
    found, said = read_by_strop(graph, values, tmp_path)
    assert found is None
    assert "keeps its charge from step to step" in said
    found, said = read_by_strop(graph, values, tmp_path, "--memoryless")
    assert "assumed: every frame finds" in said
    for layer in neurons:
        layer.reset_states()
    wanted = own_spikes(network, neurons, values)
    assert [spikes.sum() > 0 for spikes in wanted] == [True, True]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
