"""Mutations of a module's functions, made on its syntax tree.

Only what runs inside a function is mutated. Log calls, assertions, docstrings and
annotations are not: nothing may depend on them.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LONGEST_LABEL = 70


@dataclass(frozen=True)
class Mutation:
    """One change of a tree.

    :ivar function: the qualified name of the outermost function it is in, to be replaced.
    :ivar line: first line of what changes.
    :ivar label: names the change without a line number: stable while others edit the file.
    """

    function: str
    line: int
    label: str
    _parent: ast.AST
    _field: str
    _index: int | None
    _new: Any

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Change the tree for a while."""
        held = getattr(self._parent, self._field)
        if self._index is None:
            setattr(self._parent, self._field, self._new)
        else:
            old = held[self._index]
            held[self._index] = self._new
        try:
            yield
        finally:
            if self._index is None:
                setattr(self._parent, self._field, held)
            else:
                held[self._index] = old


def mutations(tree: ast.Module) -> list[Mutation]:
    """List every mutation of a module, in the order of its source."""
    found = list(_scan(tree, "", None))
    # A number distinguishes two equal changes in one function.
    seen: Counter[str] = Counter()
    numbered = []
    for mutation in found:
        seen[mutation.label] += 1
        nth = seen[mutation.label]
        suffix = f" #{nth}" if nth > 1 else ""
        numbered.append(
            Mutation(
                mutation.function,
                mutation.line,
                mutation.label + suffix,
                mutation._parent,
                mutation._field,
                mutation._index,
                mutation._new,
            )
        )
    return numbered


def code_of(module: CodeType, function: str) -> CodeType:
    """Find a function's code in that of its compiled module."""
    code = module
    for name in function.split("."):
        code = next(
            constant
            for constant in code.co_consts
            if isinstance(constant, CodeType) and constant.co_name == name
        )
    return code


def _scan(node: ast.AST, scope: str, function: str | None) -> Iterator[Mutation]:
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _exempt(node, field, child):
                continue
            where = index if isinstance(value, list) else None
            if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
                inner = f"{scope}.{child.name}" if scope else child.name
                outermost = function
                if outermost is None and isinstance(child, _FUNCTIONS):
                    outermost = inner
                yield from _scan(child, inner, outermost)
                continue
            if function is not None:
                for new in _changes(child, node, field):
                    label = f"{scope}: {_text(child)} → {_text(new)}"
                    line = getattr(child, "lineno", 0)
                    yield Mutation(function, line, label, node, field, where, new)
            yield from _scan(child, scope, function)


def _exempt(parent: ast.AST, field: str, child: ast.AST) -> bool:
    if field in ("annotation", "returns", "decorator_list", "defaults", "kw_defaults"):
        return True
    if isinstance(child, ast.Assert):
        return True
    if isinstance(child, ast.Expr):
        if isinstance(child.value, ast.Constant):
            return True
        called = child.value.func if isinstance(child.value, ast.Call) else None
        return called is not None and "_log." in ast.unparse(called) + "."
    # The text of an exception or a log event.
    return isinstance(parent, ast.Raise) and field == "exc" and isinstance(child, ast.Call)


def _changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left=left, ops=[operator, *more], comparators=comparators):
            changed = ast.Compare(left, [_COMPARED[type(operator)](), *more], comparators)
            yield ast.copy_location(changed, node)
        case ast.BoolOp(op=operator, values=values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield ast.copy_location(ast.BoolOp(other, values), node)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _COMPUTED:
            if not _is_text(left) and not _is_text(right):
                changed_ = ast.BinOp(left, _COMPUTED[type(operator)](), right)
                yield ast.copy_location(changed_, node)
        case ast.Constant(value=bool(value)):
            yield ast.copy_location(ast.Constant(not value), node)
        case ast.Constant(value=int() | float() as number):
            yield ast.copy_location(ast.Constant(number + 1), node)
        case ast.AugAssign(target=target, op=operator, value=value):
            if type(operator) in _COMPUTED:
                turned = ast.AugAssign(target, _COMPUTED[type(operator)](), value)
                yield ast.copy_location(turned, node)
            yield _nothing(node)
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise():
            yield _nothing(node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield _nothing(node)
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node)
        case ast.Break():
            yield ast.copy_location(ast.Continue(), node)
        case ast.Return(value=None):
            yield _nothing(node)
        case _:
            pass
    if field == "test" and isinstance(
        node, (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr, ast.BoolOp)
    ):
        yield ast.copy_location(ast.UnaryOp(ast.Not(), node), node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def _nothing(node: ast.AST) -> ast.AST:
    return ast.copy_location(ast.Pass(), node)


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
