"""The rasters of the examples: every layer's spikes, in the colour of the frame that they answer."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np

from strop.graph import Graph

COLOURS = 10


def draw(graph: Graph, spikes: Mapping[str, np.ndarray], path: str, title: str, together: bool = False) -> None:
    """Draw a raster to a file.

    Parameters
    ----------
    spikes : dict of population name to bool array, shape (frames, neurons)
    title : str
    together : bool
        All layers answer in the step in which the frame enters, as in Nengo; else layer by layer.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(spikes), 1, sharex=True, figsize=(8, 2.2 * len(spikes) + 0.6), squeeze=False)
    for axis, (name, fired) in zip(axes[:, 0], spikes.items(), strict=True):
        frame, neuron = np.nonzero(fired)
        step = frame + (0 if together else graph.depth(name))
        axis.scatter(step, neuron, s=3, c=frame % COLOURS, cmap="tab10", vmin=0, vmax=COLOURS - 1, linewidths=0)
        always = by_bias_alone(graph, name)
        note = f", {always} fire by bias alone" if always else ""
        axis.set_title(f"{name}: {fired.shape[1]} neurons{note}", loc="left", fontsize=9)
        axis.set_ylabel("neuron")
    answers = "every layer answers in it" if together else "a layer of depth d answers it at step n + d"
    axes[-1, 0].set_xlabel(f"time step: frame n enters at step n; {answers}")
    figure.suptitle(f"{title}. Colour: the frame that a spike answers")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"raster: {path}")


def by_bias_alone(graph: Graph, name: str) -> int:
    """Return how many neurons fire whenever nothing inhibits them, on an empty frame too: horizontal lines."""
    population = graph.population(name)
    return int((population.bias >= population.threshold).sum())
