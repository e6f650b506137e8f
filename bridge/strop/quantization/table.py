"""The table that `strop quantize` prints: bits, headroom and changed spikes, population by population."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from strop.quantization.records import Quantization
from strop.running.terminal import count, percent, to_text


def render_quantization(found: Quantization) -> str:
    """Return a quantisation as a table, a row for each population that the target evaluates, and its totals."""
    table = Table(title=f"whole numbers for {found.arithmetic.name}", title_justify="left")
    table.add_column("population", overflow="fold")
    for heading in ("neurons", "weights", "weight bits", "sum bits", "headroom", "scale", "spikes changed"):
        table.add_column(heading, justify="right")
    for row in found.populations:
        low, high = row.scale
        scale = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        changed = "" if row.changed is None else f"{count(row.changed)} of {count(row.compared)}"
        kind = "exact" if row.exact else "rounded"
        bits = (str(row.weight_bits), str(row.sum_bits), f"{row.headroom:.2f}")
        table.add_row(escape(row.name), count(row.neurons), kind, *bits, scale, changed)
    lines = []
    if found.decisions is not None:
        lines.append(f"decisions changed: {count(found.decisions)} of {count(found.frames)}")
    if found.accuracy is not None:
        before, after = found.accuracy
        lines.append(f"accuracy: {percent(before)} before, {percent(after)} after")
    if not found.frames:
        lines.append("give --data for thresholds that suit the frames, and to see what changes on them")
    return to_text(table, *lines)
