"""Puts probes for entries and lines into a syntax tree: the same places that LINE events have. Pure.

A probe is a statement `~P` before the statement whose line it records, with that line as its own, so that other
tools see the lines that they would see without. Lines between which nothing can happen share one: a function's
entry and its first statement, a `try` and the first of its block. A loop's line is recorded again at
the end of its body, where the interpreter goes back to it; or where that cannot execute anything that is
recorded, at the beginning of the body together with the first line of that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from .nodes import begins_on, bindings
from .placeholders import NO_LINE, Placeholders, at
from .source import Source

__all__ = ["ENTRY", "insert"]

ENTRY = "entry"
"""The place of the entry of the code object that the probe turns out to be in."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef
_Loop = ast.For | ast.AsyncFor | ast.While
_With = ast.With | ast.AsyncWith
_Try = ast.Try | ast.TryStar
_JUMPS = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_DISPLAYS = (
    ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp,
)  # fmt: skip
# What they return runs no Python code when it is iterated over, and raises nothing; or not if their arguments do not.
_PLAIN = {"range", "sorted", "list", "tuple", "set", "frozenset", "dict"}
_AS_PLAIN = {"enumerate", "reversed", "zip"}


# Flags of a Probe. A loop begins, with the last place; goes on, with the first: which is not recorded where the
# loop has just begun.
_BEGINS, _GOES_ON = 1, 2


class _Places(list[Any]):
    """Places that have happened and wait for a probe."""

    flags = 0


@dataclass(slots=True)
class _Around:
    """What is around a block."""

    function: bool
    """It is in a function, not in the body of a module or class."""
    header: int = 0
    """The line that is recorded when the loop that it is in goes on; 0 if the loop does that itself."""
    blocks: tuple[int, ...] = ()
    """The lines of the `with` blocks that it is in, from the inside: recorded again when they are left."""
    in_loop: int = 0
    """How many of them are in the innermost loop."""


def insert(tree: ast.Module, source: Source, placeholders: Placeholders, *, asserts: bool) -> None:
    """Insert probes into a module; `asserts`: the compiler will keep its assertions."""
    _Inserter(tree, source, placeholders, asserts).code(tree, function=False)


class _Inserter:
    def __init__(
        self, tree: ast.Module, source: Source, placeholders: Placeholders, asserts: bool
    ) -> None:
        self.source = source
        self.placeholders = placeholders
        self.asserts = asserts
        bound = _bound_names(tree)
        self.plain = _PLAIN - bound
        self.as_plain = _AS_PLAIN - bound
        self.passing: set[ast.stmt] = set()
        """Assignments in which nothing can happen."""

    def line_of(self, line: int) -> int:
        """Return the line that is recorded when the first thing on a line happens; 0 for a docstring's."""
        statement = self.source.first.get(line, line)
        return 0 if line in self.source.docstrings else statement

    def statement(self, places: _Places, line: int) -> ast.stmt:
        return at(line, ast.Expr(self.placeholders.lines(places, line, places.flags)))

    def before(self, line: int, value: ast.expr) -> ast.expr:
        """Return an expression that records a line, then has the value of another."""
        recorded = self.line_of(line)
        if not recorded:
            return value
        probe = self.placeholders.lines([recorded], line)
        return at(line, ast.BoolOp(ast.Or(), [probe, value]))

    def after(self, value: ast.expr, line: int) -> ast.expr:
        """Return an expression that has a value, and records a line when it is there."""
        recorded = self.line_of(line)
        if not recorded:
            return value
        probe = self.placeholders.lines([recorded], value.lineno)
        both = ast.Tuple([value, probe], ast.Load())
        return at(value.lineno, ast.Subscript(both, ast.Constant(0), ast.Load()))

    def code(self, node: ast.Module | _Definition, last: int = 0, *, function: bool) -> None:
        """Insert into the body of what has a code object of its own, and begins on the line `last`."""
        start = 0
        if ast.get_docstring(node, clean=False) is not None:
            start = 1
        pending = _Places([ENTRY])
        if last:
            pending.append(last)
        if function and isinstance(node, _Function):
            self.passing.update(_first_values(node))
        if isinstance(node, ast.Module):
            # Nothing may stand before these.
            while start < len(node.body) and _is_future(node.body[start]):
                line = self.line_of(node.body[start].lineno)
                if line != last:
                    pending.append(line)
                last = line
                start += 1
        rest = self.block(node.body[start:], _Around(function), last, pending)
        node.body[start:] = rest

    def block(
        self,
        body: list[ast.stmt],
        around: _Around,
        last: int,
        pending: _Places | None = None,
        ending: tuple[int, ...] = (),
    ) -> list[ast.stmt]:
        """Return the statements of a block with probes.

        `last` is the line that control comes from, `pending` is what has happened and waits for the next probe,
        and `ending` is what happens at the block's end.
        """
        pending = _Places() if pending is None else pending
        done: list[ast.stmt] = []
        for node in body:
            line = self.own_line(node, around)
            if line:
                recorded = self.line_of(line)
                if recorded and recorded != last and not _records_in_test(node):
                    pending.append(recorded)
                    if isinstance(node, _Loop) and self.is_plain(node):
                        pending.flags |= _BEGINS
                last = recorded or last
            if isinstance(node, ast.Return):
                pending += around.blocks
            elif isinstance(node, ast.Break | ast.Continue):
                pending += around.blocks[: around.in_loop]
            if isinstance(node, ast.Continue) and around.header:
                pending.append(around.header)
            if pending and not self.passes(node) and not isinstance(node, _Try):
                where = begins_on(node, in_function=around.function) if line else NO_LINE
                done.append(self.statement(pending, where))
                pending = _Places()
            done.append(node)
            if not _is_simple(node):
                pending = self.compound(node, around, last, pending)
                last = 0
        if last not in ending and not (body and isinstance(body[-1], _JUMPS)):
            pending += ending
        if pending:
            done.append(self.statement(pending, NO_LINE))
        return done

    def passes(self, node: ast.stmt) -> bool:
        """Tell whether nothing can happen in a statement, so that its line can wait for the next probe."""
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        return isinstance(node, ast.Pass | ast.Global | ast.Nonlocal) or node in self.passing

    def own_line(self, node: ast.stmt, around: _Around) -> int:
        """Return the line that a statement is known by, where its text begins; 0 if it has no code.

        Its first instruction may be on a line below, where other tools see it: begins_on().
        """
        if isinstance(node, ast.Global | ast.Nonlocal):
            return 0
        if isinstance(node, ast.Assert) and not self.asserts:
            return 0
        if (
            isinstance(node, ast.AnnAssign)
            and node.value is None
            and isinstance(node.target, ast.Name)
            and (around.function or not node.simple)
        ):
            return 0
        return _first_line(node) if isinstance(node, _Definition) else node.lineno

    def compound(self, node: ast.stmt, around: _Around, line: int, pending: _Places) -> _Places:
        """Insert into what a statement has in it; return what still waits for a probe."""
        if isinstance(node, _Definition):
            self.definition(node)
        elif isinstance(node, ast.If):
            node.body = self.block(node.body, around, line)
            if node.orelse:
                node.orelse = self.block(node.orelse, around, 0)
        elif isinstance(node, _Loop):
            self.loop(node, around, line)
        elif isinstance(node, _With):
            self.with_block(node, around, line)
        elif isinstance(node, _Try):
            node.body = self.block(node.body, around, line, pending)
            for handler in node.handlers:
                self.handler(handler, around)
            if node.orelse:
                node.orelse = self.block(node.orelse, around, 0)
            if node.finalbody:
                node.finalbody = self.block(node.finalbody, around, 0)
            return _Places()
        elif isinstance(node, ast.Match):
            self.match(node, around)
        return pending

    def definition(self, node: _Definition) -> None:
        decorators = node.decorator_list
        for i in range(1, len(decorators)):
            decorators[i] = self.before(decorators[i].lineno, decorators[i])
        if decorators:
            decorators[-1] = self.after(decorators[-1], node.lineno)
        # A class begins to make its namespace on its own first line.
        last = self.line_of(_first_line(node)) if isinstance(node, ast.ClassDef) else 0
        self.code(node, last, function=not isinstance(node, ast.ClassDef))

    def loop(self, node: _Loop, around: _Around, line: int) -> None:
        at_end: _Places | None = None
        if self.is_plain(node):
            at_start, at_end = _Places([line]), _Places([line])
            at_start.flags = at_end.flags = _GOES_ON
            inside = _Around(around.function, 0, around.blocks)
            node.body = self.block(node.body, inside, line, at_start)
        elif _records_in_test(node):
            node.test = self.before(node.lineno, node.test)
            inside = _Around(around.function, 0, around.blocks)
            node.body = self.block(node.body, inside, line)
        else:
            header = line if self.is_below(node) else 0
            inside = _Around(around.function, header, around.blocks)
            node.body = self.block(node.body, inside, line, ending=(line,))
        if node.orelse or at_end:
            node.orelse = self.block(node.orelse, around, 0, at_end)

    def with_block(self, node: _With, around: _Around, line: int) -> None:
        """Record the line of a `with` again when its block is left, as events do."""
        is_below = self.is_below(node)
        inside = around
        if is_below:
            inside = _Around(
                around.function, around.header, (line, *around.blocks), around.in_loop + 1
            )
        node.body = self.block(node.body, inside, line, ending=(line,))
        if is_below:
            # Each manager's end is on the line again when an exception passes.
            items, body = node.items, node.body
            for item in items[:0:-1]:
                body = [ast.copy_location(type(node)([item], self.passed(body, node.lineno)), node)]
            node.items, node.body = items[:1], self.passed(body, node.lineno)

    def passed(self, body: list[ast.stmt], line: int) -> list[ast.stmt]:
        """Return a block that records a line when an exception leaves it."""
        # It passes a handler of no type.
        nothing = at(line, ast.Tuple([], ast.Load()))
        handler = ast.ExceptHandler(self.before(line, nothing), None, [ast.Pass()])
        return [at(NO_LINE, ast.Try(body, [at(line, handler)], [], []))]

    def is_below(self, node: _Loop | _With) -> bool:
        """Tell whether the body of a statement begins on another line."""
        return self.line_of(node.body[0].lineno) != self.line_of(node.lineno)

    def is_plain(self, node: _Loop) -> bool:
        """Tell whether nothing can happen where a loop goes on, but that it does; its body is on lines of its own."""
        if not self.is_below(node):
            return False
        if isinstance(node, ast.While):
            return isinstance(node.test, ast.Constant) and bool(node.test.value)
        return (
            isinstance(node, ast.For)
            and self.is_plain_iterable(node.iter)
            and _is_plain_target(node.target, node.iter)
        )

    def is_plain_iterable(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return isinstance(node, _DISPLAYS)
        return not node.keywords and (
            node.func.id in self.plain
            or (node.func.id in self.as_plain and all(map(self.is_plain_iterable, node.args)))
        )

    def handler(self, node: ast.ExceptHandler, around: _Around) -> None:
        line = self.line_of(node.lineno)
        if node.type is None:
            node.body = self.block(node.body, around, line, _Places([line]))
        else:
            node.type = self.before(node.lineno, node.type)
            node.body = self.block(node.body, around, line)

    def match(self, node: ast.Match, around: _Around) -> None:
        """Before each case comes one that never matches, and whose guard records the case's line."""
        cases = []
        for case in node.cases:
            line = case.pattern.lineno
            header = self.line_of(line)
            guard = self.placeholders.lines([header], line)
            never = ast.match_case(ast.MatchAs(), guard, [ast.Pass()])
            cases += [at(line, never), case]
            case.body = self.block(case.body, around, header)
        node.cases = cases


def _bound_names(tree: ast.Module) -> set[str]:
    """Return all names that a module gives a meaning to somewhere; of the builtin ones all, with a `*`."""
    found = {name for name, _ in bindings(tree)}
    return found | _PLAIN | _AS_PLAIN if "*" in found else found


def _is_plain_target(target: ast.expr, iterable: ast.expr) -> bool:
    """Tell whether what a plain iterable gives gets its names without a failure, and runs nothing."""
    if not isinstance(target, ast.Tuple):
        return isinstance(target, ast.Name)
    if not isinstance(iterable, ast.Call) or not isinstance(iterable.func, ast.Name):
        return False
    given = {"enumerate": 2, "zip": len(iterable.args)}.get(iterable.func.id)
    return len(target.elts) == given and all(isinstance(each, ast.Name) for each in target.elts)


def _first_values(function: _Function) -> Iterator[ast.stmt]:
    """Yield the assignments of a function that give names their first values, constants, and happen once.

    Nothing can happen in them: no old value goes.
    """
    found: list[tuple[ast.Name, ast.stmt]] = []
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assign) and _is_new(node.value):
            target = node.targets[0]
            if isinstance(target, ast.Name) and len(node.targets) == 1:
                found.append((target, node))
        elif not isinstance(node, _Definition | _Loop):
            for name in ("body", "orelse", "handlers", "cases"):
                waiting += getattr(node, name, ())
    if not found:
        return
    first: dict[str, tuple[int, int]] = {}
    for name, node in bindings(function):
        here = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        first[name] = min(here, first.get(name, here))
    for target, statement in found:
        if (target.lineno, target.col_offset) == first[target.id]:
            yield statement


def _is_new(node: ast.expr) -> bool:
    """Tell whether an expression is a constant, or an empty list or dictionary."""
    return isinstance(node, ast.Constant) or (
        (isinstance(node, ast.List) and not node.elts)
        or (isinstance(node, ast.Dict) and not node.keys)
    )


def _first_line(node: _Definition) -> int:
    """Return the line on which the text of a function or class begins: of its first decorator."""
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level


def _is_simple(node: ast.stmt) -> bool:
    return not isinstance(node, _Definition | ast.If | _Loop | _With | _Try | ast.Match)


def _records_in_test(node: ast.stmt) -> TypeGuard[ast.While]:
    """Tell whether a loop's line is recorded where it tests.

    A `continue` of it is in a `with`, or in a `try` that has a `finally`: what they do at their end happens
    before the test does.
    """
    if not isinstance(node, ast.While):
        return False
    waiting: list[tuple[ast.stmt | ast.ExceptHandler | ast.match_case, bool]]
    waiting = [(each, False) for each in node.body]
    while waiting:
        at, inside = waiting.pop()
        if isinstance(at, ast.Continue) and inside:
            return True
        if isinstance(at, _Definition):
            continue
        if isinstance(at, _Loop):  # a `continue` in its body is its own
            waiting += [(each, inside) for each in at.orelse]
            continue
        inside = inside or isinstance(at, _With) or bool(getattr(at, "finalbody", None))
        for name in ("body", "orelse", "handlers", "cases", "finalbody"):
            waiting += [(each, inside) for each in getattr(at, name, ())]
    return False
