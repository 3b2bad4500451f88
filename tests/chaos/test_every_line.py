"""A worker is killed at each line of pykcov's between a section's last event and its end: nothing is lost uncounted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import pykcov

from . import digits, doom

HANDLE = 0x77


def deaths(run: Callable[[int], bool]) -> int:
    """Call ``run`` for 1, 2, ... lines until a worker lives that long; return how many died."""
    lines = 1
    while run(lines):
        lines += 1
        assert lines < 2000
    return lines - 1


def worker(lines: int, *, before: Callable[[], object], after: Callable[[], object]) -> bool:
    """A child with a section that dies that many lines after ``before``; return whether it did."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            pykcov.remote_start(HANDLE)
            before()
            doom.arm(lines)
            after()
            pykcov.remote_stop()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    status = os.waitstatus_to_exitcode(ended)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def check(trace: pykcov.Trace, happened: int, table: list[list[tuple[str, int]]]) -> None:
    assert len(trace.pcs) + trace.dropped == happened
    assert sum(s.end - s.start for s in trace.sections) == len(trace.pcs), trace.sections
    assert all(s.handle == HANDLE for s in trace.sections)
    seen = [(p.kind, p.line) for p in map(trace.symbolize, trace.pcs)]
    assert seen == [table[digit % digits.BASE][n] for digit, n in order(happened)][: len(seen)]


def order(events: int) -> list[tuple[int, int]]:
    """The first events of digits 0, 1, 2, ..."""
    found: list[tuple[int, int]] = []
    digit = 0
    while len(found) < events:
        found += [(digit, n) for n in range(digits.EVENTS[digit % digits.BASE])]
        digit += 1
    return found[:events]


@pytest.fixture
def functions(tmp_path: Path) -> list[Callable[[], int]]:
    digits.write(tmp_path)
    return digits.load(tmp_path, 0)


@pytest.mark.parametrize(
    ("size", "area_size"), [(200, 200), (12, 200), (200, 9), (12, 9), (2, 200)]
)
def test_a_device_has_or_has_counted_what_a_worker_recorded_that_died_at_any_line_of_its_stop(
    tmp_path: Path, functions: list[Callable[[], int]], size: int, area_size: int
) -> None:
    """Size 12 fills up in the move, 9 in the section."""
    played = functions[:5]
    happened = sum(digits.EVENTS[:5])

    def run(lines: int) -> bool:
        with pykcov.open(include=[str(tmp_path / "*")], sections=8) as device:
            device.init_trace(size)
            device.remote_enable(area_size=area_size, handles=[HANDLE])
            died = worker(lines, before=lambda: [f() for f in played], after=lambda: None)
            check(device.trace(), happened, digits.places(0))
            device.disable()
        return died

    assert deaths(run) > 5


def test_a_collection_has_what_a_worker_recorded_that_died_at_any_line_of_parking(
    tmp_path: Path, functions: list[Callable[[], int]]
) -> None:
    """Each full area is parked: some hundred lines. The death comes in one of them, or at the end."""
    table = digits.places(0)

    def run(lines: int) -> bool:
        with pykcov.collect(HANDLE, include=[str(tmp_path / "*")], area_size=32) as collection:
            # In this process's child the block's own section is open too.
            died = worker(
                lines,
                before=lambda: [f() for f in functions[:8]],
                after=lambda: [f() for f in functions[8:]],
            )
        trace = collection.trace
        parts = [s for s in trace.sections if s.pid != os.getpid()]
        pcs = [pc for s in parts for pc in trace.pcs[s.start : s.end]]
        seen = [(p.kind, p.line) for p in map(trace.symbolize, pcs)]
        whole = [place for digit in table for place in digit]
        assert seen == whole[: len(seen)]
        assert len(seen) >= sum(digits.EVENTS[:8])
        assert trace.dropped == 0
        if not died:
            assert seen == whole
        return died

    assert deaths(run) > 5
