"""The trace event format of Chrome and Perfetto: when which thread worked for which handle.

A section is a span of its thread. A thread has its spans one in the other or one after the other,
but tasks of asyncio take turns on one thread, so a task whose sections would overlap another one's gets a row of its
own. Arrows lead from the first section of a handle to its next ones.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from ..trace import SectionRecord
from .options import DEFAULT, Options, Traces

__all__ = ["write"]

Event = Mapping[str, Any]


class Span(NamedTuple):
    """One section, with all its parts."""

    collection: str
    section: SectionRecord
    ended_ns: int
    events: int


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write one JSON object with an event for each section of each collection."""
    spans = sorted(
        (span for name, trace in traces.items() for span in _spans(name, trace.sections)),
        key=lambda span: (span.section.began_ns, -span.ended_ns),
    )
    events = [*_events(spans)]
    json.dump({"displayTimeUnit": "ms", "traceEvents": events}, out)
    out.write("\n")


def _spans(name: str, sections: tuple[SectionRecord, ...]) -> Iterator[Span]:
    parts: dict[tuple[int, ...], list[SectionRecord]] = defaultdict(list)
    for section in sections:
        key = section.handle, section.pid, section.tid, section.task, section.began_ns
        parts[key].append(section)
    for own in parts.values():
        events = sum(part.end - part.start for part in own)
        yield Span(name, own[0], max(part.ended_ns for part in own), events)


def _events(spans: list[Span]) -> Iterator[Event]:
    if not spans:
        return
    begin = spans[0].section.began_ns
    rows = _Rows()
    followed: dict[int, int] = defaultdict(int)
    count: dict[int, int] = defaultdict(int)
    for span in spans:
        count[span.section.handle] += 1
    for span in spans:
        section = span.section
        row = rows.of(span)
        at = {"pid": section.pid, "tid": row, "ts": (section.began_ns - begin) / 1000}
        yield {
            "ph": "X",
            "name": f"{section.handle:#x}",
            "cat": "section",
            **at,
            "dur": (span.ended_ns - section.began_ns) / 1000,
            "args": {
                "collection": span.collection,
                "thread": section.thread,
                "task": section.task,
                "events": span.events,
            },
        }
        if count[section.handle] > 1:
            followed[section.handle] += 1
            last = followed[section.handle] == count[section.handle]
            yield {
                "ph": "s" if followed[section.handle] == 1 else "f" if last else "t",
                "name": f"{section.handle:#x}",
                "cat": "handle",
                "id": f"{section.handle:#x}",
                **at,
                **({"bp": "e"} if last else {}),
            }
    yield from rows.names()


class _Rows:
    """Which row of the picture a span is on: its thread's, if it fits there."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (end, task) by (pid, row)
        self._row: dict[tuple[int, int, int], int] = {}  # by pid, tid, task
        self._names: dict[tuple[int, int], str] = {}
        self._next = 1 << 22  # above every thread id of Linux

    def of(self, span: Span) -> int:
        """Return the row of a span; they come in order of their begin."""
        s = span.section
        whose = s.pid, s.tid, s.task
        row = s.tid if self._fits(s.pid, s.tid, span) else self._row.get(whose)
        if row is None:
            row = self._row[whose] = self._next
            self._next += 1
        name = s.thread if row == s.tid else f"{s.thread}, task {s.task}"
        self._names.setdefault((s.pid, row), name)
        self._open.setdefault((s.pid, row), []).append((span.ended_ns, s.task))
        return row

    def _fits(self, pid: int, row: int, span: Span) -> bool:
        open_ = self._open.setdefault((pid, row), [])
        while open_ and open_[-1][0] <= span.section.began_ns:
            open_.pop()
        return not open_ or (span.ended_ns <= open_[-1][0] and open_[-1][1] == span.section.task)

    def names(self) -> Iterator[Event]:
        """Yield what names the rows."""
        for (pid, row), name in self._names.items():
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": row, "args": {"name": name}}
        for pid in dict.fromkeys(pid for pid, _ in self._names):
            yield {
                "ph": "M",
                "name": "process_name",
                "pid": pid,
                "args": {"name": f"process {pid}"},
            }
