"""Runs a package's own test suite under pykcov or under coverage.py and prints the lines that were executed.

python agreement.py pykcov|coverage PACKAGE TESTS
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest


def suite(tests: str) -> None:
    spec = importlib.util.find_spec(tests.partition(".")[0])
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent.joinpath(*tests.split(".")[1:])
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-x", str(folder)])
    assert status == 0, status


def under_pykcov(package: str, tests: str) -> dict[str, list[int]]:
    import pykcov

    with pykcov.collect(source=[package]) as collection:
        suite(tests)
    trace = collection.trace
    assert trace.dropped == 0
    # Of this process: coverage.py does not follow the programs that a suite starts.
    own = {pc for s in trace.sections if s.pid == os.getpid() for pc in trace.pcs[s.start : s.end]}
    found: dict[str, set[int]] = {}
    for place in map(trace.symbolize, own):
        if place.kind == "line":
            found.setdefault(place.file, set()).add(place.line)
    return {file: sorted(lines) for file, lines in found.items()}


def under_coverage(package: str, tests: str) -> dict[str, list[int]]:
    import coverage

    cov = coverage.Coverage(source=[package], config_file=False, data_file=None, messages=False)
    # Its exclusions are wishes about the report; what was executed is the question here.
    cov.clear_exclude()
    cov.start()
    suite(tests)
    cov.stop()
    found = {}
    for file in cov.get_data().measured_files():
        _, statements, _, missing, _ = cov.analysis2(file)
        executed = sorted(set(statements) - set(missing))
        if executed:
            found[file] = executed
    return found


if __name__ == "__main__":
    tool, package, tests = sys.argv[1:4]
    lines = {"pykcov": under_pykcov, "coverage": under_coverage}[tool](package, tests)
    Path(sys.argv[4]).write_text(json.dumps(lines))
