"""Cobertura's XML, as coverage.py writes it."""

from __future__ import annotations

import os
import tempfile
from typing import TextIO

from .coveragepy import reporting
from .options import DEFAULT, Options, Traces

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write what ``coverage xml`` writes of these collections."""
    with (
        reporting(traces, options) as (coverage, files),
        tempfile.TemporaryDirectory() as directory,
    ):
        path = os.path.join(directory, "xml")
        coverage.xml_report(files, outfile=path)
        with open(path, encoding="utf-8") as file:
            out.write(file.read())
