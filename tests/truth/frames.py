"""A file of a program, and a frame that executes in it: where lines and entries come from."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType
from typing import Any

from .rules import Rules
from .values import Event, Scope, Suspendable

PURE_CALLS = {"len", "abs", "min", "max", "range", "int", "str", "bool", "divmod"}
"""Builtins that call nothing of the program's: eval() may do them."""
IMPURE = (
    ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Await, ast.Yield,
    ast.YieldFrom, ast.NamedExpr,
)  # fmt: skip


def is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class Source:
    """One file of a program, parsed."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.tree = ast.parse(text)
        self.first_lines: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.match_case):
                self.first_lines.add(node.pattern.lineno)
            elif isinstance(node, ast.ExceptHandler) or (
                isinstance(node, ast.stmt) and not is_docstring(node)
            ):
                self.first_lines.add(node.lineno)


def compile_pure(node: ast.expr) -> CodeType | None:
    """Returns code for eval() if the expression is on one line and calls nothing of the program's."""
    if node.lineno != node.end_lineno:
        return None
    for n in ast.walk(node):
        if isinstance(n, IMPURE):
            return None
        if isinstance(n, ast.Call) and not (
            isinstance(n.func, ast.Name) and n.func.id in PURE_CALLS
        ):
            return None
    return compile(ast.Expression(node), "<pure>", "eval")


class Frame:
    """A function, class body or module that executes."""

    __slots__ = ("file", "handling", "line", "owner", "prefix", "qualname", "record", "rules", "scope")

    def __init__(
        self, record: Callable[[Event], None], rules: Rules, file: Source, scope: Scope,
        qualname: str, prefix: str, owner: Suspendable | None = None,
    ) -> None:  # fmt: skip
        self.record = record
        self.rules = rules
        self.file = file
        self.scope = scope
        self.qualname = qualname
        self.prefix = prefix  # of the qualified names of what is defined here
        self.owner = owner
        self.line = 0
        self.handling: list[BaseException] = []

    def enter(self, line: int) -> None:
        """The code object starts."""
        self.record(("entry", self.file.number, line, self.qualname))

    def touch(self, line: int) -> None:
        """Work goes on at this line."""
        if line != self.line:
            self.line = line
            self.report()

    def jump_back(self) -> None:
        """A loop inside a line begins again."""
        if self.rules.same_line_again:
            self.report()

    def report(self) -> None:
        # A generator that is thrown away unfinished unwinds silently.
        if self.owner is not None and not self.owner.running:
            return
        if self.line in self.file.first_lines or not self.rules.first_lines_only:
            self.record(("line", self.file.number, self.line, ""))

    def child(self, name: str, line: int, outer: Scope, owner: Suspendable | None = None) -> Frame:
        """The frame of a comprehension or generator expression."""
        qualname = self.prefix + name
        scope = Scope(outer.globals, outer, {})
        frame = Frame(
            self.record, self.rules, self.file, scope, qualname, qualname + ".<locals>.", owner
        )
        frame.enter(line)
        frame.touch(line)
        return frame


def names_of(target: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]


Values = dict[str, Any]
