"""Graphs evaluated neuron by neuron in exact rational arithmetic, for the golden spikes.

Nothing here uses `Operator.apply`, `Operator.to_coo` or the oracle: every operator is expanded independently, straight
from the equations in its docstring, one product at a time, so that a mistake in strop cannot confirm itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from strop.graph import Composed, Convolution, Dense, Graph, Input, Operator, Scale, Select, Sparse, SumPool

# Weights of one operator: for each target neuron, its source neurons and their weights.
Rows = list[dict[int, Fraction]]


def spikes(graph: Graph, frames: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spikes of every population, shape (n, *shape), for frames as the user gives them."""
    count = len(next(iter(frames.values())))
    rows = [expand(p.operator) for p in graph.projections]
    signals: dict[str, list[list[Fraction]]] = {
        node.name: [_encode(node, frame) for frame in frames[node.name]] for node in graph.inputs
    }
    for population in graph.populations:
        incoming = [(p.source, r) for p, r in zip(graph.projections, rows, strict=True) if p.target == population.name]
        thresholds = [Fraction(float(t)) for t in population.threshold.reshape(-1)]
        biases = [Fraction(float(b)) for b in population.bias.reshape(-1)]
        answers = []
        for n in range(count):
            frame = []
            for neuron, (threshold, bias) in enumerate(zip(thresholds, biases, strict=True)):
                total = bias
                for source, table in incoming:
                    sent = signals[source][n]
                    total += sum((w * sent[pre] for pre, w in table[neuron].items() if sent[pre]), Fraction(0))
                frame.append(Fraction(total >= threshold))
            answers.append(frame)
        signals[population.name] = answers
    return {
        p.name: np.array([[bool(x) for x in frame] for frame in signals[p.name]], dtype=bool).reshape(count, *p.shape)
        for p in graph.populations
    }


def logits(graph: Graph, found: Mapping[str, Any]) -> Any:
    """Return the values of the graph's first read-out, as nested lists of fractions, one list per frame."""
    readout = next(r for r in graph.readouts if r.name == graph.outputs[0])
    rows = [expand(op) for op in readout.operators]
    biases = [Fraction(float(b)) for b in readout.bias.reshape(-1)]
    count = len(next(iter(found.values())))
    return [
        [
            bias
            + sum(
                (
                    w
                    for source, table in zip(readout.sources, rows, strict=True)
                    for pre, w in table[value].items()
                    if found[source][n].reshape(-1)[pre]
                ),
                Fraction(0),
            )
            for value, bias in enumerate(biases)
        ]
        for n in range(count)
    ]


def _encode(node: Input, frame: Any) -> list[Fraction]:
    values = [Fraction(float(x)) for x in np.asarray(frame, dtype=np.float32).reshape(-1)]
    if node.encoding == "binary":
        return [Fraction(x >= Fraction(node.level)) for x in values]
    if node.encoding == "bitplane":
        step = Fraction(1, 2**node.bits - 1) if node.step is None else Fraction(node.step)
        whole = [round((x - Fraction(node.offset)) / step) for x in values]
        return [Fraction(number >> bit & 1) for number in whole for bit in range(node.bits)]
    return values


def expand(operator: Operator) -> Rows:
    """Return the weights of an operator, row by row, each from the equation of its class."""
    match operator:
        case Dense():
            return _dense(operator)
        case Convolution():
            return _transposed(operator) if operator.transposed else _convolution(operator)
        case SumPool():
            return _pool(operator)
        case Scale():
            factor = np.broadcast_to(operator.factor, operator.shape).reshape(-1)
            return [{n: Fraction(float(f))} for n, f in enumerate(factor)]
        case Select():
            return [{int(n): Fraction(1)} if n >= 0 else {} for n in operator.index.reshape(-1)]
        case Sparse():
            rows: Rows = [{} for _ in range(math.prod(operator.shape_out))]
            for pre, post, weight in zip(operator.pre, operator.post, operator.weight, strict=True):
                rows[post][int(pre)] = Fraction(float(weight))
            return rows
        case Composed():
            return _composed(operator)
    raise TypeError(f"no equation for {type(operator).__name__}")


def _flat(shape: Iterable[int], place: Iterable[int]) -> int:
    result = 0
    for extent, index in zip(shape, place, strict=True):
        result = result * extent + index
    return result


def _places(shape: Iterable[int]) -> Iterable[tuple[int, ...]]:
    return itertools.product(*(range(n) for n in shape))


def _dense(op: Dense) -> Rows:
    inputs, outputs = op.weight.shape
    return [
        {place * inputs + i: Fraction(float(op.weight[i, o])) for i in range(inputs)}
        for place in range(math.prod(op.leading))
        for o in range(outputs)
    ]


def _convolution(op: Convolution) -> Rows:
    """y[p, o] = sum_{k,i} x[p*stride + k*dilation - before, i] kernel[k, i, o], i within the group of o."""
    per_group, filters = op.kernel.shape[-2:]
    spatial, rows = op.shape_in[:-1], []
    for *p, o in _places(op.shape_out):
        row = {}
        for k in _places(op.kernel.shape[:-2]):
            x = [
                a * s + b * d - pad[0]
                for a, s, b, d, pad in zip(p, op.strides, k, op.dilation, op.padding, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(x, spatial, strict=True)):
                for i in range(per_group):
                    channel = (o // (filters // op.groups)) * per_group + i
                    row[_flat(op.shape_in, (*x, channel))] = Fraction(float(op.kernel[(*k, i, o)]))
        rows.append(row)
    return rows


def _transposed(op: Convolution) -> Rows:
    """y[p*stride + k*dilation - before, o] += x[p, i] kernel[k, i, o]."""
    per_group, filters = op.kernel.shape[-2:]
    rows: Rows = [{} for _ in _places(op.shape_out)]
    for *p, channel in _places(op.shape_in):
        for k in _places(op.kernel.shape[:-2]):
            y = [
                a * s + b * d - pad[0]
                for a, s, b, d, pad in zip(p, op.strides, k, op.dilation, op.padding, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(y, op.shape_out[:-1], strict=True)):
                for o in range(filters):
                    if o // (filters // op.groups) == channel // per_group:
                        row = rows[_flat(op.shape_out, (*y, o))]
                        pre = _flat(op.shape_in, (*p, channel))
                        weight = Fraction(float(op.kernel[(*k, channel % per_group, o)]))
                        row[pre] = row.get(pre, Fraction(0)) + weight
    return rows


def _pool(op: SumPool) -> Rows:
    rows = []
    for *p, channel in _places(op.shape_out):
        row = {}
        for k in _places(op.size):
            x = [a * s + b - pad[0] for a, s, b, pad in zip(p, op.strides, k, op.padding, strict=True)]
            if all(0 <= a < n for a, n in zip(x, op.shape_in[:-1], strict=True)):
                row[_flat(op.shape_in, (*x, channel))] = Fraction(1)
        rows.append(row)
    return rows


def _composed(op: Composed) -> Rows:
    rows = expand(op.stages[0])
    for stage in op.stages[1:]:
        joined: Rows = []
        for row in expand(stage):
            total: dict[int, Fraction] = {}
            for middle, weight in row.items():
                for pre, first in rows[middle].items():
                    total[pre] = total.get(pre, Fraction(0)) + weight * first
            joined.append(total)
        rows = joined
    return rows
