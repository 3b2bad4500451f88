from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from pykcov import Trace
from pykcov.codemap import Place
from pykcov.trace import SectionRecord
from unit.traces import A, entry, line, trace_of


def arcs(*places: Place, **more: Any) -> set[tuple[int, int]]:
    return trace_of(*places, **more).arcs().get(A, set())


def test_arcs_begin_at_minus_the_first_line_and_end_there() -> None:
    assert arcs(entry(1, "f"), line(2, "f"), line(4, "f")) == {(-1, 2), (2, 4), (4, -1)}


def test_a_line_of_the_caller_pops_what_was_called() -> None:
    found = arcs(
        entry(1, "<module>"), line(1), line(8),
        entry(1, "f"), line(2, "f"), entry(5, "g"), line(6, "g"), line(3, "f"),
        line(9),
    )  # fmt: skip
    assert found == {
        (-1, 1), (1, 8), (8, 9), (9, -1), (-1, 2), (2, 3), (3, -1), (-5, 6), (6, -5),
    }  # fmt: skip


def test_a_generator_goes_on_where_it_was_suspended() -> None:
    g = "gen"
    found = arcs(
        entry(1, "<module>"), line(9), entry(1, g), line(2, g), line(10), line(9),
        line(3, g), line(10), line(9), line(4, g),
    )  # fmt: skip
    assert {(-1, 2), (2, 3), (3, 4), (4, -1)} <= found
    assert not found & {(2, -1), (3, -1), (9, 3)}


def test_a_frame_that_was_already_running_has_neither_begin_nor_end() -> None:
    assert arcs(line(5, "f"), line(6, "f")) == {(5, 6)}


def test_no_arc_joins_two_sections() -> None:
    sections = [
        SectionRecord(1, 1, 1, "w", 1, 0, 2, 10, 20),
        SectionRecord(1, 1, 1, "w", 1, 2, 4, 30, 40),
    ]
    lines = line(5, "f"), line(6, "f"), line(7, "f"), line(8, "f")
    assert arcs(*lines, sections=sections) == {(5, 6), (7, 8)}
    assert arcs(*lines) == {(5, 6), (6, 7), (7, 8)}


def test_a_section_that_was_moved_in_parts_is_one_section() -> None:
    def part(tid: int, start: int, end: int, began: int) -> SectionRecord:
        return SectionRecord(1, 1, tid, "w", tid, start, end, began, 99)

    sections = [part(1, 0, 2, 10), part(2, 2, 3, 15), part(1, 3, 5, 10)]
    places = entry(1, "f"), line(2, "f"), line(7, "g"), line(3, "f"), line(4, "f")
    assert arcs(*places, sections=sections) == {(-1, 2), (2, 3), (3, 4), (4, -1)}


def test_what_lies_between_sections_is_the_tasks_own_and_goes_on() -> None:
    sections = [SectionRecord(1, 1, 2, "w", 2, 1, 2, 10, 20)]
    assert arcs(line(1), line(7, "g"), line(2), sections=sections) == {(1, 2)}


def test_a_lambda_on_a_line_of_its_own_statement_does_not_cut_that_in_two() -> None:
    # The line has one PC, and the code map may name either function for it.
    for function in ("f", "f.<locals>.<lambda>"):
        found = arcs(
            entry(1, "f"), line(2, "f"), line(3, function),
            entry(3, "f.<locals>.<lambda>"), line(3, function),
            entry(3, "f.<locals>.<lambda>"), line(3, function),
            line(4, "f"),
        )  # fmt: skip
        assert found == {(-1, 2), (2, 3), (3, 4), (4, -1), (-3, 3), (3, -3)}


def test_callbacks_without_number_do_not_pile_up() -> None:
    places = [place for _ in range(30_000) for place in (entry(1, "f"), line(2, "f"))]
    assert arcs(*places) == {(-1, 2), (2, -1)}


PROGRAM = """\
import math

class Shape:
    sides = 0

    def area(self, size):
        if size > 2:
            result = size * size
        else:
            result = 0
        return result

    one_line = lambda self: 7

def loop(count):
    total = 0
    for i in range(count):
        if i % 2:
            continue
        total += Shape().area(i)
    else:
        total += 1
    while total > 100:
        total -= 50
    return total

def fails(x):
    try:
        1 / x
    except ZeroDivisionError:
        return None
    finally:
        x += 1
    return x

def counter(n):
    i = 0
    while i < n:
        yield i
        i += 1

def deep(xs):
    return sorted(xs, key=lambda x: -x)

def decorated(f):
    return f

@decorated
def many(
    a,
    b=1,
):
    with open("/dev/null") as file:
        file.read()
    return [
        a,
        b,
    ]

result = loop(5)
for value in counter(3):
    fails(value)
fails(0)
deep([3, 1, 2])
many(1)
print(Shape().one_line(), end="")
"""


def events_of(source: str, name: str) -> Trace:
    """What a probe records, taken by a plain trace function: entries and lines in order."""
    places: list[Place] = []

    def tracer(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename != name:
            return None
        if event == "call" and code.co_code[frame.f_lasti + 1] == 0:  # RESUME at start
            places.append(entry(code.co_firstlineno, code.co_qualname, name))
        elif event == "line":
            places.append(line(frame.f_lineno, code.co_qualname, name))
        return tracer

    code = compile(source, name, "exec")
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        exec(code, ModuleType("program").__dict__)
    finally:
        sys.settrace(before)
    # One PC for each line, as the code map has it, with the function that ran there first.
    first = {place.line: place for place in reversed(places) if place.kind == "line"}
    return trace_of(*(first[p.line] if p.kind == "line" else p for p in places))


def test_arcs_are_those_that_coverage_py_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = pytest.importorskip("coverage")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    measured = coverage.Coverage(
        data_file=None, branch=True, include=[str(file)], config_file=False
    )
    measured.start()
    try:
        exec(compile(PROGRAM, str(file), "exec"), ModuleType("program").__dict__)
    finally:
        measured.stop()
    expected = set(measured.get_data().arcs(str(file)))
    found = events_of(PROGRAM, str(file)).arcs()[str(file)]
    # The generator's last suspension is the one thing that a stream without returns cannot tell.
    assert found == expected
    assert {a for arc in found for a in arc if a > 0} == set(measured.get_data().lines(str(file)))
