"""Small changes to a module's source, one at a time: what a slip of the pen could have made of it.

A mutant is a place in the syntax tree and what stands there instead. Annotations, docstrings, messages (the arguments
of `raise`, f-strings), assertions and decorators are left alone: they give no spike and no answer.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Path_ = tuple[tuple[str, int | None], ...]
Change = Callable[[Any], ast.AST]

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
}
# Names that stand for the opposite, or for a neighbour that is easily taken for them.
_NAMES = {
    a: b
    for pair in (
        *(("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("zeros", "ones")),
        *(("argmax", "argmin"), ("multiply", "add"), ("shape_in", "shape_out"), ("size_in", "size_out")),
        *(("pre", "post"), ("sources", "targets"), ("source", "target"), ("faults", "ties"), ("low", "high")),
        *(("scale", "shift"), ("strides", "dilation"), ("rows", "columns"), ("before", "after")),
        *(("threshold", "bias"), ("moving_mean", "moving_variance"), ("gamma", "beta")),
        *(("depthwise_kernel", "pointwise_kernel"), ("incoming", "outgoing"), ("x", "y"), ("a", "b")),
    )
    for a, b in (pair, pair[::-1])
}
# Modules: a method of theirs has no receiver that it could return unchanged.
_MODULES = frozenset(("np", "keras", "ops", "L", "math", "ast", "time", "sys", "inspect", "strop", "numbers"))


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes
    ----------
    module : str
        Its dotted name.
    line, column, last_line : int
        Where what is changed stands; `last_line` is the last of the statement that it belongs to.
    function : str
        Qualified name of the function that it is in, or the empty string for what runs on import.
    kind : str
    before, after : str
        Source.
    number : int
        Tells apart mutants of one place and kind.
    """

    module: str
    line: int
    column: int
    last_line: int
    function: str
    kind: str
    before: str
    after: str
    number: int
    path: Path_
    change: Change

    @property
    def key(self) -> str:
        """What names the mutant in a file of results."""
        return f"{self.module}:{self.line}:{self.column}:{self.kind}:{self.number}"

    def tree(self, source: str) -> ast.Module:
        """Return the syntax tree of the module with the change made."""
        tree = ast.parse(source)
        parent: Any = tree
        for step in self.path[:-1]:
            parent = _child(parent, step)
        field, index = self.path[-1]
        changed = self.change(copy.deepcopy(_child(parent, self.path[-1])))
        if index is None:
            setattr(parent, field, changed)
        else:
            getattr(parent, field)[index] = changed
        return ast.fix_missing_locations(tree)


def _child(node: Any, step: tuple[str, int | None]) -> Any:
    field, index = step
    value = getattr(node, field)
    return value if index is None else value[index]


def mutants_of(module: str, file: Path) -> list[Mutant]:
    """Return all mutants of a module."""
    tree = ast.parse(file.read_text())
    found: list[Mutant] = []
    numbers: dict[tuple[int, int, str], int] = {}
    for node, path, function, last_line, assigned in _places(tree):
        for kind, after, change in _changes(node, assigned):
            place = (node.lineno, node.col_offset, kind)
            numbers[place] = numbers.get(place, -1) + 1
            found.append(
                Mutant(
                    *(module, node.lineno, node.col_offset, last_line, function, kind, _source(node), after),
                    *(numbers[place], path, change),
                )
            )
    return found


def _source(node: ast.AST) -> str:
    return ast.unparse(node).split("\n")[0][:110]


def _places(tree: ast.Module) -> Iterator[tuple[Any, Path_, str, int, frozenset[str]]]:
    """Yield every node that may be changed: it, its path, its function, its statement's last line, names assigned."""

    def visit(node: Any, path: Path_, function: str, last: int, assigned: set[str]) -> Iterator[Any]:
        if isinstance(node, (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            return
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            inner = f"{function}.{node.name}".lstrip(".")
            known = (
                {a.arg for a in node.args.args + node.args.kwonlyargs} if isinstance(node, ast.FunctionDef) else set()
            )
            if isinstance(node, ast.FunctionDef):
                # Defaults are evaluated where the function is defined.
                for field in ("defaults", "kw_defaults"):
                    for index, default in enumerate(getattr(node.args, field)):
                        if default is not None:
                            step: Path_ = (("args", None), (field, index))
                            yield from visit(default, path + step, function, default.lineno, assigned)
            for index, statement in enumerate(node.body):
                yield from visit(statement, (*path, ("body", index)), inner, 0, known)
            return
        if isinstance(node, ast.stmt):
            simple = not any(isinstance(getattr(node, f, None), list) for f in ("body", "orelse"))
            last = int(node.end_lineno or node.lineno) if simple else node.lineno
        if hasattr(node, "lineno"):
            yield node, path, function, max(last, node.lineno), frozenset(assigned)
        if isinstance(node, ast.Raise):
            return
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "ctx", "op", "ops"):
                continue
            if isinstance(value, ast.AST):
                yield from visit(value, (*path, (field, None)), function, last, assigned)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        yield from visit(item, (*path, (field, index)), function, last, assigned)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For)):
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    assigned.add(target.id)

    yield from visit(tree, (), "", 0, set())


def _changes(node: Any, assigned: frozenset[str]) -> Iterator[tuple[str, str, Change]]:
    """Yield (kind, new source, change) for one node."""
    for kind, change in _all_changes(node, assigned):
        yield kind, _source(ast.fix_missing_locations(change(copy.deepcopy(node)))), change


def _all_changes(node: Any, assigned: frozenset[str]) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Compare():
            for index, op in enumerate(node.ops):
                for other in _COMPARISONS[type(op)]:
                    yield "comparison", _replaced_op(index, other)
        case ast.BinOp() | ast.AugAssign():
            for operator in _ARITHMETIC.get(type(node.op), ()):
                yield "arithmetic", _with("op", operator())
            if isinstance(node, ast.AugAssign):
                yield "dropped statement", lambda node: ast.copy_location(ast.Pass(), node)
            elif isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Pow, ast.LShift, ast.RShift, ast.Mod)):
                yield "swapped operands", _swapped_operands
        case ast.UnaryOp():
            yield "dropped unary", lambda node: node.operand
        case ast.BoolOp():
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "and/or", _with("op", other_op)
            for index in range(len(node.values)):
                yield "dropped condition", _without("values", index)
        case ast.Constant():
            yield from _constants(node)
        case ast.If() | ast.While() | ast.IfExp():
            yield "negated condition", _negated_test
        case ast.comprehension():
            for index in range(len(node.ifs)):
                yield "negated condition", _negated_filter(index)
        case ast.Call():
            yield from _calls(node)
        case ast.Slice():
            for field in ("lower", "upper"):
                if getattr(node, field) is not None:
                    yield "slice border", _moved_border(field, ast.Add())
                    yield "slice border", _moved_border(field, ast.Sub())
        case ast.Name() | ast.Attribute():
            yield from _names(node, assigned)
        case ast.Raise() | ast.Continue() | ast.Break():
            yield "dropped statement", lambda node: ast.copy_location(ast.Pass(), node)
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield "dropped statement", lambda node: ast.copy_location(ast.Pass(), node)
        case ast.Assign() if _is_again(node, assigned):
            yield "dropped statement", lambda node: ast.copy_location(ast.Pass(), node)


def _is_again(node: ast.Assign, assigned: frozenset[str]) -> bool:
    """Whether an assignment may be left out without a NameError: it is to what has a value already."""
    names = [target for t in node.targets for target in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return all(not isinstance(target, ast.Name) or target.id in assigned for target in names)


def _constants(node: ast.Constant) -> Iterator[tuple[str, Change]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", _constant(not value)
    elif isinstance(value, (int, float)):
        others = [value + 1, value - 1, -value, value / 2 if isinstance(value, float) else value]
        for other in dict.fromkeys(o for o in others if o != value):
            yield "constant", _constant(other)


def _calls(node: ast.Call) -> Iterator[tuple[str, Change]]:
    plain = [not isinstance(arg, ast.Starred) for arg in node.args]
    for index in range(len(node.args) - 1):
        if plain[index] and plain[index + 1]:
            yield "swapped arguments", _swapped(index)
    if node.args and plain[0] and not isinstance(node.args[0], (ast.Constant, ast.GeneratorExp)):
        yield "first argument", lambda node: node.args[0]
    function = node.func
    if isinstance(function, ast.Attribute) and not (
        isinstance(function.value, ast.Name) and function.value.id in _MODULES
    ):
        yield "receiver", lambda node: node.func.value
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield "removed keyword", _without("keywords", index)


def _names(node: ast.Name | ast.Attribute, assigned: frozenset[str]) -> Iterator[tuple[str, Change]]:
    if isinstance(node.ctx, ast.Load):
        name = node.id if isinstance(node, ast.Name) else node.attr
        # A name that is not there would only raise a NameError.
        if name in _NAMES and (isinstance(node, ast.Attribute) or _NAMES[name] in assigned):
            yield "other name", _with("id" if isinstance(node, ast.Name) else "attr", _NAMES[name])


def _with(field: str, value: Any) -> Change:
    def change(node: Any) -> ast.AST:
        setattr(node, field, value)
        return node

    return change


def _without(field: str, index: int) -> Change:
    def change(node: Any) -> ast.AST:
        del getattr(node, field)[index]
        # One operand of `and` is left: it stands alone.
        return node.values[0] if field == "values" and len(node.values) == 1 else node

    return change


def _replaced_op(index: int, operator: type[ast.cmpop]) -> Change:
    def change(node: Any) -> ast.AST:
        node.ops[index] = operator()
        return node

    return change


def _swapped(index: int) -> Change:
    def change(node: Any) -> ast.AST:
        node.args[index], node.args[index + 1] = node.args[index + 1], node.args[index]
        return node

    return change


def _swapped_operands(node: Any) -> ast.AST:
    node.left, node.right = node.right, node.left
    return node


def _constant(value: Any) -> Change:
    return lambda node: ast.copy_location(ast.Constant(value), node)


def _negated_test(node: Any) -> ast.AST:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _negated_filter(index: int) -> Change:
    def change(node: Any) -> ast.AST:
        node.ifs[index] = ast.UnaryOp(ast.Not(), node.ifs[index])
        return node

    return change


def _moved_border(field: str, operator: ast.operator) -> Change:
    def change(node: Any) -> ast.AST:
        setattr(node, field, ast.BinOp(getattr(node, field), operator, ast.Constant(1)))
        return node

    return change
