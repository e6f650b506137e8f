"""Convolutions gathered into blocks: equal to the sum as it is written down, bit for bit where sums are exact."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.graph import Convolution, SumPool
from strop.graph import convolution as convolution_module
from strop.graph import threads as threads_module
from strop.graph import window as window_module
from strop.graph.threads import in_threads, thread_count
from strop.graph.window import multiply


def direct(op: Convolution, x: Any) -> Any:
    """Return `op` applied to a batch, one product at a time, from its definition."""
    before = [padding[0] for padding in op.padding]
    spatial, size = op.shape_in[:-1], op.kernel.shape[:-2]
    per_group, filters = op.kernel.shape[-2:]
    share = filters // op.groups
    out = np.zeros((len(x), *op.shape_out))
    places = spatial if op.transposed else op.shape_out[:-1]
    for place in itertools.product(*map(range, places)):
        for tap in itertools.product(*map(range, size)):
            there = tuple(
                p * s + t * d - b for p, s, t, d, b in zip(place, op.strides, tap, op.dilation, before, strict=True)
            )
            limits = op.shape_out[:-1] if op.transposed else spatial
            if not all(0 <= n < limit for n, limit in zip(there, limits, strict=True)):
                continue
            read, write = (place, there) if op.transposed else (there, place)
            for group in range(op.groups):
                own = slice(group * per_group, (group + 1) * per_group)
                to = slice(group * share, (group + 1) * share)
                out[(slice(None), *write, to)] += x[(slice(None), *read, own)] @ op.kernel[(*tap, slice(None), to)]
    return out


def ints(rng: np.random.Generator, low: int, high: int, count: int) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(low, high, count))


def drawn(rng: np.random.Generator) -> Convolution:
    axes, groups, transposed = int(rng.integers(1, 4)), int(rng.integers(1, 4)), bool(rng.random() < 0.3)
    strides = ints(rng, 1, 4, axes)
    kernel = rng.integers(-8, 9, (*ints(rng, 1, 4, axes), int(rng.integers(1, 3)), 2 * groups)) / 8
    return Convolution(
        (*ints(rng, 5, 7, axes), kernel.shape[-2] * groups),
        kernel,
        strides,
        ints(rng, 1, 3, axes),
        tuple(ints(rng, 0, 3, 2) for _ in range(axes)),
        groups,
        transposed,
        tuple(int(rng.integers(0, s)) for s in strides) if transposed else None,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.bool_, np.uint8, np.float32, np.float64]), st.integers(1, 4000))
def test_blocks_of_windows_give_the_direct_sum(seed: int, dtype: Any, block: int) -> None:
    rng = np.random.default_rng(seed)
    operator = drawn(rng)
    x = rng.integers(0, 2, (int(rng.integers(1, 7)), *operator.shape_in)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        # From a line of a frame to all frames at once.
        patch.setattr(convolution_module, "BLOCK_VALUES", block)
        patch.setattr(window_module, "BLOCK_VALUES", block)
        # Products of one row, too.
        patch.setattr(window_module, "_ALONE", block)
        patch.setattr(threads_module, "thread_count", lambda: 1 + seed % 3)
        got = operator.apply(x)
    np.testing.assert_array_equal(got, direct(operator, x.astype(np.float64)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bits_are_counted_as_numbers_are_added(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    padding = tuple(ints(rng, 0, 3, 2) for _ in range(axes))
    pool = SumPool((*ints(rng, 4, 9, axes), 3), ints(rng, 1, 4, axes), ints(rng, 1, 4, axes), padding)
    bits = rng.random((4, *pool.shape_in)) < 0.5
    got = pool.apply(bits)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, pool.apply(bits.astype(np.float64)))


def test_more_bits_than_a_byte_counts_are_counted() -> None:
    pool = SumPool((20, 20, 1), (20, 20), (1, 1), ((0, 0), (0, 0)))
    assert pool.apply(np.ones((1, 20, 20, 1), bool)).item() == 400.0


@pytest.mark.parametrize("dtype", [np.bool_, np.float64])
def test_the_windows_of_a_large_layer_are_never_in_memory_all_at_once(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads_module, "thread_count", lambda: 2)
    kernel = np.ones((7, 7, 16, 2))
    operator = Convolution((128, 128, 16), kernel, (1, 1), (1, 1), ((3, 3), (3, 3)))
    x = np.ones((3, *operator.shape_in), dtype)
    windows = 8 * 128 * 128 * kernel[..., 0].size  # 103 MB, of one frame
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = operator.apply(x)
        peak = tracemalloc.get_traced_memory()[1] - before - result.nbytes
    finally:
        tracemalloc.stop()
    assert result.max() == kernel[..., 0].size
    assert peak < windows / 10


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 11])
@pytest.mark.parametrize("columns", [1, 4, 30])
def test_small_products_make_up_the_whole_one(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "_ALONE", 100)
    rng = np.random.default_rng(0)
    matrix, by = rng.integers(-9, 10, (rows, 10)).astype(float), rng.integers(-9, 10, (10, columns)).astype(float)
    out = np.full((rows, columns), np.nan)
    multiply(matrix, by, out)
    np.testing.assert_array_equal(out, matrix @ by)


def test_blocks_are_shared_among_threads_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "thread_count", lambda: 3)
    shares: list[list[int]] = []
    in_threads(lambda blocks: shares.append(list(blocks)), range(0, 130, 10))
    assert len(shares) == 3
    assert sorted(block for own in shares for block in own) == list(range(0, 130, 10))


def test_an_error_in_a_thread_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "thread_count", lambda: 2)

    def fail(blocks: range) -> None:
        raise ValueError("from a thread")

    with pytest.raises(ValueError, match="from a thread"):
        in_threads(fail, range(20))


@pytest.mark.parametrize(("wanted", "most"), [("1", 1), ("0", None), ("many", None), ("", None)])
def test_threads_are_as_many_as_omp_num_threads_allows(
    wanted: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = thread_count()
    assert cores >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert thread_count() == (cores if most is None else most)
