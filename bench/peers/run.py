"""Compare pytest --pykcov with other tools: whose functions each test gets, and what it costs.

    python bench/peers/run.py attribution     the table of docs/attribution.md
    python bench/peers/run.py overhead        the table of test suites in docs/benchmarks.md

The tools are plugins of pytest, so they get an environment of their own, made at the first run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

TITLES = {
    "plain": "a call",
    "thread_a": "a thread that was there before, and a queue",
    "thread_b": "the same thread, in the next test",
    "pool_first": "`ThreadPoolExecutor`, its first job",
    "pool_again": "the same pool, in the next test",
    "task_a": "a background task of an event loop",
    "task_b": "the same task, in the next test",
    "process_first": "`ProcessPoolExecutor`, made by this test",
    "process_again": "the same pool, in the next test",
    "program": "`subprocess`",
    "server_a": "a request to a live server",
    "server_b": "another request, in the next test",
    "late": "a job that goes on after its test",
    "nothing": "the test in which that job ends",
}


def environment() -> Path:
    """Return the Python that has all the tools, making it if it is not there."""
    name = f"peers-{sys.version_info.major}.{sys.version_info.minor}"
    python = ROOT / ".venv" / name / "bin" / "python"
    stamp = python.parents[1] / "installed"
    wanted = (ROOT / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"bench: making {python.parents[1].relative_to(ROOT)}", file=sys.stderr)
        base = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([base, "-m", "venv", "--clear", python.parents[1]], check=True)
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{ROOT}[peers]"], check=True)
        stamp.write_text(wanted)
    else:  # the tools are there; pykcov may have changed
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--force-reinstall", str(ROOT)], check=True)
    return python


def attribution() -> str:
    """Return the table: for each test what each tool lacks, and what it has of others."""
    from collectors import TOOLS

    import truth

    functions = truth.functions()
    wanted = {test: {functions[n] for n in lines} for test, lines in truth.lines().items()}
    found = {}
    with tempfile.TemporaryDirectory(prefix="pykcov-peers-") as directory:
        for tool, collect in TOOLS.items():
            project = Path(directory, tool)
            shutil.copytree(truth.PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
            found[tool] = collect(project)
    rows = [["who does the work", *(f"{tool} {version(tool)}" for tool in TOOLS)]]
    rows.append(["---"] * len(rows[0]))
    for test, title in TITLES.items():
        row = [title]
        for tool in TOOLS:
            mine, its = wanted.get(test, set()), found[tool].get(test, set())
            said = [f"lacks {len(mine - its)} of {len(mine)}"] if mine - its else []
            said += [f"has {len(its - mine)} of others"] if its - mine else []
            row.append(", ".join(said) or "exact")
        rows.append(row)
    return table(rows)


def overhead(launches: int) -> str:
    """Return the table: CPU time that each plugin adds to two suites, as multiples of what it is without."""
    rows = [
        [
            "suite",
            "tests",
            "pytest",
            "pytest --cov --cov-context=test",
            "pytest --pykcov",
            "slow-down against pytest-cov's",
        ]
    ]
    rows.append(["---"] * len(rows[0]))
    for package, folder, tests in (("toolz", "tests", 188), ("pyflakes", "test", 796)):
        figures: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory(prefix="pykcov-peers-") as directory:
            commands = suites(package, folder, directory)
            for _ in range(launches):
                for name, command in commands.items():
                    figures.setdefault(name, []).append(cpu(command, directory))
        plain = figures["plain"]
        times = {
            name: statistics.median(a / b for a, b in zip(figures[name], plain, strict=True))
            for name in ("cov", "pykcov")
        }
        against = statistics.median(
            (p - b) / (c - b)
            for p, c, b in zip(figures["pykcov"], figures["cov"], plain, strict=True)
        )
        rows.append(
            [package, str(tests), f"{statistics.median(plain):.2f} s", f"{times['cov']:.2f} ×",
             f"{times['pykcov']:.2f} ×", f"{against:.2f} ×"]
        )  # fmt: skip
    return table(rows)


def suites(package: str, folder: str, directory: str) -> dict[str, list[str]]:
    """The commands that run a package's own suite."""
    from collectors import PYTEST, without

    tests = Path(__import__(package).__file__).parent / folder
    base = [sys.executable, *PYTEST, "-c", os.devnull, f"--rootdir={directory}", str(tests)]
    return {
        "plain": [*base, *without()],
        "cov": [*base, *without("cov"), f"--cov={package}", "--cov-context=test", "--cov-report="],
        "pykcov": [*base, *without(), "--pykcov", f"--pykcov-source={package}"],
    }


def cpu(command: list[str], directory: str) -> float:
    """Run a command that has to succeed; return the CPU time of it and its children, in seconds."""
    quiet = {**os.environ, "COVERAGE_CORE": "ctrace"}
    quiet.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    subprocess.run(command, cwd=directory, env=quiet, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def replace(document: Path, name: str, text: str) -> None:
    """Put a table between its two marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, _, rest = document.read_text("utf-8").partition(begin)
    document.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", "utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["attribution", "overhead"])
    parser.add_argument("--launches", type=int, default=5, help="runs of each suite (5)")
    parser.add_argument("--dry-run", action="store_true", help="do not write the documentation")
    options = parser.parse_args()
    os.environ["PYKCOV_NAMESPACE"] = f"bench-peers-{os.getpid()}"
    try:
        version("pytest-testmon")
    except ImportError:  # not in the environment of the tools yet
        sys.exit(subprocess.run([environment(), *sys.argv], check=False).returncode)
    if options.what == "attribution":
        document, text = ROOT / "docs" / "attribution.md", attribution()
    else:
        document, text = ROOT / "docs" / "benchmarks.md", overhead(options.launches)
    print(text, end="")
    if not options.dry_run:
        replace(document, options.what, text)


if __name__ == "__main__":
    main()
