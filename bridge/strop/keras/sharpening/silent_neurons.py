"""Dead and stuck neurons: those that never fire, or fire in every frame, and so carry no information.

Sharpening produces them: all inputs of such a neuron lie on one side of its threshold. The network could do without
them, and many of them in one layer explain a loss of accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError
from strop.keras.sharpness import named_spiking_layers


@dataclass(frozen=True)
class LayerNeurons:
    """How often each neuron of one spiking layer fired."""

    name: str
    """The layer, as in `get_sharpness`; numbered where it is shared and has several shapes."""
    spikes: NDArray[np.int64]
    """Frames in which each neuron fired, one number per neuron, in the layer's shape."""
    frames: int
    """Frames that the layer received (several times those of the report, for a shared layer)."""

    @property
    def units(self) -> int:
        """Number of neurons (the name is that of the JSON key)."""
        return int(self.spikes.size)

    @property
    def dead(self) -> int:
        """Number of neurons that never fired."""
        return int((self.spikes == 0).sum())

    @property
    def stuck(self) -> int:
        """Number of neurons that fired in every frame."""
        return int((self.spikes == self.frames).sum())

    @property
    def rate(self) -> float:
        """Spikes per neuron and frame."""
        return float(self.spikes.mean() / self.frames)

    @property
    def channels(self) -> int:
        """How many filters a convolution has; the neurons themselves for a dense layer."""
        return int(self.spikes.shape[self._channel_axis])

    @property
    def dead_channels(self) -> int:
        """How many filters fired nowhere: at the border of a frame single neurons may be silent for good reason."""
        return int((self._by_channel() == 0).all(axis=1).sum())

    @property
    def stuck_channels(self) -> int:
        """How many filters fired everywhere, in every frame."""
        return int((self._by_channel() == self.frames).all(axis=1).sum())

    @property
    def _channel_axis(self) -> int:
        return 0 if self.spikes.ndim > 1 and keras.config.image_data_format() == "channels_first" else -1

    def _by_channel(self) -> NDArray[np.int64]:
        return np.moveaxis(self.spikes, self._channel_axis, 0).reshape(self.channels, -1)


@dataclass(frozen=True)
class NeuronReport:
    """Dead and stuck neurons of each spiking layer on some frames; `print` it for a table."""

    frames: int
    layers: tuple[LayerNeurons, ...]

    @property
    def dead(self) -> int:
        """Dead neurons in all layers."""
        return sum(layer.dead for layer in self.layers)

    @property
    def stuck(self) -> int:
        """Stuck neurons in all layers."""
        return sum(layer.stuck for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain numbers, for JSON."""
        keys = ("name", "units", "dead", "stuck", "rate", "channels", "dead_channels", "stuck_channels")
        return {"frames": self.frames, "layers": [{key: getattr(layer, key) for key in keys} for layer in self.layers]}

    def __str__(self) -> str:
        width = max([len(layer.name) for layer in self.layers] + [5])
        lines = [f"{'layer':<{width}}  {'neurons':>8}  {'dead':>6}  {'stuck':>6}  {'rate':>6}"]
        for layer in self.layers:
            lines.append(
                f"{layer.name:<{width}}  {layer.units:>8,}  {layer.dead:>6,}  {layer.stuck:>6,}  {layer.rate:>6.3f}"
                + _filters(layer)
            )
        return "\n".join(lines)


def _filters(layer: LayerNeurons) -> str:
    if layer.spikes.ndim == 1:
        return ""
    return f"  (filters: {layer.dead_channels} of {layer.channels} dead, {layer.stuck_channels} stuck)"


def neuron_report(model: Any, frames: Any, *, batch_size: int = 256) -> NeuronReport:
    """Count the neurons of each spiking layer that never fire (dead) or always do (stuck) on `frames`.

    >>> report = neuron_report(model, x_val)
    >>> print(report)
    layer             neurons    dead   stuck    rate
    spiking_brelu         256       3       0   0.212
    spiking_brelu_1       100       0       1   0.304

    A neuron fires where its activation is at least 0.5, which is where it would fire if the layer were fully sharpened;
    so the report can be read while the network is still blunt.

    Parameters
    ----------
    model : keras.Model, built
        Of any kind, with spiking activations anywhere in it.
    frames : array, shape (n, *input_shape), or a list or dict of them
        As many as it takes to believe that a neuron which is silent on all of them is dead: a thousand or more. uint8
        is scaled by 1/255.
    batch_size : int
        Frames per forward pass.

    Returns
    -------
    NeuronReport

    Raises
    ------
    DataError
        If the model has no spiking activation, or if there are no frames.
    """
    layers = named_spiking_layers(model)
    if not layers:
        raise DataError(f"model {getattr(model, 'name', model)!r} has no spiking activation to report on")
    frames = keras.tree.map_structure(_as_floats, frames)
    counts = {len(array) for array in keras.tree.flatten(frames)}
    if len(counts) != 1 or 0 in counts:
        raise DataError(f"neuron_report needs the same number of frames, at least one, for each input; got {counts}")
    (count,) = counts
    gathered: dict[tuple[str, tuple[int, ...]], _Gathered] = {}
    with _observed(layers, gathered):
        for begin in range(0, count, batch_size):
            batch = keras.tree.map_structure(lambda array, at=begin: array[at : at + batch_size], frames)
            model(batch, training=False)
    return NeuronReport(count, tuple(_reports(list(layers), gathered)))


@dataclass
class _Gathered:
    spikes: NDArray[np.int64]
    frames: int


def _as_floats(frames: Any) -> NDArray[Any]:
    array = np.asarray(frames)
    if array.ndim == 0:
        raise DataError("neuron_report needs arrays of frames, the frames first")
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array


@contextmanager
def _observed(layers: dict[str, Any], gathered: dict[tuple[str, tuple[int, ...]], _Gathered]) -> Iterator[None]:
    """Add what the layers compute to `gathered`, however deep in the model and however often they are called."""

    def observer(name: str) -> Any:
        def observe(outputs: Any) -> None:
            fired = np.asarray(keras.ops.convert_to_numpy(outputs)) >= 0.5
            spikes = fired.sum(axis=0, dtype=np.int64)
            known = gathered.setdefault((name, spikes.shape), _Gathered(np.zeros_like(spikes), 0))
            known.spikes += spikes
            known.frames += len(fired)

        return observe

    try:
        for name, layer in layers.items():
            layer.observer = observer(name)
        yield
    finally:
        for layer in layers.values():
            layer.observer = None


def _reports(names: Sequence[str], gathered: dict[tuple[str, tuple[int, ...]], _Gathered]) -> Iterator[LayerNeurons]:
    for name in names:
        shapes = [shape for known, shape in gathered if known == name]
        for number, shape in enumerate(shapes, start=1):
            found = gathered[name, shape]
            yield LayerNeurons(name if len(shapes) == 1 else f"{name}#{number}", found.spikes, found.frames)


def validation_frames(model: Any, limit: int = 2048) -> Any | None:
    """Return up to `limit` frames of the validation data that `fit` is using now; None where they cannot be had.

    Keras hands callbacks no data. Its iterator over the validation set is private (keras 3.8 to 3.15,
    `Trainer._eval_epoch_iterator`), so nothing may depend on finding it.
    """
    adapter = getattr(getattr(model, "_eval_epoch_iterator", None), "data_adapter", None)
    # A generator can be read only once, and the next validation needs it.
    if adapter is None or type(adapter).__name__ == "GeneratorDataAdapter":
        return None
    batches: list[NDArray[Any]] = []
    try:
        for batch in adapter.get_numpy_iterator():
            frames = batch[0] if isinstance(batch, tuple | list) else batch
            if isinstance(frames, dict | list | tuple):
                return None
            batches.append(np.asarray(frames))
            if sum(map(len, batches)) >= limit:
                break
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    return np.concatenate(batches)[:limit] if batches else None
