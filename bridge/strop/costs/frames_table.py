"""Tables of spikes, synaptic events, dense arithmetic and energy estimates, for `strop inspect --data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from strop.costs.energy import FLOAT32_ADD, FLOAT32_MAC, as_energy

if TYPE_CHECKING:
    from strop.costs.records import Costs


def cost_lines(inspection: Costs) -> list[Any]:
    """Return the lines and tables of costs that are printed below the table of populations."""
    lines: list[Any] = []
    if inspection.decision.get("where") == "spikes":
        lines.append(_decision(inspection.decision))
    if inspection.arithmetic:
        lines += _arithmetic(inspection.arithmetic, inspection.activity)
    if inspection.activity is not None:
        lines.insert(0, _activity(inspection.activity))
    if inspection.energy is not None:
        lines += _energy(inspection.energy, inspection.arithmetic)
    return lines


def _rate(value: float) -> str:
    return f"{value:,.1f}"


def _activity(activity: dict[str, Any]) -> Table:
    table = Table(title=f"per frame, mean of {activity['frames']:,} frames", title_justify="left")
    table.add_column("population")
    for heading in ("spikes", "of all neurons", "events received", "events sent"):
        table.add_column(heading, justify="right")
    for row in activity["inputs"]:
        _row(table, f"{escape(row['name'])} (input)", row, "")
    for row in activity["populations"]:
        where = " (on the host)" if row["on_host"] else ""
        _row(table, escape(row["name"]) + where, row, _rate(row["synaptic_events_per_frame"]))
    table.add_section()
    events = _rate(activity["synaptic_events_per_frame"])
    share = f"{100 * activity['firing_rate']:.1f} %"
    table.add_row("all populations", _rate(activity["spikes_per_frame"]), share, events, events)
    return table


def _row(table: Table, name: str, row: dict[str, Any], received: str) -> None:
    sent = _rate(row["synaptic_events_sent_per_frame"])
    table.add_row(name, _rate(row["spikes_per_frame"]), f"{100 * row['firing_rate']:.1f} %", received, sent)


def _decision(decision: dict[str, Any]) -> str:
    text = (
        f"decision as spikes: {decision['neurons']:,} neurons, {decision['synapses']:,} synapses, "
        f"{decision['steps']} steps"
    )
    events = decision.get("synaptic_events_per_frame")
    return escape(text + ("" if events is None else f", {_rate(events)} synaptic events per frame"))


def _arithmetic(arithmetic: dict[str, Any], activity: dict[str, Any] | None) -> list[Any]:
    dense, host, readout = (arithmetic[name] for name in ("dense", "host", "readout"))
    lines: list[Any] = []
    if activity is None:
        lines.append(
            f"without spikes: {dense['macs']:,} multiply-accumulates and {dense['additions']:,} additions per frame"
        )
    else:
        lines.append(_dense_table(dense))
        # Events do not replace what the host does in any case.
        left = max(dense["macs"] - host["macs"] - readout["macs"], 1)
        events = activity["synaptic_events_per_frame"]
        lines.append(
            f"{_rate(events)} synaptic events in place of {left:,} multiply-accumulates: {events / left:.3g} for each"
        )
    if host["layers"]:
        names = ", ".join(layer["name"] for layer in host["layers"])
        lines.append(
            escape(
                f"on the host, before the first spike ({names}): {host['macs']:,} multiply-accumulates and "
                f"{host['additions']:,} additions per frame"
            )
        )
    if readout["layers"]:
        text = f"read-out, on the host: {readout['macs']:,} multiply-accumulates per frame in full"
        if activity is not None:
            text += f", or {_rate(activity['readout_additions_per_frame'])} additions of the weights of what fired"
        lines.append(text)
    return lines


def _dense_table(dense: dict[str, Any]) -> Table:
    origin = "Keras's layers" if dense["counted"] == "keras" else "the graph's operators; there is no Keras model"
    table = Table(title=f"without spikes, per frame ({origin})", title_justify="left")
    table.add_column("layer")
    for heading in ("multiply-accumulates", "additions"):
        table.add_column(heading, justify="right")
    for layer in dense["layers"]:
        table.add_row(f"{escape(layer['name'])} ({layer['kind']})", f"{layer['macs']:,}", f"{layer['additions']:,}")
    table.add_section()
    table.add_row("the dense network", f"{dense['macs']:,}", f"{dense['additions']:,}")
    return table


def _energy(energy: dict[str, Any], arithmetic: dict[str, Any]) -> list[Any]:
    table = Table(title="energy per frame: an estimate, no measurement", title_justify="left")
    for heading in ("figure of", "each", "per frame"):
        table.add_column(heading, justify="left" if heading == "figure of" else "right", no_wrap=True)
    table.add_column("which counts")
    for figure in energy["spiking"]:
        counts = f"{figure['counts']} [{figure['source']}, doi:{figure['doi']}]"
        table.add_row(
            f"{figure['name']}, {figure['process']}",
            as_energy(figure["picojoules_per_operation"]),
            as_energy(figure["picojoules_per_frame"]),
            escape(counts),
        )
    table.add_section()
    mac = f"{FLOAT32_MAC.counts} [{FLOAT32_MAC.source}, doi:{FLOAT32_MAC.doi}]"
    prices = f"{FLOAT32_MAC.picojoules} pJ", f"{FLOAT32_ADD.picojoules} pJ"
    rows = [("dense", f"dense float32, {FLOAT32_MAC.process}", prices[0], mac)]
    if arithmetic["host"]["layers"]:
        counts = "what the host evaluates before the first spike; the dense network has it too"
        rows.append(("host", "on the host", prices[0], counts))
    if arithmetic["readout"]["layers"]:
        rows.append(("readout", "read-out", prices[1], "on the host, additions alone"))
    for key, name, price, counts in rows:
        table.add_row(name, price, as_energy(energy[key]["picojoules_per_frame"]), escape(counts))
    return [table, escape(energy["statement"])]
