"""The commands where standard output or standard error is closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from integration.commands import NAMESPACE, PYKCOV
from pykcov import Trace
from unit.traces import entry, line, trace_of

COMMANDS = [
    "ls", "doctor", "report --pcs", "report --format json", "diff x.trace pykcov.trace", "--help",
    "--version", "ls --help", "run --help",
]  # fmt: skip
UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Trace((), places={}).save(tmp_path / "x.trace")
    trace_of(entry(1, "f", "<string>"), line(2, "f", "<string>")).save(tmp_path / "pykcov.trace")
    return tmp_path


def shell(
    folder: Path, arguments: str, streams: str, unbuffered: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams as a shell makes them; give what the two that are left took."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {arguments} {streams}', "bash", *PYKCOV],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYKCOV_NAMESPACE": NAMESPACE, "PYTHONUNBUFFERED": unbuffered},
    )


@UNBUFFERED
@pytest.mark.parametrize("arguments", COMMANDS)
def test_output_that_cannot_be_written_is_one_line_and_status_2(
    folder: Path, arguments: str, unbuffered: str
) -> None:
    for streams, cause in (
        (">&-", "Bad file descriptor"),
        (">/dev/full", "No space left on device"),
    ):
        done = shell(folder, arguments, streams, unbuffered)
        assert done.stderr.startswith("pykcov: ")
        assert done.stderr.endswith(f": standard output: {cause}\n")
        assert done.stderr.count("\n") == 1
        assert (done.returncode, done.stdout) == (2, "")


@UNBUFFERED
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_reader_that_is_gone_is_nothing_to_speak_of(
    folder: Path, arguments: str, unbuffered: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [*PYKCOV, *arguments.split()], cwd=folder, stdout=pipe, stderr=subprocess.PIPE, text=True,
            check=False, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_report_to_a_file_needs_no_standard_output(folder: Path) -> None:
    done = shell(folder, "report --format json -o out.json", ">&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "out.json").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("", 2), ("nonsense", 2), ("report none.trace", 2), ("html", 0), ("run -q gone.py", 2),
        ("run -c 0", 2), ("ls nonsense", 2), ("trace", 2), ("trace true", 2),
    ],
)  # fmt: skip
def test_what_is_for_standard_error_never_goes_to_standard_output(
    folder: Path, arguments: str, status: int
) -> None:
    done = shell(folder, arguments, "2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
