"""coverage.py reads the same out of our data file as out of its own, on real suites of packages that others wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("agreement.py")
SUITES = [("toolz", "toolz.tests"), ("pyflakes", "pyflakes.test")]
TOOLS = "pykcov", "coverage"
_LINE = re.compile(r'<p class="(\w+)[^"]*"><span class="n"><a id="t(\d+)"(.*?)</p>', re.DOTALL)
ENVIRONMENT = {**os.environ, "COVERAGE_CORE": "ctrace"}


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def coverage(command: str, tool: str, *options: str, folder: Path) -> str:
    data = f"--data-file={tool}.data"
    # Its exclusions are wishes about the report; what was executed is the question here.
    return run("-m", "coverage", command, "--rcfile=rc", data, *options, folder=folder)


def measured(package: str, tests: str, what: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Let both measure, and have coverage.py say in JSON what it finds: tool -> file -> figures."""
    (folder / "rc").write_text("[report]\nexclude_lines =\n    this is nowhere\n")
    found = {}
    for tool in TOOLS:
        run(str(PROGRAM), tool, package, tests, what, f"{tool}.data", folder=folder)
        coverage("json", tool, "--show-contexts", "-q", f"-o{tool}.json", folder=folder)
        found[tool] = json.loads((folder / f"{tool}.json").read_text())["files"]
    # With source= it also lists what nobody has executed.
    found["coverage"] = {
        file: figures
        for file, figures in found["coverage"].items()
        if figures["executed_lines"] or file in found["pykcov"]
    }
    return found


@pytest.mark.parametrize(("package", "tests"), SUITES)
def test_reports_of_lines_agree_on_the_suite_of(package: str, tests: str, tmp_path: Path) -> None:
    found = measured(package, tests, "lines", tmp_path)
    ours, theirs = found["pykcov"], found["coverage"]
    assert sum(len(figures["executed_lines"]) for figures in theirs.values()) > 1000
    assert ours.keys() == theirs.keys()
    for file, figures in theirs.items():
        for of in ("executed_lines", "missing_lines", "excluded_lines", "summary"):
            assert ours[file][of] == figures[of], (file, of)
        # Its contexts are of physical lines, ours of statements: by their first lines.
        for line in figures["executed_lines"]:
            assert ours[file]["contexts"][str(line)] == ["suite"], (file, line)
            assert figures["contexts"].get(str(line), ["suite"]) == ["suite"], (file, line)
    reports = [coverage("report", tool, "-m", *files(ours), folder=tmp_path) for tool in TOOLS]
    assert reports[0] == reports[1]
    assert f"{package}/__init__.py" in reports[0]
    pages = [html(tool, ours, tmp_path) for tool in TOOLS]
    assert pages[0].keys() == pages[1].keys()
    for name, lines in pages[1].items():
        assert [line[:2] for line in pages[0][name]] == [line[:2] for line in lines], name
    assert any(context for lines in pages[0].values() for _, _, context in lines)
    assert sum(len(lines) for lines in pages[1].values()) > 1000


@pytest.mark.parametrize(("package", "tests"), SUITES)
def test_reports_of_arcs_agree_on_the_suite_of(package: str, tests: str, tmp_path: Path) -> None:
    found = measured(package, tests, "arcs", tmp_path)
    ours, theirs = found["pykcov"], found["coverage"]
    assert ours.keys() == theirs.keys()
    branches = differences = 0
    for file, figures in theirs.items():
        for of in ("executed_lines", "missing_lines", "excluded_lines"):
            assert ours[file][of] == figures[of], (file, of)
        executed = {
            of: {tuple(arc) for arc in f[file]["executed_branches"]} for of, f in found.items()
        }
        branches += len(executed["coverage"])
        differences += len(executed["coverage"] ^ executed["pykcov"])
    assert branches > 300
    # The stream has no returns: where a function calls itself, an arc may be missing.
    assert differences <= branches // 100


def files(found: dict[str, Any]) -> list[str]:
    return [f"--include={','.join(found)}"]


def html(tool: str, found: dict[str, Any], folder: Path) -> dict[str, list[tuple[str, str, bool]]]:
    """The lines of each page of coverage.py's HTML: number, kind, whether it names the context."""
    out = folder / f"html-{tool}"
    coverage("html", tool, "--show-contexts", "-q", f"-d{out}", *files(found), folder=folder)
    return {
        path.name: [
            (number, kind, 'class="ctx"' in rest)
            for kind, number, rest in _LINE.findall(path.read_text())
        ]
        for path in out.glob("*_py.html")
    }
