"""One frame in full, as text, drawn with rich; imported only when it is printed."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop.running.terminal import count, to_text
from strop.verification.explanation.frames import FrameFindings
from strop.verification.explanation.intervals import number
from strop.verification.explanation.places import place_text
from strop.verification.explanation.records import NeuronFault
from strop.verification.explanation.wording import contribution_text

# Contributions in a cell of the table; of the first neuron all that were kept are listed.
_IN_A_CELL = 2


def render_frame(found: FrameFindings) -> str:
    """Return the layers of a frame, the neurons of one of them, and why there are faults."""
    what = f"frame {found.frame} on {found.comparison}: {count(found.faults)} faults"
    title = "faulty neurons" if found.faulty else "no faults; the neurons closest to their thresholds"
    return to_text(
        Text(what),
        _layers(found),
        Text(f"layer {found.layer}: {title}"),
        _neurons(found),
        *_most(found.neurons[:1]),
        *_why(found),
    )


def _layers(found: FrameFindings) -> Table:
    table = Table()
    table.add_column("layer")
    for heading in ("neurons", "spikes", "oracle", "missing", "too many", "ties", "follows from before"):
        table.add_column(heading, justify="right")
    for own in found.layers:
        spikes = "not shown" if own.spikes is None else count(own.spikes)
        faults = (f"[red]{count(n)}[/red]" if n else "0" for n in (own.missing, own.extra))
        cells = (count(own.neurons), spikes, count(own.expected), *faults, count(own.ties), count(own.follows))
        table.add_row(escape(own.layer), *cells)
    return table


def _neurons(found: FrameFindings) -> Table:
    table = Table()
    table.add_column("neuron")
    for heading in ("potential", "threshold", "margin", "rounding"):
        table.add_column(heading, justify="right")
    for heading in ("spike", "largest contributions"):
        table.add_column(heading)
    for own in found.neurons:
        fault = "too many" if own.observed else "missing"
        spike = fault if found.faulty else ("yes" if own.observed else "no")
        most = ", ".join(contribution_text(added) for added in own.contributions[:_IN_A_CELL])
        table.add_row(
            escape(place_text(own.neuron)),
            number(own.potential),
            number(own.threshold),
            f"{own.potential - own.threshold:+.4g}",
            f"{own.bound:.2g}",
            spike,
            escape(most),
        )
    return table


def _most(neurons: tuple[NeuronFault, ...]) -> list[Text]:
    """Return the sum behind the first neuron's potential."""
    lines = []
    for own in neurons:
        lines.append(f"neuron {place_text(own.neuron)}: {number(own.potential)} = bias {number(own.bias)}")
        rest = own.potential - own.bias
        for added in own.contributions:
            lines.append(
                f"  {added.value:+.4g}  from {added.source}{place_text(added.neuron)}, weight {added.weight:.4g}"
            )
            rest -= added.value
        others = own.synapses - len(own.contributions)
        if others > 0:
            lines.append(f"  {rest:+.4g}  from {count(others)} other synapses")
    return [Text(line) for line in lines]


def _why(found: FrameFindings) -> list[Text]:
    if found.explanation is None:
        return []
    return [Text(""), *(Text(line) for line in found.explanation.lines()[:-1])]
