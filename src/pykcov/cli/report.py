"""``pykcov report``: print the summary of a trace, or its PCs in order of execution."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import report
from ..trace import Trace
from .run import DEFAULT_OUTPUT

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Return 0, or 2 for wrong usage; KcovError if the trace cannot be read."""
    parser = argparse.ArgumentParser(
        "pykcov report",
        description="Print which files, lines and functions a trace holds, and how many events "
        "were dropped. The sources need not be there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", nargs="?", default=DEFAULT_OUTPUT, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--pcs",
        action="store_true",
        help="one line per event, in order of execution: PC, file:line, function, kind",
    )
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # --help is 0, a mistake is 2
        return int(stop.code or 0)
    write = report.pcs if options.pcs else report.summary
    write(Trace.load(options.file), sys.stdout)
    return 0
