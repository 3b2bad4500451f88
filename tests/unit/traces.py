"""Traces made by hand."""

from __future__ import annotations

from array import array
from typing import Any

from pykcov import Trace
from pykcov.codemap import PYTHON_PC_BASE, Place
from pykcov.trace import SectionRecord

A, B = "/src/a.py", "/src/b.py"
BASE = PYTHON_PC_BASE + 0x1000


def line(number: int, function: str = "<module>", file: str = A) -> Place:
    return Place("line", file, number, function)


def entry(number: int, function: str, file: str = A) -> Place:
    return Place("entry", file, number, function)


def trace_of(*places: Place | None, **more: Any) -> Trace:
    """A trace with one PC for each distinct place; None is a PC that nobody knows."""
    numbers = {place: BASE + i for i, place in enumerate(dict.fromkeys(places))}
    known = {pc: place for place, pc in numbers.items() if place is not None}
    return Trace(array("Q", [numbers[place] for place in places]), places=known, **more)


SECTIONS = [SectionRecord(0x42, 10, 11, "worker-1", 7, 0, 2, 1000, 2000)]
SMALL = trace_of(
    entry(1, "<module>"), line(1), line(5), entry(1, "f"), line(2, "f"), line(2, "f"),
    line(3, "g", B), None, Place("arm", A, 5, "<module>", 3, 5, 9, "true"),
    sections=SECTIONS, dropped=3, probe="events", sources={A: ["0123456789abcdef"]},
)  # fmt: skip
