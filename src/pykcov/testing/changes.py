"""What has changed: from what the user says, and from the sources, to lines of the version that a test has executed.

A statement that is replaced by another one in the same place concerns who executed it. Where statements come or go, or
move in or out of a block, or a function becomes a generator or gets a name of its own or is that no more, it concerns
who executed anything of the function. What is in no function is executed when the module is imported, and concerns
whoever imports it, or executed it otherwise.
"""

from __future__ import annotations

import ast
import difflib
import io
import os
import re
import subprocess
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

__all__ = ["ChangeError", "Changes", "Touched", "lines_of", "parse", "touched"]

_FILE_LINES = re.compile(r"(?P<file>.+):(?P<lines>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", re.DOTALL)

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class ChangeError(ValueError):
    """What the user gave for CHANGED means nothing; the text says why."""


class Hunk(NamedTuple):
    """Lines of a file that have changed, from 1; none (``last`` = ``first`` - 1): something is gone before ``first``.

    ``in_place``: each statement has become another in its place.
    """

    first: int
    last: int
    in_place: bool


@dataclass
class Changes:
    """The files that were said to have changed, by absolute path.

    ``hunks`` has the lines, by the text that the file has now; a file without any has changed altogether.
    """

    hunks: dict[str, list[Hunk]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def files(self) -> set[str]:
        """Return all files."""
        return self.whole.union(self.hunks)


# -- what the user says


def parse(texts: Iterable[str], directory: str) -> Changes:
    """Return what CHANGED means in a directory: FILE, FILE:LINES or what ``git diff`` takes. Raises ChangeError."""
    found = Changes()
    for text in texts:
        match = _FILE_LINES.fullmatch(text)
        if match:
            path = os.path.join(directory, match["file"])
            if not os.path.isfile(path):
                raise ChangeError(f"{text}: there is no file {match['file']}")
            lines = _read(path)
            for part in match["lines"].split(","):
                first, _, last = part.partition("-")
                hunk = Hunk(int(first), int(last or first), True)
                if not 1 <= hunk.first <= hunk.last <= len(lines):
                    raise ChangeError(
                        f"{text}: {match['file']} has no line {part}: it has {len(lines)} lines"
                    )
                found.hunks.setdefault(os.path.realpath(path), []).append(hunk)
        elif os.path.isfile(os.path.join(directory, text)):
            found.whole.add(os.path.realpath(os.path.join(directory, text)))
        else:
            _from_git(text, directory, found)
    return found


def _from_git(text: str, directory: str, found: Changes) -> None:
    try:
        if not text or text.startswith("-"):
            raise ChangeError("not a revision")
        top = os.fsdecode(_git(directory, "rev-parse", "--show-toplevel")).strip("\n")
        raw = _git(directory, "diff", "--raw", "-z", "--no-abbrev", "--no-renames", text, "--")
    except ChangeError as error:
        raise ChangeError(
            f"{text!r} is neither a file, nor FILE:LINES, nor a range that git knows ({error})"
        ) from None
    words = os.fsdecode(raw).split("\0")
    for about, name in zip(words[::2], words[1::2], strict=False):
        path = os.path.realpath(os.path.join(top, name))
        if not name.endswith(".py") or not os.path.isfile(path):
            found.whole.add(path)
            continue
        old, new = about.split()[2:4]
        now = _read(path)
        then = now if not int(new, 16) else lines_of(_git(directory, "cat-file", "blob", new))
        before = lines_of(_git(directory, "cat-file", "blob", old)) if int(old, 16) else []
        hunks = compare(before, then)
        if now != then:
            hunks = carry(hunks, then, now, changed=True)
        if hunks:
            found.hunks.setdefault(path, []).extend(hunks)


def _git(directory: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            cwd=directory,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ChangeError(f"git: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ChangeError(said.removeprefix("fatal: "))
    return done.stdout


def _read(path: str) -> list[str]:
    with open(path, "rb") as file:
        return lines_of(file.read())


_NEWLINE = re.compile(
    "\r\n|\r|\n"
)  # str.splitlines() knows more of them than Python's sources have


def lines_of(source: bytes) -> list[str]:
    """Return the lines of a source file as Python counts them."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        text = source.decode(errors="surrogateescape")  # what differs has to stay different
    lines = _NEWLINE.split(text)
    return lines if lines[-1] else lines[:-1]


# -- two versions of a file


def compare(old: Sequence[str], new: Sequence[str]) -> list[Hunk]:
    """Return what has changed, by the lines of ``new``."""
    before, after = _Source(old), _Source(new)
    return [
        Hunk(n1 + 1, n2, before.shape(o1, o2) == after.shape(n1, n2))
        for kind, o1, o2, n1, n2 in _opcodes(old, new)
        if kind != "equal" and (before.has_code(o1, o2) or after.has_code(n1, n2))
    ]


def carry(
    hunks: Iterable[Hunk], old: Sequence[str], new: Sequence[str], *, changed: bool
) -> list[Hunk]:
    """Return hunks of ``old`` by their lines in ``new``; with ``changed`` also what is not the same there."""
    found = []
    codes = _opcodes(old, new)
    for hunk in hunks:
        for kind, o1, o2, n1, n2 in codes:
            first, last = max(hunk.first, o1 + 1), min(hunk.last, o2)
            is_gap = hunk.last < hunk.first and o1 < hunk.first <= o2 + (o2 == len(old))
            if is_gap:
                first, last = hunk.first, hunk.last
            elif first > last:
                continue
            if kind == "equal":
                found.append(Hunk(first + n1 - o1, last + n1 - o1, hunk.in_place))
            elif changed:
                found.append(Hunk(n1 + 1, n2, False))
    return found


def _opcodes(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()


# -- from changes to lines


@dataclass
class Touched:
    """What of one version of a file a change touches.

    ``lines``: whoever executed one of these, with the line as it is now. ``module``: 0, or a line now that is
    executed when the module is imported; then whoever executed one of ``top``, as a script say.
    """

    lines: dict[int, int] = field(default_factory=dict)
    module: int = 0
    top: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.lines or self.module)

    def add_module(self, now: int) -> None:
        """Add what is executed when the module is imported."""
        self.module = self.module or max(1, now)

    def add(self, lines: Iterable[int], now: int) -> None:
        """Add lines that a change at the line ``now`` touches."""
        for line in lines:
            self.lines.setdefault(line, max(1, now))


def touched(version: Sequence[str], now: Sequence[str], said: Iterable[Hunk] = ()) -> Touched:
    """Return what of a ``version`` is touched by what makes it ``now``, and by what the user ``said`` of that."""
    found = Touched()
    before, after = _Source(version), _Source(now)
    codes = _opcodes(version, now)
    same = {
        n1 + i: v1 + i
        for kind, v1, v2, n1, _ in codes
        if kind == "equal"
        for i in range(1, v2 - v1 + 1)
    }
    for kind, v1, v2, n1, n2 in codes:
        if kind == "equal" or not (before.has_code(v1, v2) or after.has_code(n1, n2)):
            continue
        in_place = before.shape(v1, v2) == after.shape(n1, n2)
        before.touch(found, Hunk(v1 + 1, v2, in_place), n1 - v1)
        for number in range(n1 + 1, n2 + 1):
            if number not in after.code:
                continue
            if not in_place:
                _touch_new(found, number, after, same, before)
                continue
            _touch_other_kinds(found, number, after, same, before)
            begin = same.get(after.begin(number), 0)
            if begin:  # it is in a statement that was there, and has become longer
                before.touch(found, Hunk(begin, begin, True), number - begin)
    for hunk in carry(said, now, version, changed=False):
        if hunk.last < hunk.first:
            before.touch_gap(found, hunk.first)
        else:
            before.touch(found, hunk, 0)
    found.top = before.top()
    return found


def _touch_other_kinds(
    found: Touched, number: int, after: _Source, same: dict[int, int], before: _Source
) -> None:
    """A line is another one: all of a function is, if that makes it a generator, or a name its own, or no more."""
    function = after.functions.get(number)
    while function is not None:
        was = before.defined.get(same.get(function.lineno, 0))
        if was is not None and _kind(was) != _kind(function):
            found.add(_body(was), number)
        function = after.outer[function]


def _touch_new(
    found: Touched, number: int, after: _Source, same: dict[int, int], before: _Source
) -> None:
    """A line is new: that concerns the function that it is in, if that was there before; else what it is in.

    A test that is new concerns no other.
    """
    header = after.headers.get(number)
    if header is not None and header.lineno not in same and _is_new_test(header, after, before):
        return
    function = after.functions.get(number)
    while function is not None:
        was = before.defined.get(same.get(function.lineno, 0))
        if was is not None:
            found.add(_body(was), number)
            return
        if _is_new_test(function, after, before):
            return
        function = after.outer[function]
    found.add_module(number)


def _is_new_test(function: _Function, after: _Source, before: _Source) -> bool:
    """Tell whether a function is a test that takes nobody's place, as one that was inherited."""
    return (
        function.name.startswith("test")
        and all(ast.unparse(d).startswith("pytest.mark.") for d in function.decorator_list)
        and function.name not in {known.name for known in before.outer}
        and after.outer[function] is None
        and after.inherits_no_tests(after.owners.get(function))
    )


def _kind(function: _Function) -> tuple[bool, set[str], set[str]]:
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


class _Source:
    """The statements of one version of a file, by line. What cannot be parsed is code, and in no function."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        # Of each line: the line on which its statement begins, and the innermost function whose body it is in.
        self._starts: dict[int, int] = {}
        self.functions: dict[int, _Function | None] = {}
        self.defined: dict[int, _Function] = {}  # by the line of their ``def``
        self.headers: dict[int, _Function] = {}  # by the lines before their body
        self.outer: dict[_Function, _Function | None] = {}
        self.owners: dict[_Function, ast.ClassDef] = {}  # of methods
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

    def _walk(self, node: ast.AST, function: _Function | None) -> None:
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
            if isinstance(child, _Function):
                if isinstance(node, ast.ClassDef):
                    self.owners[child] = node
                inner = self.defined[child.lineno] = child
                self.outer[child] = function
                self.headers.update(dict.fromkeys(range(first, child.body[0].lineno), child))
                self.functions.update(dict.fromkeys(_body(child), child))
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
                found.add(_body(function), number + moved)

    def touch_gap(self, found: Touched, first: int) -> None:
        """Add what is touched if something is gone before a line: the functions on both sides."""
        above, below = range(first - 1, 0, -1), range(first, len(self._lines) + 1)
        for numbers in (above, below):
            nearest = next((number for number in numbers if number in self.code), 0)
            function = self.functions.get(nearest)
            if function is None:
                found.add_module(first)
            else:
                found.add(_body(function), first)


def _body(function: _Function) -> range:
    """Return the lines of a function's body, which may be the line of its ``def``."""
    return range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)


def _is_silent(node: ast.stmt) -> bool:
    """Tell whether the interpreter has no event for a statement: a docstring, a declaration."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Global | ast.Nonlocal) or (
        isinstance(node, ast.AnnAssign) and node.value is None
    )
