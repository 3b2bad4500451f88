"""``pykcov diff``: what one trace executed that another one did not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..report.options import Options
from ..report.text import shown
from ..trace import Trace
from . import writing
from .streams import Parser, say

__all__ = ["main"]

FORMATS = ("text", "coverage", "lcov", "xml", "json")
EPILOG = """\
Status 0: B executed nothing that A did not. 1: it did. 2: a trace cannot be read, wrong usage.

examples:
  pykcov run -o without.trace prog.py; pykcov run -o with.trace prog.py --flag
  pykcov diff without.trace with.trace     what the flag does
  pykcov diff with.trace without.trace     what it prevents
"""


def main(argv: Sequence[str]) -> int:
    """Return 0 or 1 as the epilog says; Stop for wrong usage, KcovError as ``pykcov report``."""
    parser = Parser(
        "pykcov diff",
        description="Print the lines that B executed and A did not, with their text if the sources "
        "are still what ran.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("a", metavar="A", help="a trace")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="default: %(default)s; the others as of `pykcov report`",
    )
    writing.add_output(parser, "standard output, for coverage .coverage")
    writing.add_ignore_errors(parser)
    asked = parser.parse_args(argv)
    before, after = Trace.load(asked.a), Trace.load(asked.b)
    options = Options(ignore_errors=asked.ignore_errors)
    _warn_of_versions(before, after)
    only = after - before
    format = "difference" if asked.format == "text" else asked.format
    writing.write(format, {f"{asked.b} without {asked.a}": only}, asked.output, options)
    return 1 if only else 0


def _warn_of_versions(before: Trace, after: Trace) -> None:
    files = [
        shown(file, None)
        for file, versions in sorted(after.sources.items())
        if before.sources.get(file, versions) != versions
    ]
    if files:
        say(
            "pykcov: the source changed between the traces, and is compared by line numbers: "
            + ", ".join(files)
        )
