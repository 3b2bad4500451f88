"""The reports for a terminal or a pipe: a table of files, and the PCs in order of execution.

Colours and rules only where a person looks, and only if ``rich`` is there: in a pipe the same table
is plain aligned columns.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, TextIO

from ..trace import Trace
from .options import DEFAULT, Options, Traces

if TYPE_CHECKING:
    from ..symbolize import Location

__all__ = ["encodable", "pcs", "plain", "printable", "shown", "styled", "summary"]

BATCH = 4096  # lines joined into one write


def summary(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write the table of files: distinct lines, functions entered, events; what was dropped."""
    trace = Trace.join(traces.values())
    files = trace.files()
    body = [
        (shown(file, options.root), str(count.lines), str(count.functions), str(count.events))
        for file, count in files.items()
    ]
    total = [sum(column) for column in zip(*files.values(), strict=True)] or [0, 0, 0]
    many = "1 file" if len(body) == 1 else f"{len(body)} files"
    foot = [
        (f"total, {many}", *map(str, total)),
        ("dropped", "", "", str(trace.dropped)),
    ]
    head = ("file", "lines", "functions", "events")
    if not (out.isatty() and _rich(head, body, foot, out, alarm=trace.dropped > 0)):
        for line in plain([head, None, *body, *([None] if body else []), *foot]):
            out.write(encodable(line, out) + "\n")


def pcs(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write one line per event in order of execution: PC, file:line, function, kind."""
    trace = Trace.join(traces.values())
    lines: dict[int, str] = {}
    for start in range(0, len(trace), BATCH):
        batch = trace.pcs[start : start + BATCH]
        for pc in set(batch).difference(lines):
            lines[pc] = encodable(_event(trace.symbolize(pc), options.root), out)
        out.write("".join([lines[pc] for pc in batch]))


def _event(place: Location, root: str | None) -> str:
    if place.kind == "unknown":
        return f"{place.pc:#018x}  ?  ?  unknown\n"
    arm = f" {printable(place.arm)}" if place.arm else ""
    line = f":{place.line}" if place.line else ""  # the kernel's, without debug information
    where = f"{shown(place.file, root)}{line}"
    return f"{place.pc:#018x}  {where}  {printable(place.function)}  {place.kind}{arm}\n"


def shown(file: str, root: str | None) -> str:
    """Return a file's name to print: relative if below ``root``, '(unknown)' for none."""
    if not file:
        return "(unknown)"
    if root is None:
        try:
            root = os.getcwd()
        except OSError:  # the directory was removed
            return printable(file)
    inside = os.path.join(root, "")
    return printable(file.removeprefix(inside))


def printable(text: str) -> str:
    """Escape what a terminal would obey: a trace may come from anywhere, with any names."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def encodable(text: str, out: TextIO) -> str:
    """Escape what the stream's encoding has no way to write."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def styled(out: TextIO) -> Callable[[str, str], None]:
    """Return what writes a line in a style: with ``rich``, where a person looks and it is there."""
    if out.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(file=out, highlight=False, soft_wrap=True)
            return lambda style, text: console.print(Text(encodable(text, out), style=style))
    return lambda style, text: print(encodable(text, out), file=out)


def plain(rows: Sequence[Sequence[str] | None], left: Container[int] = (0,)) -> list[str]:
    """Align rows of texts: the columns ``left`` (numbers) left, the others right; None is a rule."""
    widths = [max(map(_width, column)) for column in zip(*filter(None, rows), strict=True)]
    lines = []
    for row in rows:
        cells = ["-" * width for width in widths] if row is None else row
        padded = [
            cell + pad if index in left else pad + cell
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
            for pad in [" " * (width - _width(cell))]
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _width(text: str) -> int:
    """Count the columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _rich(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    foot: Sequence[Sequence[str]],
    out: TextIO,
    *,
    alarm: bool,
) -> bool:
    """Write the table with ``rich``, which knows NO_COLOR, TERM and the width, if it is there."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column(head[0], overflow="fold")
    for title in head[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    for index, row in enumerate(body):
        # Text and not str: a file may be called [bold].
        table.add_row(*(Text(encodable(c, out)) for c in row), end_section=index == len(body) - 1)
    for index, row in enumerate(foot):
        style = "bold" if index == 0 else "bold red" if alarm else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    Console(file=out).print(table)
    return True
