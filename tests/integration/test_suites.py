"""Suites that others wrote pass under compiled probes as they do without: CPython's own and two packages'."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# test_json and test_dataclasses are long, and few of their tests are about the code that is compiled.
CPYTHON = [
    "test_compare", "test_richcmp", "test_patma", "test_generators", "test_grammar",
    "test_contextlib", "test_dataclasses", "test_json", "test_tomllib",
]  # fmt: skip
INCLUDE = [
    "*/test/test_*.py", "*/contextlib.py", "*/dataclasses.py", "*/json/*.py", "*/tomllib/*.py",
    "*/test/test_*/*.py",
]  # fmt: skip

ASLEEP = f"""
import pykcov, runpy, sys, warnings
if __name__ == "__main__":
    warnings.simplefilter("ignore", pykcov.KcovWarning)
    pykcov.instrument(include={INCLUDE!r})
    sys.argv[:1] = ["test"]
    runpy.run_module("test", run_name="__main__", alter_sys=True)
"""


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, capture_output=True, text=True, timeout=550,
        check=False, stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYKCOV_NAMESPACE": f"suites-{os.getpid()}",
            "XDG_CACHE_HOME": str(directory / "cache"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("test.test_grammar") is None, reason="this Python has no test package"
)
@pytest.mark.parametrize("state", ["awake", "asleep"])
def test_cpythons_own_tests_pass(state: str, tmp_path: Path) -> None:
    if state == "awake":
        command = [
            "-m",
            "pykcov",
            "run",
            "--compiled",
            "-q",
            "--include",
            ",".join(INCLUDE),
            "-m",
            "test",
        ]
    else:
        (tmp_path / "asleep.py").write_text(ASLEEP)
        command = ["asleep.py"]
    output = run(tmp_path, *command, *CPYTHON)
    assert f"All {len(CPYTHON)} tests OK." in output


@pytest.mark.parametrize("package", ["toolz", "pyflakes"])
def test_a_packages_tests_pass(package: str, tmp_path: Path) -> None:
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", package]
    plain = run(tmp_path, *suite)
    probed = run(tmp_path, "-m", "pykcov", "run", "-q", "--source", package, *suite)
    count = re.compile(r"\d+ passed.*(?= in )")
    found = count.search(plain)
    assert found is not None and count.search(probed) is not None
    assert found[0] == count.search(probed)[0]  # type: ignore[index]
    told = run(tmp_path, "-m", "pykcov", "report")
    assert f"{package}/" in told
