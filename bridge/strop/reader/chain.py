"""Chains of Keras layers that stand for one layer of a file, of a package for quantised networks (Larq, QKeras)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from strop.errors import UnsupportedLayerError

# Maps a latent kernel to the one that is computed with, both tensors of Keras in float32.
KernelQuantizer = Callable[[Any], Any]


@dataclass(frozen=True)
class Expansion:
    """The chain of Keras layers that one layer of a file becomes.

    Attributes
    ----------
    before : tuple of keras.layers.Layer
    padding : Padding or None
        Between `before` and `main`.
    main : keras.layers.Layer
        The one that holds the weights.
    behind : tuple of keras.layers.Layer
    quantizers : dict
        Functions applied to weights of `main` once they are read, by the weights' names.
    """

    before: tuple[Any, ...]
    main: Any
    behind: tuple[Any, ...] = ()
    padding: Padding | None = None
    quantizers: dict[str, KernelQuantizer] = field(default_factory=dict)

    def parts(self, shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """Return the chain for an input of the given shape, with batch axis."""
        padding = self.padding.layers(shape) if self.padding else ()
        return (*self.before, *padding, self.main, *self.behind)

    def __call__(self, inputs: Any) -> Any:
        for part in self.parts(tuple(inputs.shape)):
            inputs = part(inputs)
        return inputs

    def finish(self) -> None:
        """Replace the latent weights, which were read, by those that the package computes with."""
        for variable in self.main.weights:
            if variable.name in self.quantizers:
                variable.assign(self.quantizers[variable.name](variable.value))


@dataclass(frozen=True)
class Padding:
    """Padding with a constant, as much as keeps the extents (`_compute_padding` in larq 0.14, layers_base.py).

    It is zero padding of the values less the constant, which is exact for the values that come in.
    """

    value: float
    name: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    data_format: str
    made: dict[tuple[int | None, ...], tuple[Any, ...]] = field(default_factory=dict)

    def layers(self, shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """Return the layers that pad an input of the given shape, with batch axis; the same ones each time."""
        import keras

        if shape not in self.made:
            extents = shape[2:] if self.data_format == "channels_first" else shape[1:-1]
            widths = []
            for extent, size, stride, dilation in zip(extents, self.kernel, self.strides, self.dilation, strict=True):
                if extent is None:
                    raise UnsupportedLayerError(f"{self.name} pads an input of unknown extents: give the Input a shape")
                padded = (-(-extent // stride) - 1) * stride + (size - 1) * dilation + 1
                total = max(padded - extent, 0)
                widths.append((total // 2, total - total // 2))
            zeros = getattr(keras.layers, f"ZeroPadding{len(widths)}D")
            options = {"data_format": self.data_format} if len(widths) > 1 else {}
            name = f"{self.name}_{len(self.made)}" if self.made else self.name
            self.made[shape] = (
                keras.layers.Rescaling(1.0, -self.value, name=f"{name}_less"),
                zeros(widths[0] if len(widths) == 1 else tuple(widths), name=name, **options),
                keras.layers.Rescaling(1.0, self.value, name=f"{name}_more"),
            )
        return self.made[shape]
