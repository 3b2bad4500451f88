"""coverage.py's own table: statements, those that were not executed, and where they are."""

from __future__ import annotations

import io
from typing import TextIO

from .coveragepy import reporting
from .options import DEFAULT, Options, Traces
from .text import encodable

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write what ``coverage report --show-missing`` prints of these collections."""
    table = io.StringIO()
    with reporting(traces, options) as (coverage, files):
        coverage.report(files, file=table, show_missing=True)
    out.write(encodable(table.getvalue(), out))
