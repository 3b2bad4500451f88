"""A file of a program, and a frame that executes in it: where lines and entries come from."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from types import CodeType

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
    """One file of a program, parsed.

    `statements` says which lines count: the line on which a statement's work begins -> its first line.
    They differ where a list on several lines begins with its items. Docstrings and other lines do not count.
    """

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.tree = ast.parse(text)
        self.statements: dict[int, int] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.match_case):
                self.statements[node.pattern.lineno] = node.pattern.lineno
            elif isinstance(node, ast.Assign | ast.Expr):
                if not is_docstring(node):
                    self.statements[begins(node.value)] = node.lineno
            elif isinstance(node, ast.ExceptHandler | ast.stmt):
                self.statements[node.lineno] = node.lineno

    def lines_that_count(self, events: Iterable[Event]) -> list[Event]:
        """Returns what remains of an interpreter's own line events."""
        kept = []
        for event in events:
            kind, file, line, name = event
            if kind != "line" or file != self.number:
                kept.append(event)
            elif line in self.statements:
                kept.append((kind, file, self.statements[line], name))
        return kept


def begins(node: ast.expr) -> int:
    """Returns the line of what an expression does first."""
    while True:
        match node:
            case ast.BinOp(left=first) | ast.Subscript(value=first) | ast.Call(func=first):
                node = first
            case ast.List(elts=[first, *_]):
                node = first
            case _:
                return node.lineno


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


class Loop:
    """A loop that a frame is in."""

    def __init__(self, node: ast.For | ast.AsyncFor | ast.While, rules: Rules) -> None:
        self.line = node.lineno
        plain = isinstance(node, ast.While) or (
            isinstance(node, ast.For) and goes_on_quietly(node.iter)
        )
        self.first = rules.compiled and not plain
        """A `continue` reports the line at once."""
        self.told = False
        self.blocks = 0
        """How many `with` blocks are around it."""


def goes_on_quietly(node: ast.expr) -> bool:
    """Whether nothing can happen when a loop over it goes on."""
    if not isinstance(node, ast.Call):
        displays = ast.Constant | ast.Tuple | ast.List | ast.Set | ast.Dict
        return isinstance(node, displays | ast.ListComp | ast.SetComp | ast.DictComp)
    name = ast.unparse(node.func)
    return name in PLAIN or (name in AS_PLAIN and all(map(goes_on_quietly, node.args)))


PLAIN = {"range", "sorted", "list", "tuple", "set", "frozenset", "dict", "str", "bytes"}
AS_PLAIN = {"enumerate", "reversed", "zip"}


class Frame:
    """A function, class body or module that executes."""

    __slots__ = (
        "blocks",
        "file",
        "handling",
        "line",
        "loops",
        "owner",
        "prefix",
        "qualname",
        "record",
        "rules",
        "scope",
    )

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
        self.loops: list[Loop] = []
        self.blocks: list[int] = []
        """The lines of the `with` blocks that it is in."""

    def enter(self, line: int) -> None:
        """The code object starts."""
        self.record(("entry", self.file.number, line, self.qualname))

    def touch(self, line: int) -> None:
        """Work goes on at this line."""
        if line != self.line:
            self.line = line
            self.report()

    def work_at(self, line: int) -> None:
        """An expression is at this line. Compiled, only what is nothing but an expression says so, once."""
        if not self.rules.compiled or not self.line:
            self.touch(line)

    def begin(self, node: ast.stmt) -> None:
        """A statement begins."""
        if self.rules.compiled:
            if node.lineno != self.line:
                self.line = node.lineno
                self.tell(node.lineno)
        # Else a list on several lines begins later.
        elif not isinstance(node, ast.Assign | ast.Expr):
            self.touch(node.lineno)

    def leave_blocks(self, around: int) -> None:
        """Blocks are about to be left, but the outermost ones. Compiled, that is told at once."""
        for line in self.blocks[around:][::-1] if self.rules.compiled else ():
            self.touch(line)

    def jump_back(self) -> None:
        """A loop inside a line begins again."""
        if self.rules.same_line_again:
            self.report()

    def report(self) -> None:
        line = self.file.statements.get(self.line)
        if line is not None:
            self.tell(line)

    def tell(self, line: int) -> None:
        # A generator that is thrown away unfinished unwinds silently.
        if self.owner is None or self.owner.running:
            self.record(("line", self.file.number, line, ""))

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
