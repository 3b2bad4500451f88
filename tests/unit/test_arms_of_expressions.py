"""Which arms any expression has: an interpreter of its tree says it, the bytecode does it."""

from __future__ import annotations

import ast
import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pykcov.probes import places
from unit.watching import Program, arms_of


class Definition:
    """Says which arms an expression has, from its tree: the definition."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.arms: list[tuple[int, int, str]] = []

    def note(self, node: ast.expr, truth: object, end: ast.expr | None = None) -> None:
        last = end or node
        self.arms.append((node.col_offset, last.end_col_offset or 0, str(bool(truth)).lower()))

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            for operand in node.values[:-1]:
                value = self.value(operand)
                self.note(operand, value)
                if bool(value) == isinstance(node.op, ast.Or):
                    return value
            return self.value(node.values[-1])
        if isinstance(node, ast.IfExp):
            return self.value(node.body if self.test(node.test) else node.orelse)
        if isinstance(node, ast.UnaryOp):
            return not self.value(node.operand)
        if isinstance(node, ast.Compare):
            return self.compare(node)[0]
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value)
        if isinstance(node, ast.Call):
            return self.value(node.args[0])
        if isinstance(node, ast.Tuple):
            return tuple(self.value(element) for element in node.elts)
        assert isinstance(node, ast.Name | ast.Constant)
        return self.values[node.id] if isinstance(node, ast.Name) else node.value

    def compare(self, node: ast.Compare) -> tuple[bool, bool]:
        """Return its value, and whether the last part was reached."""
        left = self.value(node.left)
        for i, (operator, operand) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self.value(operand)
            if isinstance(operator, ast.In | ast.NotIn):
                value = left in right
            else:
                value = left == right if isinstance(operator, ast.Eq) else left is right
            if isinstance(operator, ast.IsNot | ast.NotIn):
                value = not value
            if i == len(node.ops) - 1:
                return value, True
            self.note(node, value, operand)
            if not value:
                return False, False
            left = right
        raise AssertionError

    def test(self, node: ast.expr) -> bool:
        if isinstance(node, ast.UnaryOp):
            return not self.test(node.operand)
        if isinstance(node, ast.BoolOp):
            return self.first_test(node)
        if isinstance(node, ast.IfExp):
            return self.test(node.body if self.test(node.test) else node.orelse)
        if isinstance(node, ast.Compare):
            value, whole = self.compare(node)
            if whole:
                self.note(node, value)
            return value
        truth = bool(self.value(node))
        self.note(node, truth)
        return truth

    def first_test(self, node: ast.BoolOp) -> bool:
        stops = isinstance(node.op, ast.Or)
        for operand in node.values:
            if self.test(operand) == stops:
                return stops
        return not stops


COMPARED = [
    "is None",
    "is not None",
    "in (0, None)",
    "not in (0, None)",
    "is a",
    "is not a",
    "== b",
]


def expression(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.15:
        return rng.choice("abcd")
    part = lambda: expression(rng, depth - 1)  # noqa: E731
    kind = rng.randrange(10)
    if kind < 4:
        operator = rng.choice([" and ", " or "])
        return "(" + operator.join(part() for _ in range(rng.choice([2, 2, 3]))) + ")"
    if kind < 5:
        return f"({part()} if {part()} else {part()})"
    if kind < 6:
        return f"(not {part()})"
    if kind < 7:
        return f"({part()} == {part()} is not {part()})"
    if kind < 8:
        return f"({part()} {rng.choice(COMPARED)})"
    if kind < 9:
        return f"(n := {part()})"
    return f"same({part()})"


CONTEXTS: list[tuple[str, str]] = [
    ("x = {}", "value"),
    ("if {}: x = 1", "test"),
    ("while {}: break", "test"),
    ("assert not {}", "not test"),
    ("x = 1 if {} else 2", "test"),
    ("return same({})", "value"),
    ("x = same(d, {})", "value"),
    ("return d, {}", "value"),
]


def cases(seed: int) -> Iterator[tuple[str, str, ast.expr]]:
    rng = random.Random(seed)
    for _ in range(60):
        text, kind = rng.choice(CONTEXTS)
        inner = expression(rng, rng.choice([2, 3, 4]))
        line = "    " + text.format(inner)
        node = ast.parse(inner, mode="eval").body
        offset = 4 + text.index("{}")
        for each in ast.walk(node):
            if isinstance(each, ast.expr):
                each.col_offset += offset
                each.end_col_offset = (each.end_col_offset or 0) + offset
        yield f"def f(a, b, c, d, same=lambda *x: x[-1]):\n{line}\n", kind, node


@pytest.mark.parametrize("seed", range(16))
def test_any_expression_has_the_arms_that_its_tree_says(seed: int) -> None:
    rng = random.Random(seed)
    for text, kind, node in cases(seed):
        program = Program(text)
        for _ in range(4):
            values = {name: rng.choice([0, 1, None, (), "x"]) for name in "abcd"}
            definition = Definition(values)
            (definition.value if kind == "value" else definition.test)(node)
            seen: list[places.Arm] = []
            call: Callable[..., Any] = program.names["f"]
            with arms_of(program.tables, seen), contextlib.suppress(Exception):
                call(**values)
            found = [(arm.column, arm.end_column, arm.what) for arm in seen]
            assert found == definition.arms, (text, values)
