"""What the code compared: for each comparison its constants, then the values that it saw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from ..comparisons import Comparison, Operand
from ..symbolize import Location
from ..trace import Trace
from .options import DEFAULT, Options, Traces
from .text import plain, printable, shown, styled

__all__ = ["write"]

_VALUES = 5  # of one comparison
_PAIRS = 2
_WIDTH = 20  # characters of one value


class _Row:
    """One comparison of the source: how often it happened, and the distinct operands, in order of their first time."""

    def __init__(self) -> None:
        self.times = 0
        self.constants: dict[str, None] = {}
        self.values: dict[str, None] = {}

    def add(self, one: Comparison) -> None:
        self.times += 1
        left, right = (
            _text(one.left, one.cut in ("left", "both")),
            _text(one.right, one.cut in ("right", "both")),
        )
        if one.const_side:
            constant, value = (left, right) if one.const_side == "left" else (right, left)
            self.constants[constant] = self.values[value] = None
        else:
            self.values[f"{left} {one.op} {right}"] = None


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write a table of the comparisons, in order of their places."""
    trace = Trace.join(traces.values())
    rows: dict[Location, _Row] = {}
    for one in trace.comparisons:
        rows.setdefault(one.location, _Row()).add(one)
    body = [
        (
            f"{shown(place.file, options.root)}:{place.line}:{(place.column or 0) + 1}",
            printable(place.arm) or "?",
            str(row.times),
            _listed(row.constants, _VALUES),
            _listed(row.values, _VALUES if row.constants else _PAIRS),
        )
        for place, row in sorted(rows.items(), key=lambda item: _order(item[0]))
    ]
    foot = [
        ("total", "", str(len(trace.comparisons)), "", ""),
        ("dropped", "", str(trace.dropped), "", ""),
    ]
    table = [("place", "operator", "times", "constants", "values seen"), None, *body]
    lines = plain([*table, *([None] if body else []), *foot], left=(0, 1, 3, 4))
    put = styled(out)
    for number, line in enumerate(lines):
        alarm = trace.dropped and number == len(lines) - 1
        put("bold" if number == 0 else "bold red" if alarm else "", line)
    if not body:
        put(
            "",
            "no comparisons: a trace has them if it was collected with --mode cmp, or mode=TRACE_CMP",
        )


def _order(place: Location) -> tuple[str, int, int, int, int, str]:
    ends = place.end_line or 0, place.end_column or 0
    return place.file, place.line, place.column or 0, *ends, place.arm


def _text(value: Operand, cut: bool) -> str:
    text = printable("..." if value is ... else repr(value))
    if len(text) > _WIDTH:
        text, cut = text[:_WIDTH], True
    return f"{text}…" if cut else text


def _listed(values: Iterable[str], most: int) -> str:
    every = list(values)
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")
