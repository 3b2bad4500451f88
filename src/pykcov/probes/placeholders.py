"""Placeholders: constants that a syntax tree can have, in the place of the probes that it cannot.

The tree is compiled with them, the code can be cached with them, and then probes are put in their place
(`_recorder.plant`). The compiler neither folds `~"text"` or `"text" @ x`, nor warns of them. Pure.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["LINES", "NO_COLUMN", "NO_LINE", "PREFIX", "Placeholders", "number_of"]

PREFIX = "\0pykcov "
"""A placeholder is this and a number."""
LINES = "lines"
"""The kind of probe that records places: (kind, first, count, flags)."""
NO_COLUMN = -1
NO_LINE = -1

_Node = TypeVar("_Node", bound=ast.AST)


class Placeholders:
    """What one file's probes will be, and how a tree refers to them."""

    def __init__(self) -> None:
        self.places: list[Any] = []
        """What has a PC: the number of a line, a key of the code map, or what will be one."""
        self.probes: list[tuple[Any, ...]] = []
        """What the placeholder of that number stands for."""

    def place(self, *places: Any) -> tuple[int, int]:
        """Add places; return the number of the first, and how many."""
        first = len(self.places)
        self.places += places
        return first, len(places)

    def new(self, *probe: Any) -> ast.Constant:
        """Return a constant that stands for a probe, which `probe` describes; it has no position yet."""
        self.probes.append(probe)
        return ast.Constant(text_of(len(self.probes) - 1))

    def lines(self, places: Sequence[Any], line: int, flags: int = 0) -> ast.UnaryOp:
        """Return an expression that records places and is False; `flags` are those of a Probe."""
        probe = ast.UnaryOp(ast.Invert(), self.new(LINES, *self.place(*places), flags))
        return at(line, probe)


def at(line: int, node: _Node) -> _Node:
    """Give a node and what is in it a line and no columns; nodes that have a place, the program's, keep theirs."""
    waiting: list[Any] = [node]
    while waiting:
        part = waiting.pop()
        if hasattr(part, "lineno"):
            continue
        if "lineno" in part._attributes:
            part.lineno = part.end_lineno = line
            part.col_offset = part.end_col_offset = NO_COLUMN
        waiting += ast.iter_child_nodes(part)
    return node


def text_of(number: int) -> str:
    """Return the constant that stands for a probe."""
    return f"{PREFIX}{number}"


def number_of(constant: object) -> int:
    """Return which probe a constant of a code object stands for, -1 if it is none."""
    if type(constant) is str and constant.startswith(PREFIX):
        return int(constant[len(PREFIX) :])
    return -1
