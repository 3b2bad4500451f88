"""Runs a package's own test suite under pykcov or under coverage.py and writes a data file of coverage.py.

python agreement.py pykcov|coverage PACKAGE TESTS lines|arcs FILE

Everything is in the context "suite", and only of this process: coverage.py does not follow the programs that a
suite starts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from array import array
from pathlib import Path

import pytest


def suite(tests: str) -> None:
    spec = importlib.util.find_spec(tests.partition(".")[0])
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent.joinpath(*tests.split(".")[1:])
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-x", str(folder)])
    assert status == 0, status


def under_pykcov(package: str, tests: str, *, arcs: bool, file: str) -> None:
    import pykcov
    from pykcov.report import coveragepy

    with pykcov.collect(source=[package]) as collection:
        suite(tests)
    trace = collection.trace
    assert trace.dropped == 0
    coveragepy.write(file, {"suite": own(trace)}, arcs=arcs)


def own(trace):
    """The part of a trace that this process recorded."""
    import pykcov

    pcs = array("Q")
    sections = []
    for section in trace.sections:
        if section.pid == os.getpid():
            start = len(pcs)
            pcs.extend(trace.pcs[section.start : section.end])
            sections.append(section._replace(start=start, end=len(pcs)))
    return pykcov.Trace(pcs, places=trace.places, sections=sections)


def under_coverage(package: str, tests: str, *, arcs: bool, file: str) -> None:
    import coverage

    cov = coverage.Coverage(
        source=[package],
        config_file=False,
        data_file=file,
        branch=arcs,
        context="suite",
        messages=False,
    )
    cov.start()
    suite(tests)
    cov.stop()
    cov.save()


if __name__ == "__main__":
    tool, package, tests, what, file = sys.argv[1:]
    run = {"pykcov": under_pykcov, "coverage": under_coverage}[tool]
    run(package, tests, arcs=what == "arcs", file=file)
