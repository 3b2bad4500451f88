"""lcov's tracefile, for genhtml, editors and services: as coverage.py writes it, but with counts."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from ..trace import Trace
from .coveragepy import reporting
from .options import DEFAULT, Options, Traces
from .sources import hits

__all__ = ["write"]

_LINE = re.compile(r"^DA:(\d+),1\b")


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write what ``coverage lcov`` writes of these collections, and how often each line ran."""
    with (
        reporting(traces, options) as (coverage, files),
        tempfile.TemporaryDirectory() as directory,
    ):
        path = os.path.join(directory, "lcov")
        coverage.lcov_report(files, outfile=path)
        with open(path, encoding="utf-8") as file:
            out.writelines(_counted(file, hits(Trace.join(traces.values()))))


def _counted(lines: Iterable[str], counts: Mapping[str, Mapping[int, int]]) -> Iterator[str]:
    own: Mapping[int, int] = {}

    def counted(line: re.Match[str]) -> str:
        return f"DA:{line[1]},{own.get(int(line[1]), 1)}"

    for line in lines:
        if line.startswith("SF:"):
            own = counts.get(os.path.abspath(line[3:].rstrip("\n")), {})
        yield _LINE.sub(counted, line)
