"""Hypotheses about kernels and windows: kernels read another way round, other windows, dilations and paddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import permutations, product
from typing import Any

import numpy as np

from strop.graph import Composed, Convolution, Dense, Operator, Select, SumPool
from strop.graph.operators import stages_of
from strop.verification.explanation.case import Case, Guess
from strop.verification.explanation.hypotheses.weights import factor_of, scaled
from strop.verification.explanation.places import place_text

# Windows, dilations, and axes that are tried.
_WIDEST, _MOST_DILATION, _MOST_AXES, _MOST_PLACES = 4, 3, 3, 25
_PADDINGS = (("wrap", "those of the other end"), ("edge", "the last ones, repeated"), ("reflect", "mirrored values"))


def other_kernels(case: Case) -> Iterator[Guess]:
    """A projection's kernel is read another way: transposed, flipped, in another memory order; or its padding is."""
    yield from _with(case, _variants)


def other_windows(case: Case) -> Iterator[Guess]:
    """A pool has another window, a kernel another dilation, or a border holds other values than zeros."""
    yield from _with(case, _windows)


def other_layouts(case: Case) -> Iterator[Guess]:
    """The weights of a kernel stand in memory in any other order of its axes."""
    yield from _with(case, _layouts)


def missing_taps(case: Case) -> Iterator[Guess]:
    """One place of a kernel, a row, or a column of it is missing, has the other sign, or is scaled."""
    if not case.simple:
        return
    for place, p in enumerate(case.projections):
        stages = list(stages_of(p.operator))
        for number, stage in enumerate(stages):
            if not isinstance(stage, Convolution) or not 1 < math.prod(stage.kernel.shape[:-2]) <= _MOST_PLACES:
                continue
            for words, where in _places(stage.kernel.shape[:-2]):
                kernel = np.zeros(stage.kernel.shape)
                kernel[where] = stage.kernel[where]
                operator = Composed((*stages[:number], stage.with_kernel(kernel), *stages[number + 1 :]))
                few = case.few
                part = case.flat(operator.apply(case.sent[p.source][few]))
                if factor_of(case, part, few).left < 0.6 * case.faults(few):
                    part = case.flat(operator.apply(case.sent[p.source]))
                    yield scaled(case, part, f"the kernel's {words} in {case.arrow(place)}", 5.0)


def _places(extents: tuple[int, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for place in np.ndindex(*extents):
        yield f"place {place_text(place)}", place
    if len(extents) == 2:
        for row in range(extents[0]):
            yield f"row {row}", (row,)
        for column in range(extents[1]):
            yield f"column {column}", (slice(None), column)


def _with(case: Case, variants: Callable[[Operator], Iterator[tuple[str, Operator]]]) -> Iterator[Guess]:
    for place, p in enumerate(case.projections):
        stages = list(stages_of(p.operator))
        for number, stage in enumerate(stages):
            for words, other in variants(stage):
                operator = Composed((*stages[:number], other, *stages[number + 1 :]))
                sentence = f"{words} in {case.arrow(place)}"
                guess = case.try_potentials("order", sentence, 7.0, case.other_operator(place, operator))
                if guess is not None:
                    yield guess


def _variants(stage: Operator) -> Iterator[tuple[str, Operator]]:
    if isinstance(stage, Dense):
        yield from _dense_variants(stage)
    elif isinstance(stage, Convolution):
        yield from _convolution_variants(stage)


def _dense_variants(stage: Dense) -> Iterator[tuple[str, Operator]]:
    weight, shape = stage.weight, stage.weight.shape
    if shape[0] == shape[1]:
        yield "the kernel is transposed", Dense(weight.T, stage.leading)
    else:
        yield "the kernel is transposed (memory order)", Dense(weight.T.reshape(shape), stage.leading)
        yield "the kernel is transposed (memory order)", Dense(weight.reshape(shape[::-1]).T, stage.leading)


def _convolution_variants(stage: Convolution) -> Iterator[tuple[str, Operator]]:
    kernel = stage.kernel
    spatial = kernel.ndim - 2
    if spatial > 1 and len(set(kernel.shape[:-2])) == 1:
        yield "rows and columns of the kernel are exchanged (transposed)", stage.with_kernel(kernel.swapaxes(0, 1))
    if max(kernel.shape[:-2]) > 1:
        whole = tuple(range(spatial))
        yield "the kernel is flipped (convolution for correlation)", stage.with_kernel(np.flip(kernel, whole))
        for axis in whole if spatial > 1 else ():
            name = "rows" if axis == spatial - 2 else "columns"
            yield f"the kernel's {name} are reversed", stage.with_kernel(np.flip(kernel, axis))
    if spatial == 2 and kernel.shape[0] == kernel.shape[1] > 1:
        for turns, way in ((1, "left"), (3, "right")):
            words = f"the kernel is turned by 90 degrees to the {way}"
            yield words, stage.with_kernel(np.rot90(kernel, turns, (0, 1)))
    if kernel.shape[-1] == kernel.shape[-2] and kernel.shape[-1] > 1:
        words = "incoming and outgoing channels of the kernel are exchanged (transposed)"
        yield words, stage.with_kernel(kernel.swapaxes(-1, -2))
    outward = (spatial + 1, spatial, *range(spatial))
    words = "the kernel is read in another memory order (filters first, not last)"
    yield words, stage.with_kernel(kernel.transpose(outward).reshape(kernel.shape))
    stored = [kernel.shape[axis] for axis in outward]
    yield words, stage.with_kernel(kernel.reshape(stored).transpose(np.argsort(outward)))
    yield from _moved_paddings(stage)


def _moved_paddings(stage: Convolution) -> Iterator[tuple[str, Operator]]:
    """Yield the convolution with its window moved by one, and with the padding of its ends exchanged."""
    steps = [step for step in product((-1, 0, 1), repeat=len(stage.padding)) if any(step)]
    moved = [tuple((a + by, b - by) for (a, b), by in zip(stage.padding, step, strict=True)) for step in steps]
    turned = tuple((after, before) for before, after in stage.padding)
    for padding in dict.fromkeys([turned, *moved]):
        if padding == stage.padding or min(min(pair) for pair in padding) < 0:
            continue
        other = Convolution(
            *(stage.shape_in, stage.kernel, stage.strides, stage.dilation, padding),
            *(stage.groups, stage.transposed, stage.output_padding),
        )
        if other.shape_out == stage.shape_out:
            yield f"padding is {padding} and not {stage.padding}: the kernel is shifted", other


def _windows(stage: Operator) -> Iterator[tuple[str, Operator]]:
    if isinstance(stage, SumPool):
        yield from _other_pools(stage)
    elif isinstance(stage, Convolution) and not stage.transposed:
        yield from _dilated(stage)
        yield from _bordered(stage)


def _other_pools(stage: SumPool) -> Iterator[tuple[str, Operator]]:
    axes = len(stage.size)
    for size in product(range(1, _WIDEST + 1), repeat=axes):
        for shift in (0, 1):
            padding = tuple(
                _fitting(n, extent, stride, out, shift)
                for n, extent, stride, out in zip(
                    stage.shape_in[:-1], size, stage.strides, stage.shape_out[:-1], strict=True
                )
            )
            other = SumPool(stage.shape_in, size, stage.strides, padding)
            if other.shape_out == stage.shape_out and (size, padding) != (stage.size, stage.padding):
                at = " and begins one place earlier" if shift else ""
                yield f"the window of the pool is {_by(size)} and not {_by(stage.size)}{at}", other


def _fitting(n: int, extent: int, stride: int, out: int, before: int) -> tuple[int, int]:
    """Return the padding with which a window gives so many outputs."""
    return before, max(0, (out - 1) * stride + extent - n - before)


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _dilated(stage: Convolution) -> Iterator[tuple[str, Operator]]:
    extents = stage.kernel.shape[:-2]
    if max(extents) == 1:
        return
    for dilation in product(range(1, _MOST_DILATION + 1), repeat=len(extents)):
        if dilation == stage.dilation or len({*dilation}) > len({*stage.dilation}):
            continue
        # Growing on both sides alike, as padding "same" does.
        grown = [(new - old) * (k - 1) for new, old, k in zip(dilation, stage.dilation, extents, strict=True)]
        padding = tuple((a + by // 2, b + by - by // 2) for (a, b), by in zip(stage.padding, grown, strict=True))
        if min(min(pair) for pair in padding) < 0:
            continue
        other = Convolution(stage.shape_in, stage.kernel, stage.strides, dilation, padding, stage.groups)
        if other.shape_out == stage.shape_out:
            yield f"the dilation is {_by(dilation)} and not {_by(stage.dilation)}", other


def _bordered(stage: Convolution) -> Iterator[tuple[str, Operator]]:
    if not any(map(sum, stage.padding)):
        return
    places = np.arange(stage.size_in).reshape(stage.shape_in)
    margins = (*stage.padding, (0, 0))
    for mode, words in _PADDINGS:
        if any(max(pair) >= n for pair, n in zip(stage.padding, stage.shape_in, strict=False)):
            continue
        wider = np.pad(places, margins, mode=mode)  # type: ignore[call-overload]  # its stubs want literals
        bare = Convolution(
            wider.shape, stage.kernel, stage.strides, stage.dilation, ((0, 0),) * len(stage.padding), stage.groups
        )
        yield f"beyond the border lie {words}, not zeros (padding)", Composed((Select(stage.shape_in, wider), bare))


def _layouts(stage: Operator) -> Iterator[tuple[str, Operator]]:
    if not isinstance(stage, Convolution) or stage.kernel.ndim > _MOST_AXES + 1:
        return
    kernel = stage.kernel
    for order in permutations(range(kernel.ndim)):
        words = f"the kernel is read in another memory order (its axes as {order})"
        yield words, stage.with_kernel(kernel.transpose(order).reshape(kernel.shape))
        stored = [kernel.shape[axis] for axis in order]
        yield words, stage.with_kernel(kernel.reshape(stored).transpose(np.argsort(order)))


HYPOTHESES = (other_kernels,)
# Those of many variants are tried only where nothing else explains the faults.
SEARCHES = (other_windows, missing_taps, other_layouts)
