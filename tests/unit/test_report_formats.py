"""What the formats say of a small program that really ran, and of traces made by hand."""

from __future__ import annotations

import errno
import json
import re
import threading
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pykcov
from pykcov import KcovError, Trace
from pykcov.report import (
    annotated,
    chrome,
    cobertura,
    difference,
    html,
    lcov,
    missing,
    records,
    tree,
)
from pykcov.report.options import Options, Report
from pykcov.trace import SectionRecord
from unit.reports import screen_of, text_of
from unit.traces import SMALL, A, B, entry, line, trace_of

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report-1.schema.json").read_text())
TEXT = '''\
"""Prices."""


def price(who):
    if who == "member":
        return 8
    if who == "staff":  # pragma: no cover
        return 1
    return 10\f


for who in ("guest", "guest", "guest"):
    price(who)
'''
READS_SOURCES = [annotated.write, cobertura.write, html.write, lcov.write, missing.write]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prices.py"
    path.write_text(TEXT)
    return path


def trace_of_run(program: Path, **options: Any) -> Trace:
    code = compile(program.read_text(), str(program), "exec")
    with pykcov.collect(source=[str(program.parent)], **options) as c:
        exec(code, {})
    return c.trace


# ---------------------------------------------------------------------------- for people


def test_the_annotated_source_says_how_often_each_line_ran_and_what_did_not(program: Path) -> None:
    assert (
        text_of(annotated.write, trace_of_run(program), Options())
        == '''\
prices.py
   1      """Prices."""
   2
   3
   4  1 > def price(who):
   5  3 >     if who == "member":
   6    !         return 8
   7  3 >     if who == "staff":  # pragma: no cover
   8              return 1
   9  3 >     return 10\\x0c
  10
  11
  12  4 > for who in ("guest", "guest", "guest"):
  13  3 >     price(who)
'''
    )


def test_the_annotated_source_has_colours_on_a_terminal_alone(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    trace = trace_of_run(program)
    plain, screen = text_of(annotated.write, trace), screen_of(annotated.write, trace)
    assert "\x1b" not in plain
    assert re.search(r"\x1b\[32m[^\n]*def price", screen)  # green
    assert re.search(r"\x1b\[31m[^\n]*return 8", screen)  # red
    assert re.sub(r"\x1b\[[0-9;]*m", "", screen) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[3[0-9]m", screen_of(annotated.write, trace))


def test_the_missing_statements_are_those_of_coverage_py(program: Path) -> None:
    text = text_of(missing.write, trace_of_run(program))
    assert re.search(r"^prices.py +6 +1 +83% +6$", text, re.MULTILINE)
    text = text_of(missing.write, trace_of_run(program), Options(branch=True))
    assert re.search(r"^prices.py +6 +1 +2 +0 +88% +6$", text, re.MULTILINE)


def test_the_tree_has_the_calls_of_each_task_below_what_called_them() -> None:
    sections = [
        SectionRecord(0x42, 10, 11, "worker-1", 7, 0, 7, 2000, 3000),
        SectionRecord(0x43, 10, 11, "worker-1", 7, 7, 9, 4000, 5000),
        SectionRecord(0x42, 12, 12, "MainThread", 1, 9, 10, 1000, 9000),
    ]
    trace = trace_of(
        entry(1, "f"), line(2, "f"), entry(5, "g"), line(6, "g"), line(3, "f"), entry(5, "g"),
        line(6, "g"),
        entry(1, "f"), line(2, "f"),
        line(9, "h", B),
        sections=sections,
    )  # fmt: skip
    assert (
        text_of(tree.write, {"one": trace})
        == """\
task 1 in thread MainThread of process 12, for 0x42
    calls     events
        -          1  h  …

task 7 in thread worker-1 of process 10, for 0x42, 0x43
    calls     events
        2          5  f  src/a.py:1
        2          4    g  src/a.py:5
"""
    )


def test_the_tree_of_a_recursion_is_one_function() -> None:
    deep = [place for _ in range(3000) for place in (entry(1, "f"), line(2, "f"))]
    assert text_of(tree.write, trace_of(*deep)).splitlines() == [
        "in no section",
        "    calls     events",
        "     3000       6000  f  src/a.py:1",
    ]


def test_the_difference_shows_the_lines_and_what_was_entered(program: Path) -> None:
    before = trace_of_run(program)
    code = compile("price('member')", "<string>", "exec")
    names: dict[str, Any] = {}
    exec(compile(program.read_text(), str(program), "exec"), names)
    with pykcov.collect(source=[str(program.parent)]) as c:
        exec(code, names)
    assert (
        text_of(difference.write, c.trace - before, Options())
        == """\
prices.py
  6          return 8

1 line, 0 functions
"""
    )
    program.write_text("# changed\n" + TEXT)
    assert text_of(difference.write, c.trace - before, Options()).splitlines()[:2] == [
        "prices.py  (no text: the source is gone, or not what ran)",
        "  6",
    ]


# ----------------------------------------------------------------------------- for programs


def test_lcov_says_how_often_each_line_ran(program: Path) -> None:
    text = text_of(lcov.write, trace_of_run(program))
    assert re.findall(r"^DA:(\d+),(\d+)$", text, re.MULTILINE) == [
        ("4", "1"), ("5", "3"), ("6", "0"), ("9", "3"), ("12", "4"), ("13", "3"),
    ]  # fmt: skip
    assert "SF:prices.py\n" in text
    assert "\nLF:6\nLH:5\n" in text
    assert "BRDA" not in text
    assert "\nBRDA:12,0,0,1\nBRDA:12,0,1,1\n" in text_of(
        lcov.write, trace_of_run(program), Options(branch=True)
    )


def test_cobertura_has_the_lines_and_the_rate(program: Path) -> None:
    text = text_of(cobertura.write, trace_of_run(program))
    root = xml.etree.ElementTree.fromstring(text)
    assert (root.get("lines-valid"), root.get("lines-covered")) == ("6", "5")
    lines = {item.get("number"): item.get("hits") for item in root.iter("line")}
    assert lines == {"4": "1", "5": "1", "6": "0", "9": "1", "12": "1", "13": "1"}


def test_json_keeps_to_its_schema_and_has_all_that_a_trace_says() -> None:
    traces = {"one": SMALL, "two": trace_of(line(1, file="/\udcff.py"), sources={})}
    for branch in (False, True):
        document = json.loads(text_of(records.write, traces, Options(branch=branch)))
        jsonschema.validate(document, SCHEMA)
        one, two = document["collections"]
        assert (one["name"], one["events"], one["dropped"]) == ("one", 9, 3)
        assert one["files"][A]["lines"] == {"1": 1, "2": 2, "5": 1}
        assert one["files"][A]["functions"] == [
            {"name": "<module>", "line": 1, "entered": 1}, {"name": "f", "line": 1, "entered": 1},
        ]  # fmt: skip
        assert one["files"][A]["arms"] == [
            {
                "function": "<module>", "line": 5, "column": 3, "end_line": 5, "end_column": 9,
                "arm": "true", "taken": 1,
            }
        ]  # fmt: skip
        assert one["files"][A]["versions"] == ["0123456789abcdef"]
        assert one["sections"] == [{**SMALL.sections[0]._asdict(), "handle": "0x42"}]
        assert list(two["files"]) == ["/\udcff.py"]
        arcs = one["files"][A].get("arcs")
        assert arcs == (sorted(map(list, SMALL.arcs()[A])) if branch else None)


def test_the_schema_has_a_rule_for_all_that_is_written() -> None:
    strict = json.loads(
        json.dumps(SCHEMA).replace(
            '"type": "object", "required"',
            '"additionalProperties": false, "type": "object", "required"',
        )
    )
    jsonschema.validate(json.loads(text_of(records.write, SMALL, Options(branch=True))), strict)
    document = json.loads(text_of(records.write, SMALL))
    document["collections"][0]["files"][A]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, strict)


# ------------------------------------------------------------------------------ timeline


def timeline(*sections: SectionRecord) -> list[dict[str, Any]]:
    trace = Trace([1] * 100, places={}, sections=sections)
    events = json.loads(text_of(chrome.write, trace))["traceEvents"]
    assert all(event["ph"] in "XMstf" for event in events)
    return list(events)


def spans(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(e["pid"], e["tid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]


def test_a_section_is_a_span_of_its_thread_in_microseconds_from_the_first_begin() -> None:
    events = timeline(
        SectionRecord(0x43, 10, 12, "worker-2", 2, 3, 5, 4_500, 5_500),
        SectionRecord(0x42, 10, 11, "worker-1", 1, 0, 3, 2_000, 5_000),
    )
    assert spans(events) == [(10, 11, 0.0, 3.0), (10, 12, 2.5, 1.0)]
    first = events[0]
    assert (first["name"], first["args"]["events"]) == ("0x42", 3)
    names = {(e["tid"], e["args"]["name"]) for e in events if e["name"] == "thread_name"}
    assert names == {(11, "worker-1"), (12, "worker-2")}


def test_a_section_inside_another_one_of_its_task_is_on_the_same_row() -> None:
    events = timeline(
        SectionRecord(0x42, 10, 11, "w", 1, 0, 9, 1_000, 9_000),
        SectionRecord(0x43, 10, 11, "w", 1, 2, 4, 2_000, 4_000),
        SectionRecord(0x43, 10, 11, "w", 1, 5, 6, 5_000, 6_000),
    )
    assert {row for _, row, _, _ in spans(events)} == {11}


def test_tasks_that_take_turns_on_a_thread_have_rows_of_their_own() -> None:
    events = timeline(
        SectionRecord(0x42, 10, 11, "loop", 1, 0, 9, 1_000, 9_000),
        SectionRecord(0x43, 10, 11, "loop", 2, 2, 4, 2_000, 4_000),
        SectionRecord(0x44, 10, 11, "loop", 3, 2, 4, 3_000, 10_000),
        SectionRecord(0x45, 10, 11, "loop", 2, 2, 4, 5_000, 6_000),
    )
    rows = [row for _, row, _, _ in spans(events)]
    assert rows[0] == 11
    assert len(set(rows[:3])) == 3
    assert rows[3] == rows[1]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[rows[1]] == "loop, task 2"


def test_a_section_that_came_in_parts_is_one_span() -> None:
    events = timeline(
        SectionRecord(0x42, 10, 11, "w", 1, 0, 5, 1_000, 6_000),
        SectionRecord(0x42, 10, 11, "w", 1, 5, 9, 1_000, 9_000),
    )
    assert spans(events) == [(10, 11, 0.0, 8.0)]
    assert events[0]["args"]["events"] == 9


def test_arrows_lead_from_the_first_section_of_a_handle_to_the_last() -> None:
    events = timeline(
        *(SectionRecord(0x42, 10, 11 + n, "w", n, n, n, n * 1_000, n * 1_000) for n in range(3)),
        SectionRecord(0x43, 10, 30, "w", 9, 0, 1, 1, 2),
    )
    arrows = [(e["ph"], e["tid"]) for e in events if e["ph"] in "stf"]
    assert arrows == [("s", 11), ("t", 12), ("f", 13)]


def test_a_timeline_of_nothing_is_empty() -> None:
    assert timeline() == []


# ------------------------------------------------------------------------ sources that are not there


@pytest.mark.parametrize("write", READS_SOURCES)
def test_a_source_that_has_changed_is_named(program: Path, write: Report) -> None:
    trace = trace_of_run(program)
    program.write_text(TEXT + "\n")
    with pytest.raises(KcovError, match=r"changed since it ran: prices.py ") as caught:
        text_of(write, trace, Options())
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("write", READS_SOURCES)
def test_a_source_that_is_gone_is_named(program: Path, write: Report) -> None:
    trace = trace_of_run(program)
    program.unlink()
    with pytest.raises(KcovError, match=r"the source is gone: prices.py ") as caught:
        text_of(write, trace, Options())
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("write", READS_SOURCES)
def test_such_a_source_is_left_out_where_that_is_asked_for(program: Path, write: Report) -> None:
    other = program.with_name("other.py")
    other.write_text("x = 1\n")
    trace = Trace.join([trace_of_run(program), trace_of_run(other)])
    program.write_text(TEXT + "\n")
    text = text_of(write, trace, Options(ignore_errors=True))
    assert "other.py" in text
    assert "prices.py" not in text


@pytest.mark.parametrize("write", READS_SOURCES)
def test_what_is_no_file_and_no_python_is_left_out(program: Path, write: Report) -> None:
    page = program.with_name("page.html")
    page.write_text("<p>{{ name }}</p>\n")
    with pykcov.collect(omit=[__file__]) as c:
        exec(compile("x = 1", "<string>", "exec"))
        exec(compile("x = 1", str(page), "exec"))
        exec(compile(program.read_text(), str(program), "exec"), {})
    trace = c.trace
    assert {"<string>", str(page), str(program)} <= trace.lines().keys()
    text = text_of(write, trace, Options())
    assert "prices.py" in text
    assert "<string>" not in text


def test_many_names_are_not_all_said(tmp_path: Path) -> None:
    trace = trace_of(*(line(1, file=f"{tmp_path}/{n}.py") for n in range(9)))
    with pytest.raises(KcovError, match=r"0.py, 1.py, 2.py, 3.py, 4.py and 4 more \("):
        text_of(lcov.write, trace, Options(root=str(tmp_path)))


# ------------------------------------------------------------------------------ who executed a line


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_knows_who_executed_each_line(program: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(program.read_text(), str(program), "exec"), names)
    device = pykcov.open(source=[str(program.parent)], sections=64)
    with device:
        device.init_trace(1 << 12)
        device.mmap()
        device.remote_enable(area_size=1 << 10, handles=[0x42, 0x43])

        def work() -> None:
            with pykcov.remote(0x42):
                names["price"]("member")
            with pykcov.remote(0x43):
                names["price"]("guest")

        worker = threading.Thread(target=work, name="worker-1")
        worker.start()
        worker.join()
        trace = device.trace()
        device.disable()
    data = page_data(text_of(html.write, {"run": trace}, Options()))
    [file] = data["files"]
    who = {
        int(number): sorted(data["who"][n]["handle"] for n in data["sets"][at])
        for number, (_, at) in file["lines"].items()
    }
    assert who == {5: ["0x42", "0x43"], 6: ["0x42"], 7: ["0x43"], 9: ["0x43"]}
    assert {one["thread"].split()[0] for one in data["who"]} == {"worker-1"}
    assert file["statements"] == [4, 5, 6, 9, 12, 13]
    assert Counter(count for count, _ in file["lines"].values()) == {2: 1, 1: 3}


def test_no_source_and_no_name_can_end_the_script_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "evil.py"
    path.write_text('x = "</script><script>alert(1)</script><!--"\n')
    trace = trace_of_run(path)
    page = text_of(html.write, {"</script>\x1b": trace}, Options(root=str(tmp_path)))
    assert page.count("</script>") == 2
    data = page_data(page)
    assert data["files"][0]["text"] == [path.read_text().rstrip()]
    assert data["collections"] == ["</script>\\x1b"]
