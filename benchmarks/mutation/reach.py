"""Which case reaches which line, and what is right for each: found once, on strop as it is."""

from __future__ import annotations

import ast
import random
import sys
import time
from collections import defaultdict
from typing import Any

import forks
import fresh
from mutants import Mutant
from outcome import Case, observe

EXPECTED = {"sound": ("passed",), "refused": ("refused",), "planted": ("failed", "refused")}
# Many lines are reached by nearly all cases; what so many do not notice is taken for no change.
_MOST = 32
Reached = dict[str, dict[str, set[int]]]  # case -> module -> lines


def baseline(cases: list[Case], modules: list[str]) -> tuple[dict[str, Any], Reached, dict[str, float]]:
    """Return each case's outcome on the unchanged strop, the lines that it reaches, and its seconds."""
    files = {str(fresh.file_of(module)): module for module in modules}

    def work(case: Case) -> dict[str, Any]:
        fresh.import_again()
        lines: dict[str, set[int]] = defaultdict(set)

        def trace(frame: Any, event: str, argument: Any) -> Any:
            module = files.get(frame.f_code.co_filename)
            if module is None:
                return None
            lines[module].add(frame.f_lineno)
            return trace

        sys.settrace(trace)
        observe(case)
        sys.settrace(None)
        # Once more as the mutants have it, without the tracing and with everything warm.
        begin = time.perf_counter()
        outcome = observe(case)
        seconds = time.perf_counter() - begin
        return {"outcome": outcome, "seconds": seconds, "lines": {m: sorted(found) for m, found in lines.items()}}

    outcomes, reached, seconds = {}, {}, {}
    for case, result in forks.results(cases, work, 1, 120.0):
        if "outcome" not in result:
            raise RuntimeError(f"case {case.name!r}: {result['detail']}")
        outcomes[case.name], seconds[case.name] = result["outcome"], result["seconds"]
        reached[case.name] = {module: set(found) for module, found in result["lines"].items()}
    return outcomes, reached, seconds


def reaches(case: str, mutant: Mutant, reached: Reached) -> bool:
    """Whether a case runs the changed place; what runs on import is run by all."""
    if not mutant.function or not _in_function(mutant):
        return True
    lines = reached[case].get(mutant.module, set())
    return any(line in lines for line in range(mutant.line, mutant.last_line + 1)) or mutant.line in lines


def chosen(cases: list[Case], mutant: Mutant, reached: Reached) -> list[Case]:
    """Return the cases to run on a mutant: those that reach it.

    Of many sound ones so many are drawn. All spoilt verifications are of a few models: for the lowering and encoding,
    where there are sound ones, they are left out.
    """
    found = [case for case in cases if reaches(case.name, mutant, reached)]
    sound = [case.name for case in found if case.kind == "sound"]
    if len(sound) > _MOST:
        drawn = set(random.Random(mutant.key).sample(sound, _MOST))
        found = [case for case in found if case.kind != "sound" or case.name in drawn]
    before = ("strop.lowering", "strop.running.encode")
    if mutant.module.startswith(before) and any(case.kind == "sound" for case in found):
        return [case for case in found if case.kind != "planted"]
    return found


_FUNCTIONS: dict[str, list[tuple[int, int]]] = {}


def _in_function(mutant: Mutant) -> bool:
    """Whether the place is inside a function's body, and not in a class's or among a function's defaults."""
    if mutant.module not in _FUNCTIONS:
        tree = ast.parse(fresh.file_of(mutant.module).read_text())
        _FUNCTIONS[mutant.module] = [
            (node.body[0].lineno, int(node.end_lineno or 0))
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
        ]
    return any(first <= mutant.line <= last for first, last in _FUNCTIONS[mutant.module])


def print_unreached(modules: list[str], reached: Reached) -> None:
    """Print the statements that no case runs."""
    for module in modules:
        file = fresh.file_of(module)
        text = file.read_text().splitlines()
        lines = set().union(*(found.get(module, set()) for found in reached.values()))
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for statement in ast.walk(node):
                if (
                    isinstance(statement, ast.stmt)
                    and statement is not node
                    and not isinstance(statement, ast.FunctionDef)
                ):
                    span = range(statement.lineno, int(statement.end_lineno or statement.lineno) + 1)
                    if not lines & set(span) and not isinstance(getattr(statement, "value", None), ast.Constant):
                        print(f"{module}:{statement.lineno}: {text[statement.lineno - 1].strip()}")
