"""Which statements are recorded: the same as coverage.py reports, for real modules."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coverage
import pytest

from pykcov.probes import places
from unit import programs
from unit.watching import MONITORING, codes_of, lines_of, tracing

Tables = dict[types.CodeType, dict[int, int]]
Found = dict[str, set[int]]


def tables_of(code: types.CodeType) -> Tables:
    source = places.read_source(code.co_filename)
    return {each: places.line_table(each, source) for each in codes_of(code)}


def by_tracing(run: Callable[[Callable[[types.CodeType], None]], None]) -> Found:
    """Run with a trace function. `run` calls what it is given for each module before it executes that."""
    tables: Tables = {}
    found: Found = {}

    def prepare(code: types.CodeType) -> None:
        tables.update(tables_of(code))
        found[code.co_filename] = set()

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        table = tables.get(frame.f_code)
        if table is None:
            return None
        if event == "line" and frame.f_lineno in table:
            found[frame.f_code.co_filename].add(table[frame.f_lineno])
        return trace

    with tracing(trace):
        run(prepare)
    return found


def by_monitoring(run: Callable[[Callable[[types.CodeType], None]], None]) -> Found:
    """Run with LINE events."""
    names = sys.monitoring.events
    tables: Tables = {}
    found: Found = {}

    def prepare(code: types.CodeType) -> None:
        tables.update(tables_of(code))
        found[code.co_filename] = set()
        sys.monitoring.restart_events()

    def line(code: types.CodeType, number: int) -> object:
        # Equal code objects are the same key: those of the private copies and of the real modules.
        table = tables.get(code, {})
        if number in table:
            found[code.co_filename].add(table[number])
        return sys.monitoring.DISABLE

    sys.monitoring.use_tool_id(3, "test")
    try:
        sys.monitoring.register_callback(3, names.LINE, line)
        sys.monitoring.register_callback(3, names.PY_START, lambda *_: None)
        sys.monitoring.set_events(3, names.LINE | names.PY_START)
        run(prepare)
    finally:
        sys.monitoring.set_events(3, 0)
        sys.monitoring.free_tool_id(3)
    return found


def by_coverage(run: Callable[[Callable[[types.CodeType], None]], None], files: list[str]) -> Found:
    measured = coverage.Coverage(data_file=None, config_file=False, include=files)
    measured.set_option("run:core", "ctrace")
    measured.set_option("report:exclude_lines", [])
    measured.start()
    try:
        run(lambda code: None)
    finally:
        measured.stop()
    found = {}
    for file in files:
        _, statements, _, missing, _ = measured.analysis2(file)
        found[file] = set(statements) - set(missing)
    return found


def differences(ours: Found, theirs: Found) -> dict[str, tuple[list[int], list[int]]]:
    """Return, by file, the lines that only we have and those that only they have."""
    return {
        file: (sorted(ours[file] - theirs[file]), sorted(theirs[file] - ours[file]))
        for file in theirs
        if ours[file] != theirs[file]
    }


def run_modules(prepare: Callable[[types.CodeType], None]) -> None:
    codes = programs.compiled()
    for code in codes.values():
        prepare(code)
    with programs.private_copies(codes) as modules:
        programs.work(modules)


@pytest.fixture(scope="module")
def theirs() -> Found:
    return by_coverage(run_modules, programs.files_of())


def test_a_trace_function_gives_the_statements_that_coverage_gives(theirs: Found) -> None:
    assert sum(map(len, theirs.values())) > 4000
    assert differences(by_tracing(run_modules), theirs) == {}


@pytest.mark.skipif(not MONITORING, reason="3.11 has no sys.monitoring")
def test_line_events_give_the_statements_that_coverage_gives(theirs: Found) -> None:
    assert differences(by_monitoring(run_modules), theirs) == {}


def test_every_construct_gives_the_statements_that_coverage_gives(tmp_path: Path) -> None:
    file = tmp_path / "constructs.py"
    file.write_text(programs.CONSTRUCTS)

    def run(prepare: Callable[[types.CodeType], None]) -> None:
        code = compile(programs.CONSTRUCTS, str(file), "exec", dont_inherit=True)
        prepare(code)
        names: dict[str, Any] = {"__name__": "constructs"}
        exec(code, names)
        names["main"]()

    expected = by_coverage(run, [str(file)])
    assert differences(by_tracing(run), expected) == {}
    if MONITORING:
        assert differences(by_monitoring(run), expected) == {}


@pytest.mark.skipif(not MONITORING, reason="3.11 has no sys.monitoring")
def test_the_first_line_of_a_statement_stands_for_all_of_it() -> None:
    text = (
        "def f(a, b):\n"
        "    x = [\n"
        "        a,\n"
        "        b,\n"
        "    ]\n"
        "    for i in range(\n"
        "            2):\n"
        "        (x\n"
        "         .append(i))\n"
        "    return x\n"
    )
    names: dict[str, Any] = {}
    exec(compile(text, "x", "exec"), names)
    code = names["f"].__code__
    table = places.line_table(code, places.analyse(text))
    assert table == {3: 2, 6: 6, 8: 8, 10: 10}
    seen: list[tuple[str, int, int]] = []
    with lines_of({code: table}, seen):
        names["f"](1, 2)
    assert [line for _, _, line in seen] == [2, 6, 6, 8, 6, 8, 6, 10]
