"""Draws the README's moving picture: frames of MNIST on their way through a network in Brian2, one step after another.

python docs/make_wave_gif.py examples/models/mnist_convnet.keras mnist.npz docs/wave.gif
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter

import strop

mpl.use("Agg")
_FRAMES = 12
_INK, _SPIKE, _QUIET = "#1a237e", "#3f51b5", "#eceff1"


def tiled(values: np.ndarray) -> np.ndarray:
    """Return one population's spikes as a picture: channels side by side, vectors as rows."""
    if values.ndim == 3:
        height, width, channels = values.shape
        across = max(n for n in range(1, int(channels**0.5) + 1) if channels % n == 0)
        rows = channels // across
        padded = np.full((height + 1, width + 1, channels), np.nan)
        padded[:height, :width] = values
        return (
            padded.reshape(height + 1, width + 1, rows, across)
            .transpose(2, 0, 3, 1)
            .reshape(rows * (height + 1), across * (width + 1))
        )
    across = max(n for n in range(1, 17) if values.size % n == 0)
    return values.reshape(-1, across).astype(float)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(model: Path, data: Path, target: Path) -> None:
    """Run MODEL on the first frames of DATA, compare, and draw TARGET."""
    with np.load(data) as arrays:
        frames, labels = arrays["x_test"][:_FRAMES], arrays["y_test"][:_FRAMES]
    keras_model = strop.load_model(model)
    graph = strop.lower(keras_model)
    report = strop.verify(keras_model, frames, labels, "brian2")
    if not report.passed:
        raise click.ClickException(f"no picture of a network that differs from Keras:\n{report}")
    result = strop.simulate(graph, frames, "brian2")
    draw(graph, frames, result, target)


def draw(graph: Any, frames: np.ndarray, result: Any, target: Path) -> None:
    """Write the picture: column k shows, at step t, the spikes of frame t - k."""
    populations = sorted(graph.populations, key=lambda p: graph.depths[p.name])
    last = max(graph.depths[p.name] for p in populations)
    titles = ["frame in", *(f"{p.name}\n{p.size:,} neurons" for p in populations), "decision"]
    figure, axes = plt.subplots(1, len(titles), figsize=(9.6, 3.0), dpi=90, layout="constrained")
    figure.set_facecolor("white")
    colours = mpl.colors.ListedColormap([_QUIET, _SPIKE])
    colours.set_bad("white")

    def show(step: int) -> list[Any]:
        figure.suptitle(
            f"time step {step}: a new frame enters at every step, and each spike is Keras's own",
            fontsize=10,
            color=_INK,
        )
        for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
            axis.clear()
            axis.set_axis_off()
            axis.set_title(title, fontsize=8, color=_INK)
            depth = (
                0 if place == 0 else last + 1 if place == len(titles) - 1 else graph.depths[populations[place - 1].name]
            )
            number = step - depth
            if not 0 <= number < len(frames):
                continue
            if place == 0:
                axis.imshow(frames[number].reshape(28, 28), cmap="Greys")
            elif place == len(titles) - 1:
                axis.text(0.5, 0.45, str(result.classes[number]), fontsize=44, ha="center", va="center", color=_INK)
                axis.text(0.5, 0.1, f"frame {number + 1}", fontsize=8, ha="center", color="#607d8b")
            else:
                axis.imshow(tiled(result.spikes[populations[place - 1].name][number]), cmap=colours, vmin=0, vmax=1)
        return list(axes)

    animation = FuncAnimation(figure, show, frames=len(frames) + last + 1, interval=700)
    animation.save(target, writer=PillowWriter(fps=1.5))


if __name__ == "__main__":
    main()
