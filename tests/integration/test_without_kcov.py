"""Where the kernel has no kcov, each command that needs it says so in one line, and the rest of pykcov works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pykcov

pytestmark = pytest.mark.skipif(
    os.path.exists("/sys/kernel/debug/kcov"), reason="this kernel has kcov: tests/kernel"
)
MISSING = "open /sys/kernel/debug/kcov: "


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pykcov", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", "--", "touch", "it-ran"],
        ["trace", "touch", "it-ran"],
        ["trace", "--lines", "-c", "--remote", "usb:1", "--remote", "common", "--", "touch", "it-ran"],
        ["run", "--kernel", "prog.py"],
    ],
)  # fmt: skip
def test_a_command_says_in_one_line_what_is_missing_and_runs_nothing(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "prog.py").write_text("open('it-ran', 'w').close()\n")
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"pykcov: {MISSING}")
    assert any(hint in line for hint in ("mount -t debugfs", "CONFIG_KCOV=y", "only root"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prog.py"]


def test_collect_says_the_same_and_what_it_collected_before_it_collects_after() -> None:
    for _ in range(2):
        block = pykcov.collect(kernel=True)
        with pytest.raises(pykcov.KcovError, match=MISSING), block:
            raise AssertionError("the block runs")
        with pykcov.collect() as c:
            answer = int("42")
        assert answer == 42
        assert __file__ in c.trace.lines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace"], "a COMMAND is required"),
        (["trace", "--"], "a COMMAND is required"),
        (["trace", "--remote", "usb", "--", "true"], "invalid remote value: 'usb'"),
        (["trace", "--remote", "usb:x", "--", "true"], "invalid remote value: 'usb:x'"),
        (["trace", "--remote", "usb:99999999999", "--", "true"], "invalid remote value"),
        (["trace", "--area-size", "1", "--", "true"], "invalid area_size value: '1'"),
        (["trace", "--no-such", "--", "true"], "unrecognized arguments: --no-such"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    done = run("trace", "--", "no-such-program", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "pykcov: trace: no-such-program: no such command\n"


def test_help_teaches(tmp_path: Path) -> None:
    done = run("trace", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--remote", "--lines", "CONFIG_KCOV", "examples:", "exit status"):
        assert word in done.stdout
