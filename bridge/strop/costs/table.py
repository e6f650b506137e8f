"""The table that `strop inspect` prints: costs of a graph, layer by layer."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from strop.costs.frames_table import cost_lines
from strop.costs.records import Costs
from strop.graph.capacity import as_size
from strop.running.terminal import count, to_text


def render_inspection(inspection: Costs) -> str:
    """Return an inspection as a table: one row per population, then the totals."""
    table = Table(title=escape(f"{inspection.model}: layers to populations"), title_justify="left")
    # Names are folded where they are too long, never cut.
    table.add_column("population", overflow="fold")
    for heading in ("shape", "neurons", "synapses", "fan-in\n(mean)", "fan-out\n(mean)", "stored", "depth"):
        table.add_column(heading, justify="right")
    table.add_column("fed by", overflow="fold")
    for row in inspection.populations:
        fed = ", ".join(f"{source} ({kind})" for source, kind in zip(row.sources, row.operators, strict=True))
        shape = "x".join(map(str, row.shape))
        neurons, synapses, stored, depth = map(count, (row.neurons, row.synapses, row.parameters, row.depth))
        fans = (_fan(row.fan_in, row.mean_fan_in), _fan(row.fan_out, row.mean_fan_out))
        table.add_row(escape(row.name), shape, neurons, synapses, *fans, stored, depth, escape(fed))
    totals = inspection.totals
    inputs = ", ".join(f"{n['name']} {'x'.join(map(str, n['shape']))} ({n['encoding']})" for n in inspection.inputs)
    outputs = ", ".join(
        f"{n['name']} {'x'.join(map(str, n['shape'])) or 'a class'} ({n['kind']}{', argmax' if n['argmax'] else ''})"
        for n in inspection.outputs
    )
    lines: list[Any] = [
        table,
        f"input: {inputs}; output: {outputs}",
        f"{totals['populations']} populations, {count(totals['neurons'])} neurons, "
        f"{count(totals['synapses'])} synapses, depth {totals['depth']}",
        f"memory: {as_size(totals['stored_bytes'])} as stored, {as_size(totals['expanded_bytes'])} with every synapse "
        "expanded (24 bytes each, before a simulator adds its own)",
        *cost_lines(inspection),
    ]
    lines += [escape(note) for note in inspection.notes]
    if not totals.get("counts_exact", True):
        lines.append("synapses and fans are upper bounds where a pool overlaps a convolution: too many to expand")
    if inspection.target is not None:
        lines += _target_lines(inspection.target)
    return to_text(*lines)


def _fan(most: int, mean: float) -> str:
    """Return the largest fan, and the mean where the neurons differ."""
    return count(most) if mean in (most, 0.0) else f"{count(most)} ({mean:,.1f})"


def _target_lines(target: dict[str, Any]) -> list[Any]:
    version = f" ({target['version']})" if target["version"] else ""
    said = target["problem"] or ("can run this graph" if version else "an arithmetic, no backend")
    lines = [f"{target['name']}{version}: {said}"]
    for name, fidelity, reason in target.get("fidelity", ()):
        lines.append(f"  {name}: {fidelity}{f' ({reason})' if reason else ''}")
    # The version stands in the first line.
    if target.get("quantization"):
        lines += _quantization_lines(target["quantization"])
    mapping = {key: value for key, value in (target.get("mapping") or {}).items() if key != "version"}
    return [escape("\n".join(lines)), *_facts("", mapping)]


def _quantization_lines(found: dict[str, Any]) -> list[str]:
    """Return whether spikes are proved for the target's arithmetic, and what quantising changes where they are not."""
    if found["proved"]:
        return ["  equal for all inputs in its arithmetic: proved"]
    lines = [f"  equal for all inputs in its arithmetic: not proved ({found['reason']})"]
    if "refused" in found:
        return [*lines, f"  quantised for it: {found['refused']}"]
    text = f"  quantised for it (strop quantize): weights of {found['weight_bits']} bits, sums of {found['sum_bits']}"
    if "spikes_changed" in found:
        text += f"; {count(found['spikes_changed'])} of {count(found['compared'])} spikes change"
        text += "" if found["decisions_changed"] is None else f", {count(found['decisions_changed'])} decisions"
    return [*lines, text]


def _facts(heading: str, facts: dict[str, Any]) -> list[Any]:
    """Return what a backend reports as lines and tables: plain values in one line, lists of records as a table each."""
    plain = [f"{_words(key)} {_cell(key, value)}" for key, value in facts.items() if not isinstance(value, dict | list)]
    items: list[Any] = [escape(heading + ", ".join(plain))] if plain else []
    for key, value in facts.items():
        records = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        if isinstance(value, dict):
            items += _facts(f"{_words(key)}: ", value)
        elif records and any(_is_table(cell) for row in records for cell in row.values()):
            for row in records:
                items += _facts(f"{_words(key)}: ", row)
        elif records:
            table = Table(title=_words(key), title_justify="left")
            for number, column in enumerate(records[0]):
                table.add_column(_words(column), justify="left" if number == 0 else "right")
            for row in records:
                table.add_row(*(escape(_cell(column, cell)) for column, cell in row.items()))
            items.append(table)
        elif isinstance(value, list):
            items += [escape(f"{_words(key)}: {line}") for line in value]
    return items


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_cell("", part) for part in value)
    if key.endswith(("sdram", "bytes")):
        return as_size(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
