"""Options of pytest --pykcov, in runs that change directory, have workers, or cannot write."""

from __future__ import annotations

from pathlib import Path

import pytest

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
