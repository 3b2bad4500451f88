"""What the text of a source file says about its lines: statements, docstrings, functions.

Pure but for read_source().
"""

from __future__ import annotations

import ast
import bisect
import contextlib
import hashlib
import linecache
import os
import re
import stat
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field

from .decisions import Decisions, find_decisions

__all__ = ["Source", "analyse", "read_source"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPOUND = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar,
)  # fmt: skip
# A backslash with what it escapes, and one that escapes nothing that Python knows.
_ESCAPE = re.compile(r"""\\(?:[\\'"\nabfnrtv0-7xNuU]|(?P<unknown>))""")
# Statements that have code wherever they are.
_SURE = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AugAssign, ast.Delete,
    ast.Import, ast.ImportFrom, ast.For, ast.With, ast.Try, ast.TryStar,
)  # fmt: skip
_TYPE_ALIAS: tuple[type[ast.stmt], ...] = tuple(filter(None, [getattr(ast, "TypeAlias", None)]))
_PARSE_TRIES = 20
_JOINED = re.compile(r";[ \t]*\\\n")


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of one version of a source file. Lines count from 1.

    A statement is what coverage.py calls one: a logical line. So `if x: return` is one, and each
    decorator, `def`, `class`, `case` and `except` header, without its block, is one.
    """

    digest: str
    """Of the text: 16 hex digits."""
    nlines: int
    first: Mapping[int, int]
    """Line -> the first line of its statement, for the other lines of statements on several."""
    docstrings: frozenset[int]
    functions: tuple[tuple[str, int, int], ...]
    """Qualified name, first line (of a decorator, or `def`), last line; classes too. In order."""
    headers: frozenset[int]
    """The first lines of functions and classes whose body is not on the line of its header."""
    ends: frozenset[int] = frozenset()
    """The lines of the last statement that a run of the module is sure to have code for; none if that is not clear."""
    types: frozenset[str] = frozenset()
    """The names of type aliases and type parameters: they have code, too."""
    decisions: Decisions | None = None
    """Where the branches are, if analysed for them."""
    _changes: tuple[int, ...] = field(default=(), repr=False)
    _names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def changes(self) -> tuple[tuple[int, str], ...]:
        """From which line on which function it is, in order; before the first it is `<module>`."""
        return tuple(zip(self._changes, self._names[1:], strict=True))

    def function_at(self, line: int) -> str:
        """Return the qualified name of the function or class whose body has a line, or `<module>`.

        Its header and decorators belong to what is around it.
        """
        return self._names[bisect.bisect_right(self._changes, line)]


def read_source(filename: str, *, branch: bool = False) -> Source | None:
    """Read and analyse the source of `co_filename`; None if it cannot be read, or is not Python."""
    text = read_text(filename)
    return None if text is None else analyse(text, branch=branch)


def read_text(filename: str) -> str | None:
    """Return the source of `co_filename`; None if it cannot be read.

    What has no file, like `<doctest ...>` or a cell of IPython, is looked up in `linecache`.
    """
    try:
        # Not a pipe, for one: what the program reads from it is gone.
        if stat.S_ISREG(os.stat(filename).st_mode):
            with tokenize.open(filename) as file:
                return file.read()
        return None
    except (OSError, SyntaxError, ValueError, LookupError):
        # ValueError: undecodable, or a name with a null character.
        try:
            return "".join(linecache.getlines(filename)) or None
        except Exception:  # an import hook's loader; nothing of it is for the program to see
            return None


def digest(text: str) -> str:
    """Return the 16 hex digits by which this version of a source is known."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def analyse(text: str, *, branch: bool = False) -> Source | None:
    """Analyse the text of a module; None if it is not Python. With `branch` also its decisions."""
    version = digest(text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    tree = parse(without_unknown_escapes(text))
    if tree is None:
        return None
    walk = _Walk(text)
    walk.module(tree)
    return Source(
        version,
        text.count("\n") + (not text.endswith("\n")),
        walk.first,
        frozenset(walk.docstrings),
        tuple(walk.functions),
        frozenset(walk.headers),
        _ends(tree),
        frozenset(walk.types),
        find_decisions(tree) if branch else None,
        tuple(line for line, _ in walk.changes),
        ("<module>", *(name for _, name in walk.changes)),
    )


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a text, None if it is not Python."""
    # Where a garbage collection lets another thread parse in the middle of ours, 3.11 says SystemError to
    # one of both: they share the depth of recursion (gh-106905). No lock: a finalizer would run under it.
    for _ in range(_PARSE_TRIES):
        with contextlib.suppress(SystemError):
            try:
                return ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                break
    return None


def _ends(tree: ast.Module) -> frozenset[int]:
    if any(isinstance(node, ast.Raise | ast.While) for node in tree.body):
        return frozenset()  # what is behind may never be reached: it has no code then
    for node in reversed(tree.body):
        if isinstance(node, _SURE) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        ):
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(one.lineno for one in decorators)])
            return frozenset(range(first, (node.end_lineno or first) + 1))
    return frozenset()


def without_unknown_escapes(text: str) -> str:
    r"""Return the text with each `\d` and the like made `_d`: parsing it warns of nothing.

    The program has had these warnings, or has turned them into errors; no position changes.
    """
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda m: "_" if m["unknown"] is not None else m[0], text)


class _Walk:
    """Goes over the statements of a module, not over its expressions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: list[str] = []  # made when first needed
        self.first: dict[int, int] = {}
        self.docstrings: set[int] = set()
        self.functions: list[tuple[str, int, int]] = []
        self.headers: set[int] = set()
        self.changes: list[tuple[int, str]] = []  # from this line on the function is that
        self.types: set[str] = set()
        self.globals: set[str] = set()  # names that the function at hand declares global

        # A statement behind a `;` may begin on the next line.
        self.joined = {text.count("\n", 0, m.end()) for m in _JOINED.finditer(text)}

    def line(self, number: int) -> str:
        if not self.lines:
            self.lines = self.text.split("\n")
        return self.lines[number - 1]

    def module(self, tree: ast.Module) -> None:
        self.docstring(tree.body)
        self.block(tree.body, "<module>", "")

    def block(self, body: list[ast.stmt], function: str, prefix: str) -> None:
        """Go over statements in `function`; what they define is named with `prefix`."""
        waiting = body[::-1]  # not by recursion: an `elif` is in the `else` of what is before it
        while waiting:
            node = waiting.pop()
            if isinstance(node, _TYPE_ALIAS):
                self.types.add(getattr(getattr(node, "name", None), "id", ""))
            if node.lineno - 1 in self.joined:
                self.extend(node.lineno - 1, node.lineno)
            self.types.update(one.name for one in getattr(node, "type_params", ()))
            if isinstance(node, _Function | ast.ClassDef):
                self.definition(node, function, prefix)
            elif isinstance(node, ast.Match):
                self.extend(node.lineno, node.subject.end_lineno or 0)
                for case in node.cases:
                    line = self.back_to("case", case.pattern.lineno, node.lineno)
                    self.header(line, case.body)
                    self.block(case.body, function, prefix)
            elif isinstance(node, _COMPOUND):
                self.header(node.lineno, node.body)
                self.block(node.body, function, prefix)
                if isinstance(node, ast.Try | ast.TryStar):
                    for handler in node.handlers:
                        self.header(handler.lineno, handler.body)
                        self.block(handler.body, function, prefix)
                    self.block(node.orelse, function, prefix)
                    waiting += node.finalbody[::-1]
                elif not isinstance(node, ast.With | ast.AsyncWith):
                    waiting += node.orelse[::-1]
            else:
                if isinstance(node, ast.Global):
                    self.globals.update(node.names)
                self.extend(node.lineno, node.end_lineno or 0)

    def definition(self, node: _Function | ast.ClassDef, around: str, prefix: str) -> None:
        start = node.lineno
        for decorator in reversed(node.decorator_list):
            start = self.back_to("@", decorator.lineno, 0)
            if decorator.end_lineno != start:
                self.extend(start, decorator.end_lineno or 0)
        name = node.name if node.name in self.globals else prefix + node.name
        end = node.end_lineno or 0
        self.functions.append((name, start, end))
        self.docstring(node.body)
        below = self.header(node.lineno, node.body)
        if below:
            self.headers.add(start)
            self.change(below, name)
        kept, self.globals = self.globals, set()
        inside = "." if isinstance(node, ast.ClassDef) else ".<locals>."
        self.block(node.body, name, name + inside)
        self.globals = kept
        if below:
            self.change(end + 1, around)

    def header(self, start: int, body: list[ast.stmt]) -> int:
        """Join the lines of a header. Return the line of its block, 0 if that begins on the header's."""
        node = body[0]
        line = node.lineno
        if isinstance(node, _Function | ast.ClassDef) and node.decorator_list:
            line = self.back_to("@", node.decorator_list[0].lineno, start)
        elif line == start or not self.line(line)[: node.col_offset].isspace():
            self.extend(start, line)
            return 0
        last = line - 1
        while last > start and self.line(last).lstrip()[:1] in ("", "#"):
            last -= 1
        self.extend(start, last)
        return line

    def back_to(self, word: str, line: int, stop: int) -> int:
        """Return the line of a keyword that is at or before `line`: parentheses may be between."""
        for number in range(line, max(stop, line - 50), -1):
            if self.line(number).lstrip().startswith(word):
                return number
        return line

    def extend(self, start: int, end: int) -> None:
        """Let the lines behind `start` up to `end` be of the statement that `start` is of."""
        first = self.first.get(start, start)
        for line in range(start + 1, end + 1):
            self.first[line] = first

    def change(self, line: int, name: str) -> None:
        while self.changes and self.changes[-1][0] >= line:
            self.changes.pop()
        self.changes.append((line, name))

    def docstring(self, body: list[ast.stmt]) -> None:
        if body and isinstance(node := body[0], ast.Expr):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                self.docstrings.update(range(node.lineno, (node.end_lineno or 0) + 1))
