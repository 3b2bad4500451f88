"""What pykcov says was executed is what coverage.py says, on real suites of packages that others wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("agreement.py")


def executed(tool: str, package: str, tests: str, folder: Path) -> dict[str, list[int]]:
    result = folder / f"{tool}.json"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), tool, package, tests, str(result)],
        cwd=folder,
        env={**os.environ, "COVERAGE_CORE": "ctrace"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[int]] = json.loads(result.read_text())
    return found


@pytest.mark.parametrize(
    ("package", "tests"), [("toolz", "toolz.tests"), ("pyflakes", "pyflakes.test")]
)
def test_lines_equal_coverage_py_on_the_suite_of(package: str, tests: str, tmp_path: Path) -> None:
    ours = executed("pykcov", package, tests, tmp_path)
    theirs = executed("coverage", package, tests, tmp_path)
    assert sum(map(len, theirs.values())) > 1000
    assert ours.keys() == theirs.keys()
    for file, lines in theirs.items():
        assert ours[file] == lines, file
