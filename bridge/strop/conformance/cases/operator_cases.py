"""Golden cases for the operators that connect two layers."""

from __future__ import annotations

import numpy as np

from strop.conformance.cases.recipe import (
    Recipe,
    bits,
    case,
    of_operator,
    quarters,
)
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Scale,
    Select,
    Sparse,
    SumPool,
)


@case
def dense() -> Recipe:
    """A matrix between two layers."""
    return of_operator(Dense(quarters(1, (7, 9))), 2, 0.75, quarters(3, (9,), 3))


@case
def dense_on_every_row() -> Recipe:
    """One matrix for every row of a frame."""
    return of_operator(Dense(quarters(4, (3, 4)), (2, 5)), 5)


@case
def convolution_1d() -> Recipe:
    """1-D convolution, stride 2, asymmetric padding."""
    op = Convolution((11, 2), quarters(6, (4, 2, 3)), (2,), (1,), ((1, 2),))
    return of_operator(op, 7, 0.5, quarters(8, (3,), 2))


@case
def convolution_2d_valid() -> Recipe:
    """2-D convolution without padding, kernel 3 x 2."""
    op = Convolution((6, 5, 2), quarters(9, (3, 2, 2, 3)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    return of_operator(op, 10)


@case
def convolution_2d_same() -> Recipe:
    """2-D convolution with 'same' padding."""
    op = Convolution((6, 7, 1), quarters(11, (3, 3, 1, 4)), (1, 1), (1, 1), ((1, 1), (1, 1)))
    return of_operator(op, 12, 1.0)


@case
def convolution_2d_same_strided() -> Recipe:
    """'same' padding with stride 2: more zeros after than before."""
    op = Convolution((6, 7, 2), quarters(13, (3, 3, 2, 3)), (2, 2), (1, 1), ((0, 1), (1, 1)))
    return of_operator(op, 14)


@case
def convolution_2d_padded_before() -> Recipe:
    """Padding that no 'same' or 'valid' says."""
    op = Convolution((5, 5, 1), quarters(15, (3, 3, 1, 2)), (1, 1), (1, 1), ((2, 0), (0, 1)))
    return of_operator(op, 16)


@case
def convolution_2d_dilated() -> Recipe:
    """Dilation 2 x 3."""
    op = Convolution((7, 6, 1), quarters(17, (3, 2, 1, 3)), (1, 1), (2, 3), ((1, 1), (0, 0)))
    return of_operator(op, 18)


@case
def convolution_2d_grouped() -> Recipe:
    """Two groups of channels."""
    op = Convolution((5, 4, 4), quarters(19, (2, 2, 2, 6)), (1, 1), (1, 1), ((0, 0), (0, 0)), groups=2)
    return of_operator(op, 20)


@case
def convolution_2d_depthwise() -> Recipe:
    """A group for each channel, two filters each."""
    op = Convolution((5, 4, 3), quarters(21, (2, 3, 1, 6)), (1, 1), (1, 1), ((0, 1), (1, 1)), groups=3)
    return of_operator(op, 22)


@case
def convolution_2d_transposed() -> Recipe:
    """Transposed convolution, stride 2."""
    op = Convolution((3, 4, 2), quarters(23, (3, 3, 2, 2)), (2, 2), (1, 1), ((0, 1), (1, 1)), transposed=True)
    return of_operator(op, 24)


@case
def convolution_2d_transposed_output_padding() -> Recipe:
    """Transposed convolution with rows that no input reaches."""
    op = Convolution((3, 3, 1), quarters(25, (2, 2, 1, 2)), (2, 2), (1, 1), ((0, 0), (0, 0)), 1, True, (1, 1))
    return of_operator(op, 26, 0.0, [0.0, -0.25])


@case
def convolution_3d() -> Recipe:
    """3-D convolution."""
    op = Convolution((3, 4, 3, 1), quarters(27, (2, 2, 2, 1, 2)), (1, 2, 1), (1, 1, 1), ((0, 1), (0, 0), (1, 0)))
    return of_operator(op, 28)


@case
def pool_or() -> Recipe:
    """A pool whose units fire when any input does."""
    op = SumPool((5, 6, 2), (2, 3), (2, 2), ((0, 1), (1, 0)))
    recipe = of_operator(op, 29)
    return Recipe(recipe.graph, {"x": bits(30, 24, (5, 6, 2), 0.12)})


@case
def pool_and() -> Recipe:
    """A pool whose units fire when all inputs do."""
    op = SumPool((6, 6, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    recipe = of_operator(op, 31, threshold=4.0)
    return Recipe(recipe.graph, {"x": bits(32, 24, (6, 6, 1), 0.8)})


@case
def pool_overlapping_1d() -> Recipe:
    """Windows that overlap."""
    return of_operator(SumPool((9, 2), (3,), (1,), ((1, 1),)), 33, threshold=2.0)


@case
def scale() -> Recipe:
    """A factor for each row."""
    factor = [[0.5], [1.0], [-1.0]]
    return of_operator(Scale((3, 4), np.array(factor)), 34, threshold=quarters(35, (3, 4), 4))


@case
def select() -> Recipe:
    """Permuted, cropped, padded and repeated."""
    index = [[5, 0, -1], [1, 1, 4], [-1, 2, 3]]
    return of_operator(Select((2, 4), np.array(index)), 36)


@case
def sparse() -> Recipe:
    """Single synapses in no order, units with none."""
    pre, post = np.nonzero(np.random.default_rng(37).random((10, 8)) < 0.3)
    order = np.random.default_rng(38).permutation(len(pre))
    op = Sparse((2, 5), (4, 2), pre[order], post[order], quarters(39, (len(pre),)))
    return of_operator(op, 40, [0.5, 0.0])


@case
def composed_flatten_dense() -> Recipe:
    """A dense layer behind a Flatten."""
    op = Composed((Select((2, 3, 2), np.arange(12)), Dense(quarters(41, (12, 5)))))
    return of_operator(op, 42)


@case
def composed_average_convolution() -> Recipe:
    """Average pooling in front of a convolution, paths that meet."""
    pool = SumPool((6, 6, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    convolve = Convolution((3, 3, 1), quarters(43, (2, 2, 1, 3)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    op = Composed((pool, Scale((3, 3, 1), np.array([0.25])), convolve))
    return of_operator(op, 44)
