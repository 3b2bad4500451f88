"""``pykcov html``: one page with the sources, and who executed which line for which handle."""

from __future__ import annotations

from collections.abc import Sequence

from ..report.options import Options
from . import writing
from .run import DEFAULT_OUTPUT
from .streams import Parser, say

__all__ = ["main"]

PAGE = "pykcov.html"


def main(argv: Sequence[str]) -> int:
    """Return 0; Stop for wrong usage, KcovError as ``pykcov report``."""
    parser = Parser(
        "pykcov html",
        description="Write one page that shows the sources of traces: which lines were executed, "
        "and for each line in which trace, for which handle, by which thread of which process. A "
        "browser opens it from the disk; it needs no other file and no network.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="*", metavar="FILE", help=f"default: {DEFAULT_OUTPUT}")
    writing.add_output(parser, PAGE)
    writing.add_ignore_errors(parser)
    asked = parser.parse_args(argv)
    output = asked.output or PAGE
    traces = writing.collections(asked.file or [DEFAULT_OUTPUT])
    writing.write("html", traces, output, Options(ignore_errors=asked.ignore_errors))
    if output != "-":
        say(f"page written to {output}")
    return 0
