from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from coverage import CoverageData

from pykcov import KcovError
from pykcov.report import coveragepy
from unit.traces import A, B, entry, line, trace_of

ONE = trace_of(entry(1, "f"), line(2, "f"), line(4, "f"))
TWO = trace_of(entry(1, "f"), line(2, "f"), line(3, "f"), line(9, "g", B))


def read(path: Path) -> CoverageData:
    data = CoverageData(str(path))
    data.read()
    return data


def test_each_collection_is_a_context_with_its_own_lines(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    coveragepy.write(path, {"one": ONE, "two": TWO, "three": {A: {7}}})
    data = read(path)
    assert not data.has_arcs()
    assert data.measured_contexts() == {"one", "two", "three"}
    assert {n: sorted(c) for n, c in data.contexts_by_lineno(A).items()} == {
        2: ["one", "two"], 3: ["two"], 4: ["one"], 7: ["three"],
    }  # fmt: skip
    assert data.contexts_by_lineno(B) == {9: ["two"]}


def test_arcs_have_contexts_too_and_every_line(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    coveragepy.write(path, {"one": ONE, "two": TWO, "three": {A: {(7, 8)}}}, arcs=True)
    data = read(path)
    assert data.has_arcs()
    assert set(data.arcs(A) or ()) == {(-1, 2), (2, 4), (4, -1), (2, 3), (3, -1), (7, 8)}
    # All that is seen of g is one line, without a begin or an end.
    assert set(data.lines(B) or ()) == {9}
    data.set_query_context("one")
    assert set(data.arcs(A) or ()) == {(-1, 2), (2, 4), (4, -1)}


def test_a_context_may_be_added_to_again(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    with coveragepy.writing(path) as add:
        add("one", ONE)
        add("two", TWO)
        add("one", {A: {70}})
    assert set(read(path).contexts_by_lineno(A)[70]) == {"one"}
    assert set(read(path).lines(A) or ()) == {2, 3, 4, 70}


def test_what_is_not_in_a_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    trace = trace_of(line(1), line(2, file="<string>"), line(3, file="<string>"))
    for arcs in (False, True):
        coveragepy.write(path, {"one": trace}, arcs=arcs)
        assert read(path).measured_files() == {A}


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    coveragepy.write(path, {"one": ONE})
    path.chmod(0o640)
    before = path.read_bytes()
    with contextlib.suppress(ZeroDivisionError), coveragepy.writing(path) as add:
        add("two", TWO)
        raise ZeroDivisionError
    assert path.read_bytes() == before
    coveragepy.write(path, {"two": TWO})
    assert read(path).measured_contexts() == {"two"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in tmp_path.iterdir()] == [".coverage"]


def test_a_data_file_that_somebody_writes_to_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coveragepy, "_PATIENCE", 0.1)
    path = tmp_path / ".coverage"
    coveragepy.write(path, {"one": ONE})
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(KcovError, match="another process is writing to it") as caught:
            coveragepy.write(path, {"two": TWO})
        assert caught.value.errno == errno.EBUSY
    assert read(path).measured_contexts() == {"one"}
    assert [file.name for file in tmp_path.iterdir()] == [".coverage"]


def test_a_file_that_is_no_data_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".coverage"
    path.write_text("something else")
    coveragepy.write(path, {"one": ONE})
    assert read(path).measured_contexts() == {"one"}


def test_a_place_that_cannot_be_written_to_is_said_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "no" / ".coverage"
    with pytest.raises(KcovError) as caught:
        coveragepy.write(path, {"one": ONE})
    assert str(caught.value) == f"[Errno 2] report: {path}: {os.strerror(2)}"


def test_without_coverage_py_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "coverage", None)
    with pytest.raises(KcovError, match=r"pip install 'pykcov\[coverage\]'"):
        coveragepy.write(tmp_path / ".coverage", {"one": ONE})
    assert list(tmp_path.iterdir()) == []
