"""The mutator of benchmarks/mutation: what it changes, what it leaves alone, and that every mutant is a program."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[3] / "benchmarks" / "mutation"
sys.path.append(str(_FOLDER))

from mutants import mutants_of  # noqa: E402

SOURCE = '''"""Not this."""
from typing import Any

LIMIT: int = 3


def f(x: Any, y: "int | None" = None, *, scale: float = 2.0) -> Any:
    """Nor this: 1 + 1."""
    assert x != 7
    if not x and y < LIMIT:
        raise ValueError(f"{x + 1} is wrong", 5)
    x = max(x[1:], key=len)
    x += 1
    g(x, y)
    return np.minimum(x, y) - -1
'''


@pytest.fixture
def changes(tmp_path: Path) -> set[tuple[int, str, str, str]]:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    return {(m.line, m.kind, m.before, m.after) for m in mutants_of("module", file)}


@pytest.mark.parametrize(
    "change",
    [
        (4, "constant", "3", "4"),
        (7, "constant", "2.0", "1.0"),
        (10, "negated condition", "if not x and y < LIMIT:", "if not (not x and y < LIMIT):"),
        (10, "and/or", "not x and y < LIMIT", "not x or y < LIMIT"),
        (10, "dropped condition", "not x and y < LIMIT", "y < LIMIT"),
        (10, "dropped unary", "not x", "x"),
        (10, "comparison", "y < LIMIT", "y <= LIMIT"),
        (11, "dropped statement", "raise ValueError(f'{x + 1} is wrong', 5)", "pass"),
        (12, "slice border", "1:", "1 + 1:"),
        (12, "removed keyword", "max(x[1:], key=len)", "max(x[1:])"),
        (13, "dropped statement", "x += 1", "pass"),
        (13, "arithmetic", "x += 1", "x -= 1"),
        (14, "swapped arguments", "g(x, y)", "g(y, x)"),
        (15, "other name", "np.minimum", "np.maximum"),
        (15, "first argument", "np.minimum(x, y)", "x"),
        (15, "swapped operands", "np.minimum(x, y) - -1", "-1 - np.minimum(x, y)"),
    ],
)
def test_slips_of_the_pen_are_made(changes: set[tuple[int, str, str, str]], change: tuple[int, str, str, str]) -> None:
    assert change in changes


def test_texts_assertions_and_messages_are_left_alone(changes: set[tuple[int, str, str, str]]) -> None:
    assert not {line for line, *_ in changes} & {1, 2, 8, 9}
    assert {kind for line, kind, *_ in changes if line == 11} == {"dropped statement"}


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of constants that are called or indexed: they raise when run
@pytest.mark.parametrize("module", ["running/decode", "verification/judge", "lowering/context"])
def test_every_mutant_is_a_program_that_differs(module: str) -> None:
    file = Path(__file__).resolve().parents[3] / "bridge" / "strop" / f"{module}.py"
    source = file.read_text()
    before = ast.dump(ast.parse(source))
    mutants = mutants_of("strop", file)
    assert len({mutant.key for mutant in mutants}) == len(mutants) > 50
    for mutant in mutants[::5]:
        tree = mutant.tree(source)
        compile(tree, str(file), "exec")
        assert ast.dump(tree) != before, mutant
