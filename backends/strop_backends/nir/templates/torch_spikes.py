"""Template: copied as it is into standalone folders for tools that are built on PyTorch, beside `run.py`.

It hands the frames to a network that such a tool made of `network.nir`, listens to every layer of neurons, and compares
every spike with what is expected. It needs NumPy, nir and PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import standalone
import torch

# load(graph, count) returns the network, for batches of `count` frames; reset(network) clears all states.
Load = Callable[[Any, int], Any]
Reset = Callable[[Any], None]


def listen(network: Any, names: list[str]) -> dict[str, list[Any]]:
    """Return lists that grow by what the layers of those names answer, each time the network runs."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for name in names:

        def keep(module: Any, inputs: Any, answer: Any, name: str = name) -> None:
            # With its state behind it, or alone.
            spikes = answer[0] if isinstance(answer, tuple) else answer
            found[name].append(spikes.detach().numpy().copy())

        network.get_submodule(name).register_forward_hook(keep)
    return found


def main(load: Load, reset: Reset) -> int:
    """Run all frames as one batch, or one after the other; compare. Returns what the script ends with."""
    parser = standalone.parser("Run the network, and compare every spike with what is expected.")
    parser.add_argument("--one-by-one", action="store_true", help="a frame for each call, not all as one batch")
    arguments = parser.parse_args()
    frames = standalone.load("frames.npz")
    values = frames["input:input"][: arguments.limit].astype(np.float32)
    size = 1 if arguments.one_by_one else len(values)
    network = load(nir.read(standalone.HERE / "network.nir"), size)
    found = listen(network, [key.removeprefix("expected:") for key in frames if key.startswith("expected:")])
    answers = []
    with torch.no_grad():
        for start in range(0, len(values), size):
            reset(network)
            answer = network(torch.from_numpy(values[start : start + size]))
            answers.append((answer[0] if isinstance(answer, tuple) else answer).numpy().copy())
    comparison = standalone.Comparison("neurons", "size", width=40)
    for name, parts in found.items():
        spikes = np.concatenate(parts)
        if not np.isin(spikes, (0, 1)).all():
            print(f"{name} answers with other numbers than 0 and 1")
            comparison.different += 1
        comparison.add(name, frames[f"expected:{name}"][: arguments.limit], spikes > 0.5)
    if "labels" in frames:
        scores = np.concatenate(answers).reshape(len(values), -1)
        classes = standalone.decide(json.loads(str(frames["readout"])), frames, scores)
        standalone.print_accuracy(classes, frames["labels"][: arguments.limit])
    return comparison.finish()
