"""Mutation testing of the verification: every small change to strop that changes an answer must be caught by `verify`.

    python benchmarks/mutation/run.py --sample 300 --seed 0 --out results.jsonl
    python benchmarks/mutation/run.py --module strop.running.decode --module strop.lowering --survivors survivors.md

Each mutant runs in a process of its own, forked from one in which TensorFlow and the battery's Keras models are ready:
strop is imported anew there with the mutant in it, and the cases that reach the changed line are verified until one of
them says that something is wrong. Results are added to the file as they come; what is in it already is not run again.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

# A forked process has none of its parent's threads: everything must run in the one that calls.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.run_functions_eagerly(True)


class _Eager:
    """Stands for `tf.function`: concrete functions would run on threads that a forked process does not have."""

    def __init__(self, function: Any = None, **_: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _Eager(args[0]) if self.function is None else self.function(*args, **kwargs)

    def get_concrete_function(self, *_: Any) -> Any:
        return self.function


tf.function = _Eager  # type: ignore[misc, assignment]

import battery  # noqa: E402
import forks  # noqa: E402
import fresh  # noqa: E402
import reach  # noqa: E402
import remembered  # noqa: E402
import summary  # noqa: E402
from mutants import Mutant, mutants_of  # noqa: E402
from outcome import Case, caught, differences, observe, where_counts_differ  # noqa: E402

# Counts of operations for `strop.costs.energy`: no verification reads them.
_NOT_VERIFIED = ("strop.costs.keras_macs",)
MODULES = (
    *("strop.lowering", "strop.graph.rounding"),
    # The frames' way to the networks, what the oracle makes of them, and the way back to answers.
    *(
        "strop.running.frame_forms",
        "strop.running.frame_source",
        "strop.running.frame_streams",
        "strop.running.frames",
        "strop.running.label_source",
        "strop.running.labels",
        "strop.running.lazy_rows",
        "strop.running.encode",
        "strop.running.decode",
        "strop.running.oracle",
        "strop.running.reference",
        "strop.running.simulate",
    ),
    # The verdict.
    *(
        "strop.verification.bounds",
        "strop.verification.comparison",
        "strop.verification.counts",
        "strop.verification.job",
        "strop.verification.judge",
        "strop.verification.near",
        "strop.verification.outcome",
        "strop.verification.outputs",
        "strop.verification.partial",
        "strop.verification.report",
        "strop.verification.selfcheck",
        "strop.verification.session",
        "strop.verification.totals",
        "strop.verification.verify",
    ),
)


def judge(mutant: Mutant, cases: list[Case], baseline: dict[str, Any]) -> dict[str, Any]:
    """Run the cases on a mutant; return what it changed and whether a verification noticed (in a forked process)."""
    file = fresh.file_of(mutant.module)
    try:
        fresh.import_changed(mutant.module, file, mutant.tree(file.read_text()))
    except Exception as error:
        return {"caught": "raised", "case": "import", "detail": f"{type(error).__name__}: {error}"[:200], "changed": []}
    changed: dict[str, list[str]] = {}
    detail = ""
    for case in cases:
        before, after = baseline[case.name], observe(case)
        noticed = caught(case, before, after)
        if noticed is not None:
            return {"caught": noticed, "case": case.name, "detail": after.get("detail", ""), "changed": changed}
        found = differences(before, after)
        if found:
            changed[case.name] = found
            detail = detail or _detail(case, before, after, found)
    return {"caught": None, "case": next(iter(changed), ""), "detail": detail, "changed": changed}


def _detail(case: Case, before: dict[str, Any], after: dict[str, Any], found: list[str]) -> str:
    if "verdict" in found:
        return f"{before['verdict']} -> {after['verdict']}"
    if "counts" in found:
        return where_counts_differ(before["counts"], after["counts"])
    return where_counts_differ(before["answers"], after["answers"])


def state() -> str:
    """Return what names the sources that results belong to: those of strop and of the battery."""
    digest = hashlib.sha1()
    root = fresh.file_of("strop").parent
    own = Path(__file__).parent
    for file in (
        *sorted(root.rglob("*.py")),
        *(own / f"{n}.py" for n in ("battery", "architectures", "answers", "given", "planted", "refused")),
    ):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", default=[], help="a module or package of strop; again for more")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds for one mutant")
    parser.add_argument("--minutes", type=float, default=0.0, help="start no mutant after so many minutes")
    parser.add_argument("--out", type=Path, default=Path("mutation.jsonl"))
    parser.add_argument("--survivors", type=Path, help="write the list of survivors to this file, Markdown")
    parser.add_argument("--coverage", action="store_true", help="only say which lines no case reaches")
    parser.add_argument("--only", default="", help="only mutants whose key contains this")
    chosen = parser.parse_args()

    begin = time.perf_counter()
    modules = [m for m in fresh.modules_of(*(chosen.module or MODULES)) if m not in _NOT_VERIFIED]
    cases = battery.cases()
    remembered.remember(case.model for case in cases)
    for case in cases:
        observe(case)
    baseline, reached, seconds = reach.baseline(cases, modules)
    wrong = [c.name for c in cases if baseline[c.name]["verdict"] not in reach.EXPECTED[c.kind]]
    print(f"{len(cases)} cases in {time.perf_counter() - begin:.0f} s, {sum(seconds.values()):.1f} s a round")
    for name in wrong:
        print(f"  not what is right: {name}: {baseline[name]['verdict']} {baseline[name].get('detail', '')}")
    if chosen.coverage:
        reach.print_unreached(modules, reached)
        return
    population = [mutant for module in modules for mutant in mutants_of(module, fresh.file_of(module))]
    picked = population
    if chosen.only:
        picked = [mutant for mutant in picked if chosen.only in mutant.key]
    if chosen.sample and chosen.sample < len(picked):
        picked = random.Random(chosen.seed).sample(picked, chosen.sample)
    now = state()
    done = summary.read(chosen.out, now)
    todo = [mutant for mutant in picked if mutant.key not in done]
    print(f"{len(population)} mutants, {len(picked)} picked, {len(picked) - len(todo)} done before", flush=True)
    by_speed = sorted(cases, key=lambda case: seconds[case.name])

    def work(mutant: Mutant) -> dict[str, Any]:
        return judge(mutant, reach.chosen(by_speed, mutant, reached), baseline)

    with chosen.out.open("a") as file:
        deadline = time.monotonic() + 60 * chosen.minutes if chosen.minutes else None
        for mutant, result in forks.results(todo, work, chosen.workers, chosen.timeout, deadline):
            record = summary.record(mutant, result, now, bool(reach.chosen(cases, mutant, reached)))
            done[mutant.key] = record
            file.write(json.dumps(record) + "\n")
            file.flush()
            if record["outcome"] == "survived":
                print(f"survived: {summary.line_of(record)}", flush=True)
    found = [done[mutant.key] for mutant in picked if mutant.key in done]
    print(summary.table(found))
    if chosen.survivors:
        chosen.survivors.write_text(summary.survivors(found))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
