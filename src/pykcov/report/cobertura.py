"""Cobertura's XML, as coverage.py writes it."""

from __future__ import annotations

from typing import TextIO

from .coveragepy import written
from .options import DEFAULT, Options, Traces

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write what ``coverage xml`` writes of these collections."""
    out.writelines(
        written(
            traces, options, lambda coverage, files, path: coverage.xml_report(files, outfile=path)
        )
    )
