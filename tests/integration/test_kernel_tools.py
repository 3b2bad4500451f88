"""What `make kernel-test` says on a machine where it cannot run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "kernel"


@pytest.mark.parametrize("script", ["build.py", "run.py"])
@pytest.mark.parametrize("kind", ["um", "x86"])
def test_a_machine_without_the_packages_is_told_in_one_line_what_to_install(
    script: str, kind: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(TOOLS / script), kind]
    done = subprocess.run(
        command if script == "build.py" else [*command, "true"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},  # nothing is installed there
        cwd="/",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("kernel-test: this machine lacks gcc")
    assert "on Debian 12, apt-get install gcc" in line
    assert "linux-source-6.1" in line
    assert ("qemu-system-x86" in line) is (kind == "x86")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_a_folder_that_the_guest_does_not_see_is_told(folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as here:
        done = subprocess.run(
            [sys.executable, str(TOOLS / "run.py"), "um", "true"],
            cwd=here, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert f"the guest does not see {here}" in done.stderr


def test_wrong_usage_is_status_2() -> None:
    for arguments in (
        ["build.py"],
        ["build.py", "arm"],
        ["run.py", "arm", "true"],
        ["run.py", "um"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=TOOLS, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "Traceback" not in done.stderr
