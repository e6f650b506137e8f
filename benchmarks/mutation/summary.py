"""Results as a table by module, and the list of survivors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mutants import Mutant

# What a user reads as an answer; weights that differ without any effect on the battery's frames are shown apart.
_ANSWERS = ("verdict", "counts", "spikes", "outputs", "classes")


def record(mutant: Mutant, result: dict[str, Any], state: str, reached: bool) -> dict[str, Any]:
    """Return one line of the file of results."""
    kinds = {kind for found in dict(result["changed"] or {}).values() for kind in found}
    if not reached:
        outcome = "unreached"
    elif result["caught"]:
        outcome = "caught"
    elif kinds & set(_ANSWERS):
        outcome = "survived"
    elif "bounds" in kinds:
        outcome = "bounds"
    else:
        # Weights or populations that are others, and answer the same on all frames of the battery.
        outcome = "same answers" if kinds else "no change"
    return {
        "key": mutant.key,
        "state": state,
        "module": mutant.module,
        "line": mutant.line,
        "function": mutant.function,
        "kind": mutant.kind,
        "before": mutant.before,
        "after": mutant.after,
        "outcome": outcome,
        "how": result["caught"],
        "case": result["case"],
        "detail": result["detail"],
        "changed": sorted(kinds),
        "cases": list(dict(result["changed"] or {}))[:6],
    }


def read(file: Path, state: str) -> dict[str, dict[str, Any]]:
    """Return the results of a file that belong to the sources as they are, by mutant."""
    if not file.exists():
        return {}
    records = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return {entry["key"]: entry for entry in records if entry["state"] == state}


def table(records: list[dict[str, Any]]) -> str:
    """Return the table by module, Markdown.

    "Bounds" are those that change no more than how many comparisons count as decided. "Changed" are the mutants that
    change an answer. The last share leaves out those that crash with an error that is
    not strop's own: they prove little.
    """
    columns = ("module", "mutants", "unreached", "no change", "same answers", "bounds", "changed", "caught")
    columns += ("failed", "refused", "crashed", "share", "without crashes")
    rows = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    for module in (*sorted({entry["module"] for entry in records}), None):
        chosen = [entry for entry in records if module in (None, entry["module"])]
        count = Counter(entry["outcome"] for entry in chosen)
        how = Counter(entry["how"] for entry in chosen if entry["outcome"] == "caught")
        numbers = [len(chosen), count["unreached"], count["no change"], count["same answers"], count["bounds"]]
        told, crashed = how["failed"] + how["refused"], count["caught"] - how["failed"] - how["refused"]
        numbers += [count["caught"] + count["survived"], count["caught"], how["failed"], how["refused"], crashed]
        shares = [_share(count["caught"], count["survived"]), _share(told, count["survived"])]
        rows.append(f"| {module or 'all'} | {' | '.join([*map(str, numbers), *shares])} |")
    return "\n".join(rows)


def _share(caught: int, survived: int) -> str:
    return f"{100 * caught / (caught + survived):.1f} %" if caught + survived else "-"


def line_of(entry: dict[str, Any]) -> str:
    """Return a survivor in one line."""
    where = f"{entry['module']}:{entry['line']} {entry['function']}"
    return (
        f"{where}: {entry['kind']}: `{entry['before']}` -> `{entry['after']}`; changes {', '.join(entry['changed'])} "
        f"in {'; '.join(entry['cases'])} ({entry['detail']})"
    )


def survivors(records: list[dict[str, Any]]) -> str:
    """Return the list of survivors, Markdown."""
    found = sorted((e for e in records if e["outcome"] == "survived"), key=lambda e: (e["module"], e["line"]))
    return "\n".join(f"* {line_of(entry)}" for entry in found) + "\n"
