"""``pykcov report``: what one or several traces hold, in a format of your choice."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..report.options import Options
from . import writing
from .run import DEFAULT_OUTPUT
from .streams import Parser

__all__ = ["main"]

FORMATS = ("text", "coverage", "lcov", "xml", "json", "chrome")
EPILOG = """\
formats:
  text      for people: a table of files, or what --missing, --tree, --comparisons and so on say
  coverage  a data file of coverage.py, .coverage by default, with a context for each trace
  lcov      for genhtml and editors
  xml       Cobertura's, for GitLab, Jenkins and others
  json      all that a trace holds; docs/report-json.md
  chrome    a timeline of the sections, for https://ui.perfetto.dev and chrome://tracing

Several traces are united. --missing, lcov and xml read the sources with the configuration of
coverage.py, if the directory has one; so does coverage.py, which they need.

examples:
  pykcov report one.trace two.trace --missing
  pykcov report one.trace two.trace --format coverage && coverage html --show-contexts
  pykcov report --format lcov -o one.lcov one.trace && genhtml one.lcov -o html
"""


def main(argv: Sequence[str]) -> int:
    """Return 0; Stop for wrong usage, KcovError if a trace cannot be read or a report be written."""
    parser = _parser()
    asked = parser.parse_args(argv)
    if asked.text and asked.format != "text":
        parser.error(f"--{asked.text.replace('_', '-')} is for --format text")
    format = (asked.text or "summary") if asked.format == "text" else asked.format
    traces = writing.collections(asked.file or [DEFAULT_OUTPUT])
    options = Options(branch=asked.branch, ignore_errors=asked.ignore_errors)
    writing.write(format, traces, asked.output, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "pykcov report",
        description="Print which files, lines and functions traces hold, and how many events "
        "were dropped; or say it in another format.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="*", metavar="FILE", help=f"default: {DEFAULT_OUTPUT}")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="default: %(default)s; see below"
    )
    writing.add_output(parser, "standard output, for coverage .coverage")
    text = parser.add_mutually_exclusive_group()
    for option, said in (
        ("--missing", "coverage.py's table: the statements of each file that were not executed"),
        ("--show-source", "the sources: > is executed, and how often; ! is not (with coverage.py)"),
        ("--tree", "for each task: which function called which, how often, with how many events"),
        (
            "--comparisons",
            "of a trace of --mode cmp: what was compared, constants, then the values seen",
        ),
        ("--pcs", "one line per event, in order of execution: PC, file:line, function, kind"),
    ):
        name = option[2:].replace("-", "_")
        text.add_argument(option, action="store_const", const=name, dest="text", help=said)
    writing.add_branch(parser)
    writing.add_ignore_errors(parser)
    return parser
