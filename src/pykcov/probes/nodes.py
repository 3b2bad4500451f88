"""Nodes of syntax trees: where they are, what is a constant, what they bind. Pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

__all__ = [
    "at", "begins_on", "bindings", "bound_in", "call", "const_side", "container", "dotted", "is_constant",
    "is_odd", "is_super", "is_wanted", "mangled", "span",
]  # fmt: skip

_Node = TypeVar("_Node", bound=ast.AST)


def bindings(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the names that are given a meaning somewhere, each with the node that does."""
    waiting: list[Any] = [tree]
    while waiting:  # ast.walk() is a third of all that is done here
        node = waiting.pop()
        kind = node.__class__
        if kind is ast.Name:
            if node.ctx.__class__ is not ast.Load:
                yield node.id, node
            continue
        if kind in _NO_BINDINGS:
            continue
        for name in _names_bound_by(node):
            yield name, node
        for field in node._fields:
            value = getattr(node, field, None)
            if value.__class__ is list:
                waiting += value
            elif isinstance(value, ast.AST):
                waiting.append(value)


_NO_BINDINGS = {
    type(None),
    str,
    ast.Constant,
    ast.Load,
    ast.Store,
    ast.Pass,
    ast.Break,
    ast.Continue,
}


def _names_bound_by(node: ast.AST) -> Iterable[str]:
    """Return the names to which a node gives a meaning, not what is in it."""
    if isinstance(node, ast.expr):
        return ()
    if isinstance(node, ast.arg):
        return (node.arg,)
    if isinstance(node, ast.alias):
        return ((node.asname or node.name).partition(".")[0],)
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    if isinstance(node, ast.MatchMapping):
        return (node.rest,) if node.rest else ()
    name = getattr(node, "name", None)
    return (name,) if isinstance(name, str) else ()


def bound_in(definition: ast.AST) -> Iterable[str]:
    """Yield the names that anything in a function or class binds; its own is bound around it."""
    for name, node in bindings(definition):
        if node is not definition and not isinstance(node, ast.Global | ast.Nonlocal):
            yield name


def at(like: ast.AST, node: _Node) -> _Node:
    """Give a node the place of another; return it."""
    return ast.copy_location(node, like)


def call(like: ast.AST, probe: ast.Constant, *args: ast.expr) -> ast.Call:
    """Return the call of a site, at the place of ``like``; the site itself is on the line where that begins."""
    start = _first(args[0], _FIRST)
    choice = ast.IfExp(at(start, ast.Constant(True)), at(start, probe), at(start, ast.Constant(0)))
    return at(like, ast.Call(at(start, choice), list(args), []))


def _first_element(node: ast.Tuple | ast.List | ast.Set) -> ast.AST:
    """The compiler makes one constant of constant elements, in a list or a set of three or more."""
    elements = node.elts
    is_one = is_constant(node) and (isinstance(node, ast.Tuple) or len(elements) > 2)
    is_made_first = not elements or isinstance(elements[0], ast.Starred) or is_one
    return node if is_made_first else elements[0]


def _first_item(node: ast.Dict) -> ast.AST:
    """The compiler makes one constant of constant keys, of two or more."""
    keys = [key for key in node.keys if key is not None]
    if not keys or node.keys[0] is None:
        return node
    all_constant = len(keys) == len(node.keys) and all(map(is_constant, keys))
    return node.values[0] if len(keys) > 1 and all_constant else keys[0]


def _first_default(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
    defaults = (*node.args.defaults, *node.args.kw_defaults)
    return next((default for default in defaults if default is not None), node)


def _first_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    if node.decorator_list:
        return node.decorator_list[0]
    # 3.12 makes room for a call of the type parameters first.
    is_made_first = sys.version_info < (3, 13) and bool(getattr(node, "type_params", ()))
    return node if is_made_first else _first_default(node)


# The part that is evaluated first. What is itself is there, is first.
_FIRST: dict[type[ast.AST], Callable[[Any], ast.AST]] = {
    ast.BinOp: lambda node: node.left,
    ast.Compare: lambda node: node.left,
    ast.BoolOp: lambda node: node.values[0],
    ast.Attribute: lambda node: node.value,
    ast.Subscript: lambda node: node.value,
    ast.Call: lambda node: node.func,
    ast.IfExp: lambda node: node.test,
    ast.UnaryOp: lambda node: node.operand,
    ast.Await: lambda node: node.value,
    ast.NamedExpr: lambda node: node.value,
    ast.Tuple: _first_element,
    ast.List: _first_element,
    ast.Set: _first_element,
    ast.Dict: _first_item,
    ast.JoinedStr: lambda node: node.values[0] if node.values else node,
    ast.FormattedValue: lambda node: node.value,
    ast.Assign: lambda node: node.value,
    ast.AnnAssign: lambda node: node.value or node,
    ast.AugAssign: lambda node: node.target,
    ast.Expr: lambda node: node.value,
    ast.Return: lambda node: node.value or node,
    ast.Raise: lambda node: node.exc or node,
    ast.Assert: lambda node: node.test,
    ast.Delete: lambda node: node.targets[0],
    ast.If: lambda node: node.test,
    ast.While: lambda node: node.test,
    ast.For: lambda node: node.iter,
    ast.AsyncFor: lambda node: node.iter,
    ast.With: lambda node: node.items[0].context_expr,
    ast.AsyncWith: lambda node: node.items[0].context_expr,
    ast.Match: lambda node: node.subject,
    ast.FunctionDef: _first_of_function,
    ast.AsyncFunctionDef: _first_of_function,
    ast.ClassDef: lambda node: node.decorator_list[0] if node.decorator_list else node,
    ast.Lambda: _first_default,
}


# In a function. 3.12 and later have the code of these comprehensions in it, and begin with what they go over.
_FIRST_IN_FUNCTION = _FIRST.copy()
if sys.version_info >= (3, 12):
    for _kind in (ast.ListComp, ast.SetComp, ast.DictComp):
        _FIRST_IN_FUNCTION[_kind] = lambda node: node.generators[0].iter


def _first(node: ast.AST, firsts: dict[type[ast.AST], Callable[[Any], ast.AST]]) -> ast.AST:
    """Return the part of an expression or statement that is evaluated first."""
    while (part := firsts[type(node)](node) if type(node) in firsts else node) is not node:
        node = part
    return node


def begins_on(statement: ast.stmt, *, in_function: bool) -> int:
    """Return the line of a statement's first instruction."""
    first: Any = _first(statement, _FIRST_IN_FUNCTION if in_function else _FIRST)
    return int(first.lineno)


def span(start: ast.AST, end: ast.AST) -> tuple[int | None, ...]:
    """Return from where to where something is: line, column, end line, end column."""
    first: Any = start
    last: Any = end
    return first.lineno, first.col_offset, last.end_lineno, last.end_col_offset


def is_constant(node: ast.AST) -> bool:
    """Tell whether the compiler makes one constant of an expression."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.UnaryOp):
        return is_constant(node.operand)
    if isinstance(node, ast.BinOp):
        return is_constant(node.left) and is_constant(node.right)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(map(is_constant, node.elts))
    return False


def is_singleton(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and (
        node.value is None or node.value is ... or isinstance(node.value, bool)
    )


def const_side(left: ast.AST, right: ast.AST) -> int:
    """Return 1 if the left operand is a constant, else 2 if the right one is, else 0."""
    return 1 if is_constant(left) else 2 if is_constant(right) else 0


def is_wanted(op: ast.cmpop, left: ast.AST, right: ast.AST) -> bool:
    """Tell whether a comparison is recorded: not if both sides are constants, or neither of an `is`."""
    if isinstance(op, ast.Is | ast.IsNot):
        return is_singleton(left) != is_singleton(right)
    return not (is_constant(left) and is_constant(right))


def is_odd(op: ast.cmpop, left: ast.AST, right: ast.AST) -> bool:
    """Tell whether Python may warn of a comparison: of an `is` with a literal."""
    return isinstance(op, ast.Is | ast.IsNot) and any(
        is_constant(side) and not is_singleton(side) for side in (left, right)
    )


def container(node: ast.expr) -> ast.expr:
    """Return what the compiler makes of a list or a set of constants in which something is looked for."""
    if isinstance(node, ast.List) and not any(isinstance(one, ast.Starred) for one in node.elts):
        return at(node, ast.Tuple(node.elts, ast.Load()))
    if isinstance(node, ast.Set) and is_constant(node):
        try:
            found: Any = frozenset(map(ast.literal_eval, node.elts))
            return at(node, ast.Constant(found))
        except (ValueError, TypeError):
            pass
    return node


def is_super(node: ast.AST) -> bool:
    """Tell whether an expression is `super()`, or `super(...)`."""
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def dotted(node: ast.AST) -> tuple[str, ...]:
    """Return the names of `a.b.c`; () if it is something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def mangled(name: str, private: str) -> str:
    """Return what a name is in the body of a class, and in what that defines."""
    owner = private.lstrip("_")
    if not owner or not name.startswith("__") or name.endswith("__"):
        return name
    return f"_{owner}{name}"
