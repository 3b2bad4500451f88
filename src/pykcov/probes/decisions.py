"""Where a program decides, from its syntax tree: what places.arms() finds in the bytecode is named after these.

A decision is an expression whose truth is tested, or what a `for` goes over, or a `case`'s pattern, or the
type of an `except`. The tree has the same positions on 3.11, 3.12 and 3.13; the bytecode has not. (But in
an f-string on 3.11, where both are off.) Pure.
"""

from __future__ import annotations

import ast
import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

__all__ = ["Decision", "Decisions", "Position", "Span", "find_decisions"]

Position = tuple[int, int]
"""A line from 1, and a column from 0 in bytes of UTF-8."""


class Span(NamedTuple):
    """What an expression takes of the text; it ends before the end column."""

    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def start(self) -> Position:
        """Where it begins."""
        return self.line, self.column

    @property
    def end(self) -> Position:
        """Where it ends."""
        return self.end_line, self.end_column


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """An expression whose truth, or match, decides what happens next."""

    span: Span
    none: bool | None = None
    """It is `x is None` (True) or `x is not None` (False): the interpreter may test x itself."""
    inverted: bool = False
    """It is a comparison that the compiler has joined with a `not`: the interpreter tests the contrary."""
    short: bool | None = None
    """The truth of it that makes the whole `and` or `or` that it is an operand of have it as its value."""
    outer: Decision | None = None
    """What tests the value of that whole `and` or `or`."""


@dataclass(slots=True)
class Decisions:
    """All decisions of a file, by what the bytecode has of their positions."""

    tests: dict[Position, Decision] = field(default_factory=dict)
    """By the end of what is evaluated last before the test."""
    heads: dict[Span, Decision] = field(default_factory=dict)
    """By the whole: a test by itself; the first operand of an `and`, `or` or chained comparison."""
    loops: dict[Position, Span] = field(default_factory=dict)
    """What a loop goes over, by the beginning of its target."""
    handlers: dict[int, Span] = field(default_factory=dict)
    """Of a bare `except`, by its line; of a `finally`, by each line of its first statement."""
    patterns: list[Span] = field(default_factory=list)
    """Of `case`s, in order."""

    def pattern_at(self, line: int, column: int) -> Span | None:
        """Return the whole pattern of a `case` that has a position in it."""
        i = bisect.bisect_right(self.patterns, (line, column, 1 << 30, 0)) - 1
        if i >= 0 and (line, column) < self.patterns[i].end:
            return self.patterns[i]
        return None


def find_decisions(tree: ast.AST) -> Decisions:
    """Return the decisions of a syntax tree."""
    walk = _Walk()
    walk.run(tree)
    walk.found.patterns.sort()
    return walk.found


def span_of(node: ast.expr | ast.pattern | ast.stmt | ast.excepthandler) -> Span:
    """Return what a node takes of the text."""
    return Span(node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)


class _Walk:
    """Goes over a tree with a stack: an expression may be nested deeper than Python's recursion goes."""

    def __init__(self) -> None:
        self.found = Decisions()
        # A node, whether it is tested as a whole (or else a value), and what tests that value later.
        self.stack: list[tuple[ast.AST, bool, Decision | None]] = []
        # The end of a comprehension's target, and its condition.
        self.conditions: list[tuple[Position, ast.expr]] = []

    def run(self, tree: ast.AST) -> None:
        self.stack.append((tree, False, None))
        while self.stack:
            node, tested, into = self.stack.pop()
            if isinstance(node, ast.BoolOp):
                self.bool_op(node, tested, into)
            elif isinstance(node, ast.IfExp):
                self.test(node.test)
                self.stack.append((node.body, tested, into))
                self.stack.append((node.orelse, tested, into))
            elif tested and _is_not(node):
                core, odd = _without_nots(node)
                if _is_joined(core):
                    self.decision(core, inverted=odd)
                    self.expression(core)
                else:
                    self.test(core)
            elif isinstance(node, ast.expr):
                if tested:
                    self.decision(node)
                self.expression(node)
            else:
                self.other(node)
        # 3.13 joins the store of a target with the load of what `if x is None` tests.
        for end, condition in self.conditions:
            decision = self.found.heads.get(span_of(condition))
            if decision is not None and decision.none is not None:
                self.found.tests[end] = decision

    def test(self, node: ast.expr) -> None:
        self.stack.append((node, True, None))

    def values(self, nodes: Iterable[ast.AST | None]) -> None:
        self.stack += [(node, False, None) for node in nodes if node is not None]

    def decision(
        self,
        node: ast.expr,
        short: bool | None = None,
        outer: Decision | None = None,
        *,
        inverted: bool = False,
    ) -> Decision | None:
        """Note that the truth of `node` is tested; not that of a constant."""
        if _is_constant(node):
            return None
        found = Decision(span_of(node), _is_none(node), inverted, short, outer)
        self.ends_with(node, found)
        self.found.heads.setdefault(found.span, found)
        if isinstance(node, ast.Compare) and found.none is not None:
            self.ends_with(node.left, found)
        return found

    def ends_with(self, node: ast.expr, decision: Decision) -> None:
        """Note where what makes the value of a node last may end, in the order of the bytecode."""
        while isinstance(node, ast.BoolOp | ast.IfExp):
            node = node.values[-1] if isinstance(node, ast.BoolOp) else node.orelse
        self.found.tests[span_of(node).end] = decision
        if _is_not(node):
            core, odd = _without_nots(node)
            if not odd or _is_joined(core):  # or else the last of the `not`s is still there
                self.ends_with(core, decision)
        elif isinstance(node, ast.JoinedStr) and len(node.values) == 1:
            self.found.tests[span_of(node.values[0]).end] = decision

    def bool_op(self, node: ast.BoolOp, tested: bool, into: Decision | None) -> None:
        if tested:
            self.stack += [(value, True, None) for value in node.values]
            return
        short = isinstance(node.op, ast.Or)
        for i, value in enumerate(node.values[:-1]):
            decision = self.decision(value, short, into)
            if i == 0 and decision is not None:
                self.found.heads[span_of(node)] = decision
            self.stack.append((value, False, decision))
        self.stack.append((node.values[-1], False, into))

    def expression(self, node: ast.expr) -> None:
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            whole = span_of(node)
            for i, operand in enumerate(node.comparators[:-1]):
                part = Decision(Span(*whole.start, *span_of(operand).end))
                self.ends_with(operand, part)
                if i == 0:
                    self.found.heads[whole] = part
        self.values(ast.iter_child_nodes(node))

    def other(self, node: ast.AST) -> None:
        """What is no expression."""
        if isinstance(node, ast.If | ast.While):
            self.test(node.test)
            self.values(node.body)
            self.values(node.orelse)
            return
        if isinstance(node, ast.Assert):
            self.test(node.test)
            self.values([node.msg])
            return
        if isinstance(node, ast.comprehension):
            for condition in node.ifs:
                self.test(condition)
            if node.ifs:
                self.conditions.append((span_of(node.target).end, _first_test(node.ifs[0])))
            self.values([node.target, node.iter])
            if not node.is_async:
                self.loop(node.target, node.iter)
            return
        if isinstance(node, ast.match_case):
            if not _is_irrefutable(node.pattern):
                self.found.patterns.append(span_of(node.pattern))
            if node.guard is not None:
                self.test(node.guard)
            self.values(node.body)
            return
        if isinstance(node, ast.For):
            self.loop(node.target, node.iter)
        elif isinstance(node, ast.Try | ast.TryStar):
            self.handlers(node)
        self.values(ast.iter_child_nodes(node))

    def loop(self, target: ast.expr, over: ast.expr) -> None:
        node = target
        while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            node = node.func if isinstance(node, ast.Call) else node.value
        self.found.loops[span_of(node).start] = span_of(over)

    def handlers(self, node: ast.Try | ast.TryStar) -> None:
        for handler in node.handlers:
            if handler.type is not None:
                self.decision(handler.type)
            elif len(node.handlers) == 1:  # or else what is before it has not matched
                line, column = handler.lineno, handler.col_offset
                self.found.handlers[line] = Span(line, column, line, column + len("except"))
        for first in node.finalbody:
            if isinstance(first, ast.Global | ast.Nonlocal):
                continue  # has no code
            line, column = first.lineno, first.col_offset
            body = getattr(first, "body", None)
            end = first.end_lineno or line
            for each in range(line, max(line, body[0].lineno - 1 if body else end) + 1):
                self.found.handlers[each] = Span(line, column, line, column)
            break


def _is_not(node: ast.AST) -> TypeGuard[ast.UnaryOp]:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _without_nots(node: ast.expr) -> tuple[ast.expr, bool]:
    """Return what is behind all its `not`s, and whether their number is odd."""
    odd = False
    while _is_not(node):
        node, odd = node.operand, not odd
    return node, odd


def _is_joined(node: ast.expr) -> bool:
    """Tell whether the compiler makes one comparison of `not` and this."""
    return (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn)
    )


def _first_test(node: ast.expr) -> ast.expr:
    """Return what is tested first if all of it is."""
    while True:
        if isinstance(node, ast.BoolOp):
            node = node.values[0]
        elif isinstance(node, ast.IfExp):
            node = node.test
        elif _is_not(node):
            node = node.operand
        else:
            return node


def _is_constant(node: ast.expr) -> bool:
    """Tell whether the compiler knows its value, so that there is nothing to decide."""
    if isinstance(node, ast.Name):
        return node.id == "__debug__"
    if isinstance(node, ast.UnaryOp):
        return _is_constant(node.operand)
    if isinstance(node, ast.BinOp):
        return isinstance(node.right, ast.Constant) and _is_constant(node.left)
    if isinstance(node, ast.Tuple):
        return all(_is_constant(element) for element in node.elts)
    return isinstance(node, ast.Constant)


def _is_irrefutable(pattern: ast.pattern) -> bool:
    """Tell whether nothing is tested: `_`, or a name."""
    return isinstance(pattern, ast.MatchAs) and (
        pattern.pattern is None or _is_irrefutable(pattern.pattern)
    )


def _is_none(node: ast.expr) -> bool | None:
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    right = node.comparators[0]
    if not isinstance(right, ast.Constant) or right.value is not None:
        return None
    return {ast.Is: True, ast.IsNot: False}.get(type(node.ops[0]))
