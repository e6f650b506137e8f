"""An explanation in five lines: cause, first fault, extent, origin, and where to look."""

from __future__ import annotations

from strop.verification.explanation.intervals import number
from strop.verification.explanation.places import place_text
from strop.verification.explanation.records import Contribution, Findings, LayerFaults, NeuronFault

_SHOWN_CONTRIBUTIONS = 3
# Names and sentences come from models: a line that is longer than this is cut.
_LONGEST = 420


def five_lines(explanation: Findings, call: str = "") -> list[str]:
    """Return the five lines.

    Parameters
    ----------
    call : str
        Arguments for the command of the last line; "" for a call in Python.
    """
    found = explanation.culprit
    lines = _of_output(explanation) if found is None else _of_layer(explanation, found)
    return [
        line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..." for line in (*lines, _look(explanation, call))
    ]


def _of_layer(explanation: Findings, found: LayerFaults) -> list[str]:
    first = "" if found.first is None else fault_text(found.first)
    kinds = f"{found.missing:,} missing, {found.extra:,} too many"
    neurons = f"{found.faulty_neurons:,} of {found.neurons:,} neurons"
    where = "" if found.where == neurons else f" ({found.where})"
    return [
        f"Cause:  {where_it_errs(explanation.comparison, found)}: {cause_text(found)}.",
        f"First:  {first}",
        f"Extent: {found.faults:,} faults in {found.layer} ({kinds}), in {neurons}{where} "
        f"and {found.faulty_frames:,} of {explanation.frames:,} frames.",
        f"Origin: {origin(explanation, found)}",
    ]


def where_it_errs(comparison: str, found: LayerFaults) -> str:
    """Return the comparison and the layer, as the subject of a sentence."""
    if comparison == "Keras":
        return f"Keras and the graph differ in layer {found.layer}; in Keras"
    return f"{comparison} errs in layer {found.layer}"


def cause_text(found: LayerFaults) -> str:
    """Return the cause, its kind, and how much it explains."""
    share = found.cause.explained
    how = "explains all faults" if share >= 1.0 else f"explains {100 * share:.1f} % of the faults"
    how = how if share > 0.0 else "no single change explains the faults"
    return f"{found.cause.sentence} [{found.cause.kind}; {how}]"


def fault_text(fault: NeuronFault) -> str:
    """Return one fault: neuron, frame, potential against threshold, and the synapses that add most."""
    side = ">=" if fault.potential >= fault.threshold else "<"
    spike = "a spike too many" if fault.observed else "the spike is missing"
    text = (
        f"frame {fault.frame}, neuron {place_text(fault.neuron)} of {fault.layer}: potential {number(fault.potential)} "
        f"{side} threshold {number(fault.threshold)}, {spike}"
    )
    if fault.contributions:
        most = ", ".join(contribution_text(own) for own in fault.contributions[:_SHOWN_CONTRIBUTIONS])
        text += f"; {fault.synapses:,} synapses add to it, most {most}"
    if fault.bias:
        text += f"; bias {fault.bias:+.4g}"
    return text + "."


def contribution_text(own: Contribution) -> str:
    """Return "conv[2, 0, 5] +0.25"."""
    return f"{own.source}{place_text(own.neuron)} {own.value:+.4g}"


def origin(explanation: Findings, found: LayerFaults) -> str:
    """Return whether all faults come from one neuron or layer, and which layers follow."""
    others = explanation.layers[1:]
    if others:
        shown = "; ".join(f"{own.layer}, by itself: {own.cause.sentence}" for own in others[:2])
        more = f" and {len(others) - 2} layers more" if len(others) > 2 else ""
        text = f"not all from {found.layer}; also at fault is {shown}{more}"
    elif found.faulty_neurons == 1:
        text = f"all faults trace back to one neuron, {found.where} of {found.layer}"
    else:
        text = f"all faults trace back to one layer, {found.layer}"
    if explanation.followers:
        text += f"; what differs in {_some(explanation.followers)} follows from its spikes"
    if found.record_only:
        text += ", which sent the right spikes and was recorded wrongly"
    if explanation.echoes:
        text += f"; {_some(explanation.echoes)} got other spikes than were recorded"
    return text + "."


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _of_output(explanation: Findings) -> list[str]:
    found = explanation.outputs[0]
    others = ", ".join(own.output for own in explanation.outputs[1:])
    keras = explanation.comparison == "Keras"
    subject = "Keras and the graph differ in" if keras else f"{explanation.comparison} errs in"
    return [
        f"Cause:  {subject} output {found.output}: {found.cause.sentence} [{found.cause.kind}].",
        f"First:  {found.sentence}.",
        f"Extent: {explanation.faulty_frames:,} of {explanation.frames:,} frames; no spike is at fault.",
        f"Origin: all spikes are right, the read-out is not{f'; so is output {others}' if others else ''}.",
    ]


def _look(explanation: Findings, call: str) -> str:
    backend = "keras" if explanation.comparison == "Keras" else explanation.comparison
    frame, layer = explanation.first_frame or 0, "" if explanation.culprit is None else explanation.culprit.layer
    if not call:
        named = f', layer="{layer}"' if layer else ""
        return f'Look:   strop.explain(model, frames, "{backend}", frame={frame}{named})'
    return f"Look:   strop explain {call} --backend {backend} --frame {frame}{f' --layer {layer}' if layer else ''}"
