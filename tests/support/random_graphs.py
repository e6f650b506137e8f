"""Random graphs for property tests: every operator, every encoding, branches of different length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from strop.graph import (
    READOUT_KINDS,
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Readout,
    Scale,
    Select,
    Sparse,
    SumPool,
)

# Sums of quarters are exact in float64: thresholds are hit exactly, and no order of summation matters.
_QUARTERS = 4.0


def quarters(rng: np.random.Generator, shape: tuple[int, ...], reach: int = 6) -> Any:
    return rng.integers(-reach, reach + 1, shape) / _QUARTERS


def random_dense(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    return Dense(quarters(rng, (shape[-1], int(rng.integers(1, 6)))), shape[:-1])


def random_select(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    out = tuple(int(n) for n in rng.integers(1, 4, int(rng.integers(1, 4))))
    return Select(shape, rng.integers(-1, math.prod(shape), out))


def random_scale(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    return Scale(shape, quarters(rng, tuple(int(n) if rng.random() < 0.5 else 1 for n in shape)))


def random_sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    out = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4))))
    mask = rng.random((math.prod(shape), math.prod(out))) < 0.4
    pre, post = np.nonzero(mask)
    order = rng.permutation(len(pre))
    return Sparse(shape, out, pre[order], post[order], quarters(rng, (len(pre),)))


def random_convolution(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    axes, channels = len(shape) - 1, shape[-1]
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    size = tuple(int(rng.integers(1, min(3, n) + 1)) for n in shape[:-1])
    dilation = tuple(2 if 2 * (k - 1) < n and rng.random() < 0.3 else 1 for k, n in zip(size, shape, strict=False))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (axes, 2)))
    strides = tuple(int(n) for n in rng.integers(1, 3, axes))
    transposed = bool(rng.random() < 0.3) and all(n > 2 for n in shape[:-1])
    more = tuple(int(n) for n in rng.integers(0, 2, axes)) if transposed and rng.random() < 0.5 else None
    kernel = quarters(rng, (*size, channels // groups, groups * int(rng.integers(1, 3))))
    return Convolution(shape, kernel, strides, dilation, padding, groups, transposed, more)


def random_pool(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    size = tuple(int(rng.integers(1, min(3, n) + 1)) for n in shape[:-1])
    strides = tuple(int(n) for n in rng.integers(1, 3, len(size)))
    return SumPool(shape, size, strides, tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (len(size), 2))))


def random_operator(rng: np.random.Generator, shape: tuple[int, ...], depth: int = 0) -> Operator:
    choices = [random_dense, random_select, random_scale, random_sparse]
    if 2 <= len(shape) <= 4:
        choices += [random_convolution, random_pool] * 2
    if depth < 1 and rng.random() < 0.25:
        stages = [random_operator(rng, shape, 1)]
        while rng.random() < 0.6:
            stages.append(random_operator(rng, stages[-1].shape_out, 1))
        return Composed(tuple(stages))
    return choices[int(rng.integers(len(choices)))](rng, shape)


def random_after(rng: np.random.Generator, shape: tuple[int, ...]) -> Operator:
    """What may come after a read-out's function: an index map, or the list of its weights."""
    operator = random_select(rng, shape) if rng.random() < 0.5 else random_dense(rng, shape)
    if isinstance(operator, Select):
        return operator
    return Sparse(operator.shape_in, operator.shape_out, *operator.to_coo())


def random_graph(seed: int, encoding: str | None = None) -> Graph:
    rng = np.random.default_rng(seed)
    chosen = encoding or str(rng.choice(["host", "bitplane", "binary", "current"]))
    shape = tuple(int(n) for n in rng.integers(1, 6, int(rng.integers(1, 4))))
    node = Input("x", shape, chosen, bits=int(rng.integers(1, 4)), level=float(quarters(rng, ())))
    shapes = {"x": node.signal_shape}
    populations: list[Population] = []
    connections: list[tuple[str, str, Operator]] = []
    for number in range(int(rng.integers(1, 6))):
        name, source = f"p{number}", list(shapes)[max(0, len(shapes) - int(rng.integers(1, 3)))]
        operators = {source: random_operator(rng, shapes[source])}
        out = operators[source].shape_out
        for other in shapes:
            if other != source and rng.random() < 0.3:
                weight = quarters(rng, (math.prod(shapes[other]), math.prod(out)))
                index = np.arange(math.prod(out)).reshape(out)
                flat = Select(shapes[other], np.arange(math.prod(shapes[other])))
                operators[other] = Composed((flat, Dense(weight), Select((math.prod(out),), index)))
        per_unit = out if rng.random() < 0.5 else out[-1:]
        populations.append(Population(name, out, quarters(rng, per_unit, 3), quarters(rng, per_unit, 3)))
        connections += [(origin, name, op) for origin, op in operators.items()]
        shapes[name] = out
    last = populations[-1]
    readouts, outputs = [], [last.name]
    if rng.random() < 0.7:
        classes = int(rng.integers(2, 5))
        flat = Select(last.shape, np.arange(last.size))
        decode = Composed((flat, Dense(quarters(rng, (last.size, classes)))))
        kind = str(rng.choice(["key", "softmax", "linear"]))
        bias = quarters(rng, (classes,))
        # Drawn apart, so that what a seed meant before it still means.
        more = np.random.default_rng((seed, 1))
        after, argmax = None, False
        if more.random() < 0.5:
            kind = str(more.choice([kind for kind in READOUT_KINDS if kind not in ("spikes", "winner")]))
            after = random_after(more, (classes,)) if more.random() < 0.5 else None
            argmax = bool(more.random() < 0.2 and (after is None or after.shape_out))
        readouts.append(Readout("out", kind, (last.name,), (decode,), bias, after, argmax))
        outputs = ["out"]
    return Graph.from_nodes((node,), populations, connections, readouts, outputs, name=f"random {seed}")


def random_frames(graph: Graph, count: int, seed: int) -> dict[str, Any]:
    """Frames that every encoding of the graph takes exactly."""
    rng = np.random.default_rng(seed)
    return {
        node.name: (
            (
                rng.integers(0, 1 << node.bits, (count, *node.shape)).astype(np.float32)
                / np.float32((1 << node.bits) - 1)
            )
            if node.encoding == "bitplane"
            else quarters(rng, (count, *node.shape)).astype(np.float32)
        )
        for node in graph.inputs
    }


graphs = st.integers(0, 2**32 - 1).map(random_graph)
