"""Is the text that a file has now the one that a code object was compiled from?

A file that has not changed since this process began has the text that was imported. In one that has, a code object
must be among those that its text gives: a whole compilation, but only there. And in any file it must be where the
text has it, since code can be compiled under the name of another file. That looks at names and lines alone, because
import hooks (pytest's, for assertions) change the rest.
"""

from __future__ import annotations
import __future__

import ast
import functools
import os
import time
from types import CodeType
from typing import Any

from .. import _recorder, codemap
from ..late import load
from . import places
from .sites import inner_codes
from .source import Source, analyse, parse, read_text, without_unknown_escapes

__all__ = ["Text"]

_COMPILED = "pykcov.probes.compiled"  # not imported where nothing is compiled with probes
_ANNOTATIONS = __future__.annotations.compiler_flag
_LITERALS = (
    ast.Constant, ast.Tuple, ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Set, ast.SetComp,
    ast.GeneratorExp, ast.JoinedStr, ast.FormattedValue, ast.Lambda,
)  # fmt: skip


class Text:
    """The text that `co_filename` has, and which code is from it; ``status`` is None if there is no file."""

    def __init__(self, filename: str, status: os.stat_result | None, *, branch: bool) -> None:
        text = read_text(filename)
        self.source = analyse(text, branch=branch) if text is not None else None
        self._is_file = status is not None
        is_python = self.source is not None or (status is not None and filename.endswith(".py"))
        self.kind = codemap.OTHER_TEXT if is_python else codemap.NO_TEXT
        """What the digest of code is called that is not from this text."""
        self._has_changed = status is not None and status.st_ctime_ns > _began()
        self._text = text if self._has_changed else None
        self._compiled: dict[int, frozenset[str] | None] = {}
        self._functions: dict[str, list[tuple[int, int]]] = {}
        for name, start, end in self.source.functions if self.source is not None else ():
            self._functions.setdefault(name.rpartition(".")[2], []).append((start, end))

    def has(self, code: CodeType) -> bool:
        """Tell whether code that says it is from this file is from this text."""
        if not self._is_file:
            return self.source is not None
        if self.source is None:
            return False
        if _recorder.is_probed(code):
            return self.source.digest in load(_COMPILED).versions(code.co_filename)
        given = self._gives(code) if self._has_changed else None
        return self._fits(code, self.source) if given is None else given

    def _gives(self, code: CodeType) -> bool | None:
        """Tell whether the text compiles to a code object, where who compiled it has the same `__future__`.

        None if it cannot be compiled in silence.
        """
        flags = code.co_flags & _ANNOTATIONS
        if flags not in self._compiled:
            self._compiled[flags] = _compiled(self._text or "", flags)
        every = self._compiled[flags]
        return None if every is None else _digest(code) in every

    def _fits(self, code: CodeType, source: Source) -> bool:
        """Tell whether the text has what a code object is called, and statements where that has its lines."""
        lines = [line for _, _, line in code.co_lines() if line]
        first, last = code.co_firstlineno, max(lines, default=0)
        name = code.co_name
        if name == "<module>":
            return last <= source.nlines and not (source.ends and source.ends.isdisjoint(lines))
        if name.startswith("<") or name in source.types:
            return last <= source.nlines
        return any(start <= first and last <= end for start, end in self._functions.get(name, ()))


# -- which text was compiled


def _compiled(text: str, flags: int) -> frozenset[str] | None:
    """Return the digests of all code objects that a text gives; None if Python would warn of something in it.

    Whoever compiled it has had these warnings.
    """
    text = without_unknown_escapes(text)
    tree = parse(text)
    if tree is None or any(map(_is_warned_of, ast.walk(tree))):
        return None
    try:
        code = compile(text, "", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None
    return frozenset(map(_digest, inner_codes(code)))


def _digest(code: CodeType) -> str:
    """Return what a code object is known by: without what stands for an unknown escape, or for itself in r'...'."""
    return places.content_digest(_erased(code))


def _erased(value: Any) -> Any:
    if isinstance(value, CodeType):
        return value.replace(co_consts=_erased(value.co_consts))
    if isinstance(value, tuple | frozenset):
        return type(value)(map(_erased, value))
    if type(value) is str:
        return value.replace("\\", "").replace("_", "")
    if type(value) is bytes:
        return value.replace(b"\\", b"").replace(b"_", b"")
    return value


def _is_warned_of(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops) and any(
            isinstance(side, ast.Tuple)
            or (isinstance(side, ast.Constant) and not isinstance(side.value, bool | None))
            for side in sides
        )
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Tuple)
    if isinstance(node, ast.Call):
        return isinstance(node.func, _LITERALS)
    return isinstance(node, ast.Subscript) and isinstance(node.value, _LITERALS)


# -- since when


@functools.cache
def _began() -> int:
    """Return when this process began, or the one that it was forked from, in ns since 1970; 0 if nobody knows.

    A process that was forked has its parent's modules, and its parent's stack, which is elsewhere after an exec().
    Up to a clock tick too late: no interpreter begins, imports a module and sees it edited in that.
    """
    process, stack, ticks = "self", b"", 0
    try:
        while True:
            with open(f"/proc/{process}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if stack not in (b"", fields[25]):
                break
            process, ticks, stack = fields[1].decode(), int(fields[19]), fields[25]
    except (OSError, IndexError):
        if not ticks:
            return 0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - (ticks + 1) / os.sysconf("SC_CLK_TCK")
    return int((time.time() - age) * 1e9)
