"""One page that needs nothing else: sources, and which line was executed by whom for which handle.

The page itself, with its script, is page.html; this file puts the data into it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.resources import files as resources
from typing import Any, TextIO

from .. import __version__, _recorder
from ..trace import Trace
from .coveragepy import statements
from .options import DEFAULT, Options, Traces
from .sources import hits, text_lines, usable
from .text import printable, shown

__all__ = ["write"]

Line = tuple[str, int]  # file and number


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write the page. Where coverage.py is installed it also shows what was not executed."""
    files = usable(traces, options)
    page = (resources("pykcov.report") / "page.html").read_text("utf-8")
    before, _, after = page.partition("@DATA@")
    # No "</script>" and no "<!--" of a source may end or change the element that it is in.
    data = json.dumps(_data(traces, files, options)).replace("<", "\\u003c")
    out.write(before + data + after)


def _data(traces: Traces, files: list[str], options: Options) -> dict[str, Any]:
    whose = _Whose()
    for name, trace in traces.items():
        whose.take(name, trace)
    counts = hits(Trace.join(traces.values()))
    known = statements(files)
    return {
        "pykcov": __version__,
        "collections": [printable(name) for name in traces],
        "who": whose.who,
        "files": [
            {
                "name": shown(file, options.root),
                "text": text_lines(file),
                "statements": known.get(file),
                "lines": {
                    line: (count, whose.number((file, line)))
                    for line, count in sorted(counts.get(file, {}).items())
                },
            }
            for file in files
        ],
        "sets": whose.sets,
    }


class _Whose:
    """Who executed each line: by numbers of sets, since many lines have the same."""

    def __init__(self) -> None:
        self.who: list[dict[str, str]] = []
        self.sets: list[list[int]] = []
        self._by_line: dict[Line, set[int]] = defaultdict(set)
        self._numbers: dict[frozenset[int], int] = {}

    def take(self, name: str, trace: Trace) -> None:
        """Add the sections of a collection, and what it has outside of them."""
        rows: dict[tuple[str, ...], int] = {}

        def add(start: int, end: int, *row: str) -> None:
            if start >= end:
                return
            if row not in rows:
                rows[row] = len(self.who)
                fields = ("collection", "handle", "process", "thread")
                self.who.append(dict(zip(fields, (printable(name), *row), strict=True)))
            for pc in _recorder.tally(trace.pcs[start:end]):
                place = trace.places.get(pc)
                if place is not None and place.kind == "line":
                    self._by_line[place.file, place.line].add(rows[row])

        done = 0
        for section in sorted(trace.sections, key=lambda section: section.start):
            add(done, section.start, "", "", "")
            thread = f"{printable(section.thread)} ({section.tid})"
            add(section.start, section.end, f"{section.handle:#x}", str(section.pid), thread)
            done = max(done, section.end)
        add(done, len(trace), "", "", "")

    def number(self, line: Line) -> int:
        """Return the number of the set of those who executed a line."""
        whose = frozenset(self._by_line[line])
        if whose not in self._numbers:
            self._numbers[whose] = len(self.sets)
            self.sets.append(sorted(whose))
        return self._numbers[whose]
