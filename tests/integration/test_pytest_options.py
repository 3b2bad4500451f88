"""Options of pytest --pykcov, in runs that change directory, have workers, or cannot write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pykcov
from integration.commands import write
from integration.pytest_runs import pytest_run

WANDERING = """
    import os


    def test_one(tmp_path):
        os.chdir(tmp_path)


    def test_two(tmp_path):
        os.chdir(tmp_path)
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_a_relative_directory_of_traces_is_that_of_the_start(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """It was looked for in whatever directory a test had left: the session ended with an internal error."""
    write(tmp_path, "test_it.py", WANDERING)
    done = pytest_run(tmp_path, "--pykcov", "--pykcov-traces=traces", *workers)
    assert done.returncode == 0, done.stdout
    names = sorted(path.name for path in (tmp_path / "traces").iterdir())
    assert names == ["test_it.py-test_one.trace", "test_it.py-test_two.trace"]


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_traces_that_cannot_be_saved_are_one_line_and_status_4(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    write(
        tmp_path,
        "test_it.py",
        f"""
        import pytest, shutil

        @pytest.mark.parametrize("n", range(3))
        def test_it(n):
            shutil.rmtree({str(tmp_path / "traces")!r}, ignore_errors=True)
        """,
    )
    done = pytest_run(tmp_path, "--pykcov", "--pykcov-traces=traces", *workers)
    assert done.returncode == 4, done.stdout
    assert "3 passed" in done.stdout
    assert "INTERNALERROR" not in done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ERROR: "))
    assert line.startswith(f"ERROR: pykcov: Trace.save: {tmp_path}/traces/test_it.py-test_it"), line
    assert line.endswith(": No such file or directory (and 2 more traces)"), line


def test_each_test_has_a_trace_of_its_own_name(tmp_path: Path) -> None:
    """Tests whose names differ in what no file's name has wrote into one file."""
    names = ["plain", "a-b", "a b", "a/b", "a,b", "a::b", "-a-b", "x" * 300, "x" * 301, "ж" * 140]
    write(
        tmp_path,
        "test_it.py",
        f"""
        import pytest

        @pytest.mark.parametrize("name", {names})
        def test_it(name):
            pass
        """,
    )
    done = pytest_run(tmp_path, "--pykcov", "--pykcov-traces=traces")
    assert done.returncode == 0, done.stdout
    found = [path.name for path in (tmp_path / "traces").iterdir()]
    assert len(found) == len(names), found
    assert {"test_it.py-test_it[plain].trace", "test_it.py-test_it[a-b].trace"} < set(found)
    assert sum(bool(re.fullmatch(r"test_it.py-test_it\[a-b\]-\w{8}\.trace", n)) for n in found) == 4


@pytest.mark.parametrize("choice", ["--pykcov-source=./lib", "--pykcov-include=lib/*"])
@pytest.mark.parametrize("options", [(), ("--pykcov", "--pykcov-traces=traces")])
def test_files_are_chosen_in_the_directory_of_the_start(
    tmp_path: Path, choice: str, options: tuple[str, ...]
) -> None:
    """They were looked for in the directory of each test: nothing was collected."""
    write(tmp_path, "lib/shop.py", "def price():\n    return 8\n")
    write(
        tmp_path,
        "test_it.py",
        """
        import pytest
        from lib import shop

        @pytest.fixture(autouse=True)
        def elsewhere(monkeypatch, tmp_path):
            monkeypatch.chdir(tmp_path)

        def test_one(pykcov):
            shop.price()
            assert pykcov.trace.lines() == {shop.__file__: {2}}

        def test_two(pykcov):
            shop.price()
            assert pykcov.trace.lines() == {shop.__file__: {2}}
        """,
    )
    done = pytest_run(tmp_path, choice, *options)
    assert done.returncode == 0, done.stdout
    for path in (tmp_path / "traces").glob("*"):
        assert pykcov.Trace.load(path).lines()[str(tmp_path / "lib" / "shop.py")] == {2}
