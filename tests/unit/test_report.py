from __future__ import annotations

import re
import sys

import pytest

from pykcov import Trace, report
from pykcov.codemap import PYTHON_PC_BASE, Place
from pykcov.report.options import Options, Report
from pykcov.report.text import plain
from unit.reports import screen_of, text_of

BASE = PYTHON_PC_BASE + 0x1000
PLACES = {
    BASE: Place("entry", "/src/app/main.py", 1, "<module>"),
    BASE + 1: Place("line", "/src/app/main.py", 1, "<module>"),
    BASE + 2: Place("entry", "/src/app/main.py", 3, "run"),
    BASE + 3: Place("line", "/src/app/main.py", 4, "run"),
    BASE + 4: Place("line", "/src/lib.py", 2, "C.method"),
    BASE + 5: Place("arm", "/src/lib.py", 2, "C.method", 4, 2, 9, "true"),
}
TRACE = Trace(
    [BASE, BASE + 1, BASE + 2, BASE + 3, BASE + 3, BASE + 4, BASE + 5, 0x1234],
    places=PLACES,
    dropped=3,
)
SRC = Options(root="/src")


def test_the_summary_in_a_pipe_is_plain_aligned_columns() -> None:
    assert (
        text_of(report.summary, TRACE, SRC)
        == """\
file            lines  functions  events
--------------  -----  ---------  ------
(unknown)           0          0       1
app/main.py         2          1       5
lib.py              1          0       2
--------------  -----  ---------  ------
total, 3 files      3          1       8
dropped                                3
"""
    )


def test_the_summary_of_nothing_says_so() -> None:
    assert (
        text_of(report.summary, Trace(places={}))
        == """\
file            lines  functions  events
--------------  -----  ---------  ------
total, 0 files      0          0       0
dropped                                0
"""
    )


def test_pcs_are_printed_in_order_of_execution_with_repeats() -> None:
    assert (
        text_of(report.pcs, TRACE, SRC)
        == """\
0x7079000000001000  app/main.py:1  <module>  entry
0x7079000000001001  app/main.py:1  <module>  line
0x7079000000001002  app/main.py:3  run  entry
0x7079000000001003  app/main.py:4  run  line
0x7079000000001003  app/main.py:4  run  line
0x7079000000001004  lib.py:2  C.method  line
0x7079000000001005  lib.py:2  C.method  arm true
0x0000000000001234  ?  ?  unknown
"""
    )


def test_pcs_of_a_long_trace_are_all_there() -> None:
    trace = Trace([BASE + i % 6 for i in range(10_000)], places=PLACES)
    printed = text_of(report.pcs, trace).splitlines()
    assert [int(row.split()[0], 16) for row in printed] == list(trace)


def trace_in(file: str, function: str = "f") -> Trace:
    return Trace(
        [BASE, BASE + 1],
        places={
            BASE: Place("entry", file, 1, function),
            BASE + 1: Place("line", file, 2, function),
        },
    )


@pytest.mark.parametrize("write", [report.summary, report.pcs])
def test_names_cannot_command_the_terminal(write: Report) -> None:
    text = text_of(write, trace_in("/x\x1b[2J\n\r\x07.py", "f\x1b]0;title\x07"))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\x07" not in text
    assert r"x\x1b[2J\n\r\x07.py" in text


@pytest.mark.parametrize("write", [report.summary, report.pcs])
def test_names_that_the_stream_cannot_encode_are_escaped(write: Report) -> None:
    assert r"/h\xe9\u732b.py" in text_of(write, trace_in("/hé猫.py"), SRC, "ascii")
    assert r"/x\udcff.py" in text_of(write, trace_in("/x\udcff.py"), SRC)


def test_wide_characters_take_two_columns() -> None:
    rows = plain([("猫.py", "1"), ("plain.py", "22"), ("e\u0301.py", "3")])
    assert rows == ["猫.py      1", "plain.py  22", "e\u0301.py       3"]


def test_a_file_below_the_root_is_shown_relative_and_its_namesake_is_not() -> None:
    assert "\nlib.py " in text_of(report.summary, TRACE, SRC)
    assert "\n/src/lib.py " in text_of(report.summary, TRACE, Options(root="/sr"))


def on_a_terminal(trace: Trace) -> str:
    return screen_of(report.summary, trace, SRC)


def test_a_terminal_gets_a_table_with_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = on_a_terminal(TRACE)
    assert "\x1b[" in screen
    assert "app/main.py" in screen
    assert "─" in screen


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in on_a_terminal(TRACE)
    assert "31m" not in on_a_terminal(TRACE)


def test_a_long_name_is_folded_to_the_width_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "50")
    screen = on_a_terminal(trace_in("/src/" + "long_name/" * 10 + "[bold]x.py"))
    screen = re.sub(r"\x1b\[[0-9;]*m", "", screen)
    assert max(map(len, screen.splitlines())) <= 50
    first = re.sub(r"[0-9\s]", "", screen.split("─")[-1].split("total")[0])
    assert first == "long_name/" * 10 + "[bold]x.py"


def test_without_rich_a_terminal_gets_the_plain_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    screen = on_a_terminal(TRACE)
    assert screen == text_of(report.summary, TRACE, SRC)
