"""How each tool runs the project, and which functions of jobs.py it says that each test executed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import truth

Found = dict[str, set[str]]  # the functions of each test, by the test's name without test_

PYTEST = ["-m", "pytest", "-q", "-p", "no:xdist"]
OFF = {"cov": "pytest_cov", "testmon": "testmon", "ddtrace": "ddtrace"}
_FUNCTIONS = truth.functions()

# What the documentation of coverage.py and pytest-cov says for threads, processes and subprocesses.
_COVERAGERC = """
[run]
concurrency = thread,multiprocessing
parallel = true
sigterm = true
patch = subprocess
"""

# dd-trace-py's collector around each phase of a test, as its own plugin has it; by lines, and with all its patches.
_DDTRACE = """
import json
from pathlib import Path

import pytest
from ddtrace.internal.coverage.code import ModuleCodeCollector
from ddtrace.internal.coverage.installer import install

HERE = Path(__file__).parent
install(include_paths=[HERE], collect_import_time_coverage=False, file_level_coverage=False)
ModuleCodeCollector.start_coverage()
FOUND = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    with ModuleCodeCollector.CollectInContext() as collector:
        result = yield
        lines = collector.get_covered_lines().get(str(HERE / "jobs.py"))
    FOUND[item.name] = lines.to_sorted_list() if lines else []
    return result


def pytest_sessionfinish():
    (HERE / "ddtrace.json").write_text(json.dumps(FOUND))
"""


def functions_of(lines: Mapping[str, object]) -> Found:
    """Functions by test, from lines by test."""
    found: Found = {}
    for test, executed in lines.items():
        name = test.partition("test_")[2] if "::" not in test else test.partition("::test_")[2]
        here = found.setdefault(name, set())
        here.update(_FUNCTIONS[n] for n in executed if n in _FUNCTIONS)  # type: ignore[attr-defined]
    return found


def run(directory: Path, arguments: list[str], **environment: str) -> None:
    """Run the project's tests, which have to pass."""
    command = [sys.executable, *PYTEST, *arguments, "test_workers.py"]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **environment}, check=False,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def without(*used: str) -> list[str]:
    """Options that leave the other tools out."""
    return [word for name in OFF if name not in used for word in ("-p", f"no:{name}")]


def pykcov(directory: Path) -> Found:
    run(directory, [*without(), "--pykcov", "--pykcov-json=found.json"])
    tests = json.loads((directory / "found.json").read_text())["tests"]
    return functions_of(
        {
            test: [
                n
                for phase in ("setup", "call", "teardown")
                for n in found[phase].get("jobs.py", [])
            ]
            for test, found in tests.items()
        }
    )


def coverage(directory: Path) -> Found:
    (directory / ".coveragerc").write_text(_COVERAGERC)
    options = ["--cov=.", "--cov-context=test", "--cov-report="]
    run(directory, [*without("cov"), *options], COVERAGE_CORE="ctrace")
    from coverage import CoverageData

    data = CoverageData(str(directory / ".coverage"))
    data.read()
    file = str(directory / "jobs.py")
    found: dict[str, list[int]] = {}
    for line, contexts in data.contexts_by_lineno(file).items():
        for context in contexts:
            found.setdefault(context.partition("|")[0], []).append(line)
    found.pop("", None)
    return functions_of(found)


def testmon(directory: Path) -> Found:
    run(directory, [*without("testmon"), "--testmon"])
    from testmon.process_code import Module, blob_to_checksums, methods_to_checksums

    blocks = Module(source_code=(directory / "jobs.py").read_text()).blocks
    names = {methods_to_checksums([block.checksum])[0]: block.name for block in blocks}
    database = sqlite3.connect(directory / ".testmondata")
    rows = database.execute(
        "SELECT test_name, method_checksums FROM test_execution t"
        " JOIN test_execution_file_fp ON t.id = test_execution_id"
        " JOIN file_fp f ON f.id = fingerprint_id WHERE filename = 'jobs.py'"
    )
    functions = set(_FUNCTIONS.values())
    found: Found = {}
    for test, blob in rows:
        here = {names.get(checksum, "") for checksum in blob_to_checksums(blob)}
        found[test.partition("::test_")[2]] = here & functions
    return found


def ddtrace(directory: Path) -> Found:
    (directory / "collect_with_ddtrace.py").write_text(_DDTRACE)
    options = [*without(), "-p", "collect_with_ddtrace"]
    run(directory, options, _DD_COVERAGE_FILE_LEVEL="false", PYTHONPATH=str(directory))
    return functions_of(json.loads((directory / "ddtrace.json").read_text()))


TOOLS: dict[str, Callable[[Path], Found]] = {
    "pykcov": pykcov,
    "pytest-cov": coverage,
    "pytest-testmon": testmon,
    "ddtrace": ddtrace,
}
