"""What happened, from the journals of the workers and what the storm did to them."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path

from . import journal, plans
from .digits import offsets
from .journal import Kind
from .plans import Plan

NEVER = 1 << 63


@dataclass(slots=True)
class Process:
    """One process that the storm started. Times are ns of time.monotonic_ns()."""

    role: str
    number: int
    pid: int
    mortal: bool
    killed: bool = False  # by the storm
    status: int | None = None  # as subprocess gives it
    gone: int = NEVER  # when the storm knew that it is dead
    stops: list[tuple[int, int]] = field(default_factory=list)  # SIGSTOP, SIGCONT

    @property
    def name(self) -> str:
        return f"{self.role}.{self.number}"


@dataclass(slots=True)
class Root:
    """What is known of one root section's progress."""

    done: list[int] = field(default_factory=list)  # digits executed
    times: list[int] = field(default_factory=list)
    died: int | None = None  # digits executed when the process died by its own hand


@dataclass(slots=True)
class Section:
    """One section that was begun."""

    plan: Plan
    root: Root
    outer: Section | None
    process: Process
    lane: int
    module: int
    begin: int
    started: int = NEVER  # remote_start() had returned
    end: int = NEVER
    warned: list[int] = field(default_factory=list)
    _offsets: list[int] | None = None

    def events(self) -> list[int]:
        """Return how many events there are before each of its digits, and at the end."""
        if self._offsets is None:
            self._offsets = offsets(self.plan.digits)
        return self._offsets

    @property
    def length(self) -> int:
        """How many events a run of all of it gives."""
        return self.events()[-1]

    def executed(self, by: int) -> int:
        """Return how many events had happened in it at that time, at the least."""
        if by > self.end:
            return self.length
        at = bisect.bisect_left(self.root.times, by)
        return self._events_after(self.root.done[at - 1]) if at else 0

    def most(self) -> int:
        """Return how many events can have happened in it."""
        return self.length if self.root.died is None else self._events_after(self.root.died)

    def _events_after(self, done: int) -> int:
        return self.events()[min(max(done - self.plan.start, 0), len(self.plan.digits))]

    def __str__(self) -> str:
        return (
            f"section {self.plan.number:#x} of {self.process.name} (pid {self.process.pid}), "
            f"handle {self.plan.handle:#x}"
        )


class History:
    """All of it."""

    def __init__(self, seed: int, folder: Path, processes: list[Process]) -> None:
        self.seed = seed
        self.processes = processes
        self.by_handle: dict[int, list[Section]] = {}
        self.by_number: dict[int, Section] = {}
        self.warnings: list[tuple[Process, int]] = []
        self.fill = (NEVER, NEVER)
        self._by_thread: dict[tuple[int, int], list[Section]] = {}
        self._roots: dict[int, Plan] = {}
        for process in processes:
            if process.role == "worker":
                self._read(process, folder)
        for sections in self.by_handle.values():
            sections.sort(key=lambda s: s.begin)

    def beginning(self, pid: int, tid: int, at: int) -> Section | None:
        """Return the section that a thread had begun last at a time: the one that it was beginning."""
        sections = self._by_thread.get((pid, tid), [])
        found = bisect.bisect_right(sections, at, key=lambda s: s.begin)
        return sections[found - 1] if found else None

    def longest_stop(self, begin: int, end: int) -> int:
        """Return how long a process was stopped in a time, the longest such stop, in ns."""
        stops = (stop for process in self.processes for stop in process.stops)
        return max((min(end, b) - max(begin, a) for a, b in stops), default=0)

    def is_full(self, begin: int, end: int) -> bool:
        """Tell whether the shared-memory file system was full at some time between."""
        return begin <= self.fill[1] and end >= self.fill[0]

    def _read(self, process: Process, folder: Path) -> None:
        threads: dict[int, int] = {}
        plans_now: dict[int, dict[int, Plan]] = {}
        roots: dict[int, Root] = {}
        open_now: dict[int, list[Section]] = {}
        for record in journal.read(folder / process.name):
            if record.kind == Kind.LANE:
                threads[record.number] = record.value
                open_now[record.number] = []
                continue
            lane = plans.split(record.number)[1]
            if open_now[lane]:
                open_now[lane][-1].started = min(open_now[lane][-1].started, record.time)
            if record.kind == Kind.BEGIN:
                outer = open_now[lane][-1] if open_now[lane] else None
                if outer is None:
                    plan = plans.make(self.seed, record.number)
                    plans_now[lane] = {p.number: p for p in plan.walk()}
                    root = roots[lane] = Root()
                section = Section(
                    plans_now[lane][record.number], roots[lane], outer, process, lane,
                    record.value, record.time,
                )  # fmt: skip
                open_now[lane].append(section)
                self.by_number[record.number] = section
                self.by_handle.setdefault(section.plan.handle, []).append(section)
                self._by_thread.setdefault((process.pid, threads[lane]), []).append(section)
            elif record.kind == Kind.END:
                section = open_now[lane].pop()
                assert section.plan.number == record.number
                section.end = record.time
            elif record.kind == Kind.WARNED:
                self.warnings.append((process, record.time))
                if record.number in self.by_number:
                    self.by_number[record.number].warned.append(record.time)
            else:
                root = roots[lane]
                if record.kind == Kind.DIE:
                    root.died = record.value
                root.done.append(record.value)
                root.times.append(record.time)
