"""Which lines a function executes, found without pykcov: by `sys.settrace`, in a quiet program."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any


def lines_of(function: Callable[[], object], wanted: Callable[[str], bool]) -> dict[str, set[int]]:
    """Calls it, and gives {file: {line, ...}} of the files that are wanted."""
    seen: dict[str, set[int]] = {}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        file = frame.f_code.co_filename
        if not wanted(file):
            return None
        if event == "line":
            seen.setdefault(file, set()).add(first_lines(file).get(frame.f_lineno, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return seen


@cache
def first_lines(file: str) -> dict[int, int]:
    """{line: the line on which its statement starts}: pykcov records statements, settrace lines."""
    first: dict[int, int] = {}
    with open(file, "rb") as source:
        tree = ast.parse(source.read())
    for node in ast.walk(tree):  # outer statements come first, inner ones overwrite their lines
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            first.update(dict.fromkeys(range(start, (node.end_lineno or start) + 1), start))
    return first
