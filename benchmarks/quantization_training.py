"""Accuracy against bits of a weight: networks trained with few bits, and rounded to them afterwards.

    python benchmarks/quantization_training.py --data mnist.npz --models runs \
        --json runs/results.json --figure docs/figures/quantization-training.svg

trains what is missing in the folder `--models` (a file for each architecture, number of bits and seed, 0 bits being
float32), rounds the float networks to the same bits, measures all of them on the first `--test` test frames, and prints
the rows of the table in docs/quantization.md. For the trained ones it checks that `strop.quantize` changes no weight
and no spike, and that the proof holds. `--train-only` leaves the rest out, for another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from quantization import compared

import strop
from strop.keras.recipes import train_mnist
from strop.keras.sharpening.rounding import WeightRounding
from strop.quantization.kernels import Kernel
from strop.quantization.quantize import quantize_report

_NAMES = {"mlp": "MLP 256-64-100", "convnet": "convnet 32-64-512-200"}


def train(path: Path, architecture: Any, bits: int, seed: int, data: Any, epochs: int | None) -> None:
    """Train a network with strop's recipe and save it; 0 bits is float32."""
    begin = time.perf_counter()
    arrays = [data[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    trained = train_mnist(*arrays, architecture=architecture, seed=seed, epochs=epochs, weight_bits=bits or None)
    # Not the state of the optimiser, which is two to three times as large as the network.
    network = keras.models.clone_model(trained.model)
    network.set_weights(trained.model.get_weights())
    network.save(path)
    spent = f"{time.perf_counter() - begin:.0f} s on {keras.backend.backend()}"
    print(
        f"{path.name}: {100 * trained.accuracy:.2f} % after {len(trained.history['loss'])} epochs, {spent}", flush=True
    )


def changed_weights(before: strop.Graph, after: strop.Graph) -> tuple[int, int]:
    """Weights that are not the same part of their neuron's heaviest before and after, of how many."""
    changed = total = 0
    for old, new in zip(before.projections, after.projections, strict=True):
        if old.target in before.host_populations:
            continue
        parts = []
        for projection in (old, new):
            kernel = Kernel.of(projection.source, projection.operator)
            heaviest = kernel.per_label(np.abs(kernel.weights), np.maximum)
            parts.append(kernel.weights / kernel.per_weight(np.where(heaviest > 0.0, heaviest, 1.0)))
        # Folding a batch normalisation into float64 weights rounds each of them by 2^-53.
        changed += int(np.count_nonzero(np.abs(parts[0] - parts[1]) > 2.0**-48))
        total += parts[0].size
    return changed, total


def measure(folder: Path, architecture: str, seed: int, bits: list[int], data: Any, test: int) -> list[dict[str, Any]]:
    """Return a row for each number of bits, and one of float32."""
    place, frames, labels = data["x_train"][:1000], data["x_test"][:test], data["y_test"][:test]
    path = folder / f"{architecture}-0-{seed}.keras"
    graph = strop.lower(path)
    rows = []
    for b in bits:
        target = f"int{b}"
        afterwards = quantize_report(graph, target, frames=place).graph
        assert strop.certify(afterwards, target).holds
        *_, exact, on_host = compared(graph, afterwards, frames, labels)
        model = strop.load_model(path)
        rounding = WeightRounding(b)
        rounding.begin(model)
        rounding.end(model)
        shaped = (frames.astype("float32") / 255).reshape(len(frames), *model.input_shape[1:])
        everywhere = float((model.predict(shaped, verbose=0, batch_size=500).argmax(axis=-1) == labels).mean())
        trained = strop.lower(folder / f"{architecture}-{b}-{seed}.keras")
        report = quantize_report(trained, target, frames=place)
        weights, of_weights = changed_weights(trained, report.graph)
        spikes, of_spikes, decisions, accuracy, _ = compared(trained, report.graph, frames, labels)
        row = {
            "architecture": architecture,
            "seed": seed,
            "bits": b,
            "float": exact,
            "trained": accuracy,
            "rounded": everywhere,
            "rounded, first layer on the host": on_host,
            "weights changed": [weights, of_weights],
            "spikes changed": [spikes, of_spikes],
            "decisions changed": decisions,
            "proved": strop.certify(report.graph, target).holds,
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of the table in docs/quantization.md: accuracies in %, one for each seed."""
    lines = [
        "| network | bits | trained | rounded afterwards | the same, first layer on the host |",
        "|---|---|---|---|---|",
    ]
    for architecture in dict.fromkeys(row["architecture"] for row in rows):
        own = [row for row in rows if row["architecture"] == architecture]
        seeds = sorted({row["seed"] for row in own})
        exact = ", ".join(f"{100 * next(r['float'] for r in own if r['seed'] == s):.2f}" for s in seeds)
        lines.append(f"| {_NAMES[architecture]} | float32 | {exact} | | |")
        for bits in sorted({row["bits"] for row in own}, reverse=True):
            cells = [
                ", ".join(
                    f"{100 * row[what]:.2f}" for s in seeds for row in own if (row["seed"], row["bits"]) == (s, bits)
                )
                for what in ("trained", "rounded", "rounded, first layer on the host")
            ]
            lines.append(f"| | {bits} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw test errors against bits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "strop", "svg.fonttype": "none", "font.size": 9})
    architectures = list(dict.fromkeys(row["architecture"] for row in rows))
    columns = len(architectures)
    figure, axes = plt.subplots(1, columns, figsize=(4.0 * columns, 3.4), squeeze=False, sharey=True)
    styles = (
        ("trained", "trained with so few bits", "#1f6f8b", "o"),
        ("rounded", "rounded afterwards", "#c8553d", "s"),
        ("rounded, first layer on the host", "rounded afterwards, but for the first layer", "#d8a048", "^"),
    )
    for place, architecture in zip(axes[0], architectures, strict=True):
        own = [row for row in rows if row["architecture"] == architecture]
        bits = sorted({row["bits"] for row in own})
        exact = 100 * (1 - np.mean([row["float"] for row in own]))
        place.axhline(exact, color="#777777", linestyle="--", linewidth=1, label="float32")
        for what, label, colour, marker in styles:
            errors = [[100 * (1 - row[what]) for row in own if row["bits"] == b] for b in bits]
            means = [np.mean(each) for each in errors]
            place.plot(bits, means, color=colour, linewidth=1.5, marker=marker, markersize=4, label=label)
            for b, each in zip(bits, errors, strict=True):
                place.plot([b] * len(each), each, marker, color=colour, markersize=4, alpha=0.5)
        place.set_yscale("log")
        place.set_xticks(bits)
        place.set_xlabel("bits of a weight, the sign counted")
        place.set_title(_NAMES[architecture], fontsize=10)
        place.set_yticks([0.5, 1, 2, 5, 10, 20, 50, 100], [f"{n:g}" for n in (0.5, 1, 2, 5, 10, 20, 50, 100)])
        place.minorticks_off()
        place.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("test error in %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Keras's mnist.npz")
    parser.add_argument("--models", type=Path, required=True, help="folder of the trained models")
    parser.add_argument("--architectures", default="mlp,convnet")
    parser.add_argument("--bits", default="4,3,2,1")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, help="by default as many as the recipe needs")
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--json", type=Path, help="where to keep the figures; they are taken from it if it is there")
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    bits, seeds = ([int(part) for part in getattr(chosen, name).split(",")] for name in ("bits", "seeds"))
    with np.load(chosen.data) as file:
        data = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    chosen.models.mkdir(parents=True, exist_ok=True)
    measured = chosen.json is not None and chosen.json.exists() and not chosen.train_only
    rows = json.loads(chosen.json.read_text()) if measured else []
    if not measured:
        for architecture in chosen.architectures.split(","):
            for seed in seeds:
                for b in bits if chosen.train_only else [0, *bits]:
                    path = chosen.models / f"{architecture}-{b}-{seed}.keras"
                    if not path.exists():
                        train(path, architecture, b, seed, data, chosen.epochs)
                if not chosen.train_only:
                    rows += measure(chosen.models, architecture, seed, bits, data, chosen.test)
    if chosen.train_only:
        return
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if chosen.figure is not None:
        draw(rows, chosen.figure)


if __name__ == "__main__":
    main()
