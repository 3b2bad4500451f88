"""Holds every trace against what happened.

Each word belongs to a section that was annotated with a handle of the collection while it was enabled, and
the words of a section are a prefix of what its plan says. A section that began after the handles were
enabled and ended before they were disabled is there whole; of one that was cut off by a death, or was open at a
read, there is at least what its process had noted before. What is missing of these is counted as dropped,
and nothing else is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from errno import ENOMEM, ENOSPC, ETIMEDOUT
from pathlib import Path

from . import digits
from .collector import RECORDS, Failure, Result, Window
from .history import NEVER, History, Section

# A lock's patience, less what the stopping itself takes.
PATIENCE = 1_800_000_000
SLACK = 3_000_000_000  # from a cause to the warning of it


@dataclass
class Counts:
    """What was held against the truth."""

    results: int = 0
    windows: int = 0
    events: int = 0
    whole: int = 0  # sections
    cut: int = 0  # that are there in part
    recovered: int = 0  # of those, sections that a death had cut
    dropped: int = 0  # events
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Check:
    """Checks results; ``problems`` is what is wrong."""

    def __init__(self, history: History, folder: Path) -> None:
        self._history = history
        self._files = {str(digits.path(folder, n)): n for n in range(digits.MODULES)}
        self._places = [digits.places(module) for module in range(digits.MODULES)]
        self.counts = Counts()
        self.problems: list[str] = []
        # A task of a process is one lane's.
        self._lanes: dict[tuple[int, int], int] = {}

    def result(self, result: Result) -> None:
        """Check one device or collect()."""
        self.counts.results += 1
        for failure in result.failures:
            self._failure(result, failure)
        if not result.is_whole:
            return
        self.counts.windows += len(result.windows)
        self.counts.events += len(result.pcs) // 8
        self.counts.dropped += result.dropped
        Trace(self, self._history, result).check()

    def say(self, result: Result, text: str) -> None:
        """Note a problem."""
        self.problems.append(f"{result.kind} {result.collection} of pid {result.pid}: {text}")

    def table(self, result: Result) -> list[list[list[int]]]:
        """Return the PCs of each digit of each module, as far as the trace has them."""
        pcs = {place: pc for pc, place in result.places.items()}
        unknown = {file for _, file, _ in pcs} - set(self._files)
        if unknown or len(pcs) != len(result.places):
            self.say(result, f"places of other files {unknown}, or two PCs of one place")
        tables = []
        for file, module in self._files.items():
            table = []
            for places in self._places[module]:
                known = [pcs.get((kind, file, line), 0) for kind, line in places]
                table.append(known)
            tables.append(table)
        return tables

    def lane(self, result: Result, pid: int, task: int, section: Section) -> None:
        """A task of a process is one lane's, in every trace."""
        if self._lanes.setdefault((pid, task), section.lane) != section.lane:
            self.say(result, f"task {task} of {pid} is lane {section.lane} and another: {section}")

    def _failure(self, result: Result, failure: Failure) -> None:
        self.counts.failures[f"{failure.call}: errno {failure.errno}"] += 1
        history = self._history
        stopped = history.longest_stop(failure.began - SLACK, failure.ended)
        if failure.errno in (ENOMEM, ENOSPC) and history.is_full(failure.began, failure.ended):
            return
        if failure.errno == ETIMEDOUT and stopped >= PATIENCE:
            return
        self.say(result, f"{failure.call}: {failure.text}")


class Trace:
    """The check of one trace."""

    def __init__(self, check: Check, history: History, result: Result) -> None:
        self._check = check
        self._history = history
        self._result = result
        self._table = check.table(result)
        self._recorded: dict[int, int] = {}  # events, by the section's number
        self._began: dict[int, int] = {}

    def check(self) -> None:
        """Check all of it."""
        if not self._is_covered():
            return
        for (pid, tid, task, handle, began), words in self._groups().items():
            self._group(pid, tid, task, handle, began, words)
        need = possible = 0
        for window in self._result.windows:
            for section in self._candidates(window):
                missing, most = self._missing(section, window)
                need += missing
                possible += most
        dropped = self._result.dropped
        if not need <= dropped <= possible:
            self._say(f"{dropped} events are dropped, from {need} to {possible} are missing")
        if dropped and self._result.kind == "collect" and not self._was_full():
            self._say(f"{dropped} events of a collect() are dropped")

    def _say(self, text: str) -> None:
        self._check.say(self._result, text)

    def _was_full(self) -> bool:
        windows = self._result.windows
        return self._history.is_full(windows[0].enable, windows[-1].disabled)

    def _is_covered(self) -> bool:
        """Every word is in one section record."""
        at = 0
        for section in sorted(self._result.sections, key=lambda s: s[5]):
            start, end = section[5:7]
            if start != at:
                self._say(f"words {at} to {start} are in no record, or in two")
                return False
            at = end
        full = self._result.kind == "device" and len(self._result.sections) == RECORDS
        if at != len(self._result.pcs) // 8 and not full:
            self._say(f"the last {len(self._result.pcs) // 8 - at} words are in no section record")
            return False
        return True

    def _groups(self) -> dict[tuple[int, int, int, int, int], bytes]:
        """The words of each section, put together."""
        parts: dict[tuple[int, int, int, int, int], list[bytes]] = defaultdict(list)
        for handle, pid, tid, _, task, start, end, began, _ in self._result.sections:
            parts[pid, tid, task, handle, began].append(self._result.pcs[8 * start : 8 * end])
        return {key: b"".join(words) for key, words in parts.items()}

    def _group(self, pid: int, tid: int, task: int, handle: int, began: int, words: bytes) -> None:
        section = self._history.beginning(pid, tid, began)
        count = len(words) // 8
        if section is None or section.plan.handle != handle or not began <= section.end:
            self._say(
                f"{count} words of handle {handle:#x}, pid {pid}, task {task}: nobody's ({section})"
            )
            return
        self._check.lane(self._result, pid, task, section)
        if not any(
            handle in w.handles and w.enable <= began <= (w.disabled or NEVER)
            for w in self._result.windows
        ):
            self._say(f"{section}: its handle was not enabled")
        if section.plan.number in self._recorded:
            self._say(f"{section} is there twice")
        self._recorded[section.plan.number] = count
        self._began[section.plan.number] = began
        if words != self._truth(section, count) and not self._has_gaps(section, words):
            self._say(f"{section}: its {count} words are not what it executed first")
        elif count > section.most():
            self._say(f"{section}: {count} events, but it died after {section.most()}")
        counts = self._check.counts
        if count == section.length:
            counts.whole += 1
        else:
            counts.cut += 1
            counts.recovered += section.end == NEVER and section.process.gone != NEVER

    def _truth(self, section: Section, count: int) -> bytes:
        """The first ``count`` words that a section must give."""
        table = self._table[section.module]
        pcs: list[int] = []
        for digit in section.plan.digits:
            pcs += table[digit]
            if len(pcs) >= count:
                break
        return b"".join(pc.to_bytes(8, "little") for pc in pcs[:count])

    def _has_gaps(self, section: Section, words: bytes) -> bool:
        """While there was no space a full area could not be parked: then what comes later is there."""
        if not self._history.is_full(section.begin, min(section.end, section.process.gone)):
            return False
        truth = memoryview(self._truth(section, section.length)).cast("Q")
        rest = iter(truth)
        return all(word in rest for word in memoryview(words).cast("Q"))

    def _candidates(self, window: Window) -> list[Section]:
        """The sections that may belong to a window."""
        found = []
        for handle in window.handles:
            for section in self._history.by_handle.get(handle, ()):
                if section.begin > window.disabled:
                    break
                over = section.end if section.end != NEVER else section.process.gone
                if over >= window.enable:
                    found.append(section)
        return found

    def _missing(self, section: Section, window: Window) -> tuple[int, int]:
        """How many of a section's events must be counted as dropped, and how many can be."""
        outer = section.outer
        is_sure = section.begin > window.enabled and not section.warned
        while outer is not None:  # two sections of one device in one task are one
            if outer.plan.handle in window.handles and outer.started >= window.enable:
                began = self._began.get(outer.plan.number, 0)
                if window.enable <= began <= window.disabled:
                    return 0, 0
                if outer.begin > window.enabled and not outer.warned:
                    return 0, 0
                is_sure = False
            outer = outer.outer
        recorded = self._recorded.get(section.plan.number, 0)
        need = 0
        if is_sure:
            if section.end < window.disable:
                need = section.length
            else:
                need = max(map(section.executed, window.reads), default=0)
                if section.process.gone < window.disable:
                    need = max(need, section.executed(NEVER))
        if need - recorded > self._result.dropped:
            self._say(
                f"{section}: {recorded} of {need} events are there, {self._result.dropped} dropped"
            )
            return 0, section.length
        return max(0, need - recorded), section.length - recorded
