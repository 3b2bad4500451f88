"""lcov's tracefile, for genhtml, editors and services: as coverage.py writes it, but for two things.

A line has how often it ran, and a branch has a number: it is a text in coverage.py's, which lcov
reads from version 2 on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from ..trace import Trace
from .coveragepy import written
from .options import DEFAULT, Options, Traces
from .sources import hits

__all__ = ["write"]

_LINE = re.compile(r"^DA:(\d+),1\b")
_BRANCH = re.compile(r"^BRDA:(\d+),(\d+),.*,([^,\n]+)$")
_UNPRINTABLE = "?"  # what coverage.py writes for a character that would break its lines


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write what ``coverage lcov`` writes of these collections, and how often each line ran."""
    records = written(
        traces, options, lambda coverage, files, path: coverage.lcov_report(files, outfile=path)
    )
    out.writelines(_rewritten(records, hits(Trace.join(traces.values()))))


def _rewritten(records: Iterable[str], counts: Mapping[str, Mapping[int, int]]) -> Iterator[str]:
    by_name = {_name(file): own for file, own in counts.items()}
    own: Mapping[int, int] = {}
    branches: Counter[str] = Counter()

    def counted(line: re.Match[str]) -> str:
        return f"DA:{line[1]},{own.get(int(line[1]), 1)}"

    def numbered(branch: re.Match[str]) -> str:
        branches[branch[1]] += 1
        return f"BRDA:{branch[1]},{branch[2]},{branches[branch[1]] - 1},{branch[3]}"

    for record in records:
        if record.startswith("SF:"):
            own = by_name.get(_name(record[3:].rstrip("\n")), {})
            branches.clear()
        yield _BRANCH.sub(numbered, _LINE.sub(counted, record))


def _name(file: str) -> str:
    path = os.path.abspath(file)
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in path)
