"""Measure what everything costs, on the Python that runs this, and write it into docs/benchmarks.md.

Each cell has a process of its own (tracing tools disturb each other, and so do layouts of memory), several
times over; all are asked for a round in turn, in an order that rotates, so that what slows the machine
down for a while falls on all of them. Figures are medians over the rounds of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import CELLS
from floor import build
from table import part, replace_part

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"


class Process:
    """One cell at work in a process and a namespace of its own."""

    def __init__(self, cell: str, directory: Path, floor: Path, *, quick: bool) -> None:
        self.cell = cell
        directory.mkdir()
        environment = os.environ | {
            "PYKCOV_NAMESPACE": f"bench-{os.getpid()}-{directory.name}",
            "PYTHONHASHSEED": "0",
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                HERE / "cells.py",
                cell,
                directory,
                floor,
                "quick" if quick else "full",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def round(self) -> dict[str, float]:
        """Ask for one round and wait for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(
                f"bench: the process of {self.cell!r} ended with {self._process.wait()}"
            )
        return dict(json.loads(answer))

    def end(self) -> None:
        """Let it end, and wait for that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def measure(*, launches: int, rounds: int, quick: bool) -> dict[tuple[str, str], list[float]]:
    """Run every cell; return what its rounds gave."""
    figures: dict[tuple[str, str], list[float]] = {}
    done, total = 0, launches * rounds * len(CELLS)
    with tempfile.TemporaryDirectory(prefix="pykcov-bench-") as name:
        directory = Path(name)
        floor = build(directory)
        for launch in range(launches):
            processes = [
                Process(cell, directory / f"{launch}-{number}", floor, quick=quick)
                for number, cell in enumerate(CELLS)
            ]
            try:
                for _ in range(rounds):
                    for process in processes:
                        for figure, value in process.round().items():
                            figures.setdefault((process.cell, figure), []).append(value)
                        done += 1
                        _progress(done, total)
                    processes.append(processes.pop(0))
            finally:
                for process in processes:
                    process.end()
    return figures


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\r" if done < total else "\n"
        print(f"\rbench: {done} of {total} measurements", end=end, file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what everything costs on this Python.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round of everything: shows that it runs, no figures",
    )
    parser.add_argument("--launches", type=int, default=3, help="processes for each cell (3)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each process (7)")
    parser.add_argument("--dry-run", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    if options.quick:
        options.launches = options.rounds = 1
    figures = measure(launches=options.launches, rounds=options.rounds, quick=options.quick)
    text = part(figures, sys.version.split()[0])
    print(text)
    if not options.quick and not options.dry_run:
        DOCUMENT.write_text(replace_part(DOCUMENT.read_text("utf-8"), text), "utf-8")


if __name__ == "__main__":
    main()
