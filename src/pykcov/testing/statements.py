"""The statements of one version of a file, and its functions, by line."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .changes import Hunk
    from .touched import Touched

__all__ = ["Function", "Source", "body", "kind_of"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def kind_of(function: Function) -> tuple[bool, set[str], set[str]]:
    """Return whether a function is a generator, which names it binds, and which of them are not its own."""
    is_generator, bound, others = False, set(), set()
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Yield() | ast.YieldFrom():
                is_generator = True
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                bound.add(name)
                continue
            case ast.Lambda():
                continue
            case ast.comprehension():
                waiting += [node.iter, *node.ifs]
                continue
            case ast.alias():
                bound.add(node.asname or node.name.partition(".")[0])
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Global() | ast.Nonlocal():
                others.update(node.names)
        waiting += ast.iter_child_nodes(node)
    return is_generator, bound, others


class Source:
    """The statements of one version of a file, by line. What cannot be parsed is code, and in no function."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        # Of each line: the line on which its statement begins, and the innermost function whose body it is in.
        self._starts: dict[int, int] = {}
        self.functions: dict[int, Function | None] = {}
        self.defined: dict[int, Function] = {}  # by the line of their ``def``
        self.headers: dict[int, Function] = {}  # by the lines before their body
        self.outer: dict[Function, Function | None] = {}
        self.owners: dict[Function, ast.ClassDef] = {}  # of methods
        self._classes: dict[str, ast.ClassDef] = {}
        self._texts: set[int] = set()  # lines of those texts that have several
        self._silent: set[int] = set()  # of statements that do not show when they are executed
        self._leaves: dict[
            int, int
        ] = {}  # of statements that have no others in them: where they begin
        try:
            self._walk(ast.parse("\n".join(lines) + "\n"), None)
        except (SyntaxError, ValueError, RecursionError):
            self.code = set(range(1, len(lines) + 1))
            return
        # ``else:`` and the like belong to no statement within; comments between statements are no code.
        self.code = {
            number
            for number, line in enumerate(lines, 1)
            if number in self._leaves
            or number in self._texts
            or (line.strip() and not line.lstrip().startswith("#"))
        }

    def begin(self, number: int) -> int:
        """Return the line on which the statement of a line begins, 0 for none."""
        return self._starts.get(number, 0)

    def top(self) -> frozenset[int]:
        """Return the lines that are in no function."""
        return frozenset(n for n in self.code if self.functions.get(n) is None)

    def inherits_no_tests(self, owner: ast.ClassDef | None) -> bool:
        """Tell whether a class has no bases that may have tests, but for those in this file."""
        for base in owner.bases if owner is not None else ():
            known = self._classes.get(base.id) if isinstance(base, ast.Name) else None
            if known is None:
                if not ast.unparse(base).endswith(("TestCase", "object")):
                    return False
            elif known is owner or not self.inherits_no_tests(known):
                return False
        return True

    def _walk(self, node: ast.AST, function: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            inner = function
            if isinstance(child, ast.stmt):
                decorators = getattr(child, "decorator_list", [])
                first = min([child.lineno, *(d.lineno for d in decorators)])
                span = range(first, (child.end_lineno or child.lineno) + 1)
                self._starts.update(dict.fromkeys(span, child.lineno))
                self.functions.update(dict.fromkeys(span, function))
                if not hasattr(child, "body") and not isinstance(child, ast.Match):
                    self._leaves.update(dict.fromkeys(span, first))
                if _is_silent(child):
                    self._silent.update(span)
            if isinstance(child, ast.Constant | ast.JoinedStr):
                last = child.end_lineno or child.lineno
                if last > child.lineno:
                    self._texts.update(range(child.lineno, last + 1))
            if isinstance(child, ast.ClassDef):
                self._classes[child.name] = child
            if isinstance(child, Function):
                if isinstance(node, ast.ClassDef):
                    self.owners[child] = node
                inner = self.defined[child.lineno] = child
                self.outer[child] = function
                self.headers.update(dict.fromkeys(range(first, child.body[0].lineno), child))
                self.functions.update(dict.fromkeys(body(child), child))
            self._walk(child, inner)

    def has_code(self, start: int, stop: int) -> bool:
        """Tell whether there is code on the lines ``start`` + 1 to ``stop``."""
        return any(number in self.code for number in range(start + 1, stop + 1))

    def shape(self, start: int, stop: int) -> list[int]:
        """Return how far each statement is indented: pieces of one shape are statement for statement alike."""
        lines = (
            self._lines[number - 1].expandtabs()
            for number in range(start + 1, stop + 1)
            if number in self.code and self._leaves.get(number, number) == number
        )
        return [len(line) - len(line.lstrip()) for line in lines]

    def touch(self, found: Touched, hunk: Hunk, moved: int) -> None:
        """Add what lines of this version touch; ``moved``: from here to now."""
        for number in range(hunk.first, hunk.last + 1):
            if number not in self.code:
                continue
            function = self.functions.get(number)
            if function is None:
                found.add_module(number + moved)
            elif hunk.in_place and number not in self._silent:
                found.add([self._starts[number]], number + moved)
            else:
                found.add(body(function), number + moved)

    def touch_gap(self, found: Touched, first: int) -> None:
        """Add what is touched if something is gone before a line: the functions on both sides."""
        above, below = range(first - 1, 0, -1), range(first, len(self._lines) + 1)
        for numbers in (above, below):
            nearest = next((number for number in numbers if number in self.code), 0)
            function = self.functions.get(nearest)
            if function is None:
                found.add_module(first)
            else:
                found.add(body(function), first)


def body(function: Function) -> range:
    """Return the lines of a function's body, which may be the line of its ``def``."""
    return range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)


def _is_silent(node: ast.stmt) -> bool:
    """Tell whether the interpreter has no event for a statement: a docstring, a declaration."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Global | ast.Nonlocal) or (
        isinstance(node, ast.AnnAssign) and node.value is None
    )
