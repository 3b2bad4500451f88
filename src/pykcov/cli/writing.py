"""What the commands that make reports have in common: traces, formats, and where a report goes."""

from __future__ import annotations

import argparse
import importlib
import io
from collections.abc import Iterable
from typing import BinaryIO

from .. import wholefile
from ..errors import KcovError
from ..report.options import Options, Report, Traces
from ..trace import Trace
from .streams import standard_output

__all__ = ["add_branch", "add_ignore_errors", "add_output", "collections", "write"]

# The module of a format, and its function.
FORMATS = {
    "lcov": ("lcov", "write"),
    "xml": ("cobertura", "write"),
    "json": ("records", "write"),
    "chrome": ("chrome", "write"),
    "html": ("html", "write"),
    "summary": ("text", "summary"),
    "pcs": ("text", "pcs"),
    "missing": ("missing", "write"),
    "show_source": ("annotated", "write"),
    "tree": ("tree", "write"),
    "difference": ("difference", "write"),
    "comparisons": ("comparisons", "write"),
}
TERMINAL = {"summary", "pcs", "missing", "show_source", "tree", "difference", "comparisons"}


def add_branch(parser: argparse.ArgumentParser) -> None:
    """Add the option for formats that can report branches."""
    parser.add_argument(
        "--branch",
        action="store_true",
        help="report branches, too: from line to line, worked out from the order of events",
    )


def add_ignore_errors(parser: argparse.ArgumentParser) -> None:
    """Add the option for formats that read sources."""
    parser.add_argument(
        "-i",
        "--ignore-errors",
        action="store_true",
        help="leave out files whose source is gone or has changed since it ran",
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that says where the report goes."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=f"write it to this file; default: {default}"
    )


def collections(files: Iterable[str]) -> dict[str, Trace]:
    """Load traces: each is a collection, called like its file without ``.trace`` if no other one is called so."""
    asked = dict.fromkeys(files)
    short = {file: file.removesuffix(".trace") or file for file in asked}
    return {file if name in asked else name: Trace.load(file) for file, name in short.items()}


def write(format: str, traces: Traces, output: str | None, options: Options) -> None:
    """Write one report to a file, whole or not at all, or to standard output. KcovError if not."""
    if format == "coverage":
        from ..report import coveragepy

        coveragepy.report(traces, output or ".coverage", options)
        return
    report = _report(format)
    if output is None or output == "-":
        _to_standard_output(report, traces, options, terminal=format in TERMINAL)
        return
    try:
        with wholefile.replacing(output) as file:
            _to_file(report, traces, file, options)
    except KcovError:
        raise
    except OSError as error:
        raise wholefile.failed("report", output, error) from error


def _to_file(report: Report, traces: Traces, file: BinaryIO, options: Options) -> None:
    """Write a report in UTF-8, with names of files as they are."""
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="\n")
    report(traces, text, options)
    text.detach()  # flushes; else it would close the file


def _report(format: str) -> Report:
    module, function = FORMATS[format]
    found: Report = getattr(importlib.import_module(f"pykcov.report.{module}"), function)
    return found


def _to_standard_output(
    report: Report, traces: Traces, options: Options, *, terminal: bool
) -> None:
    with standard_output("report") as out:
        if terminal:
            report(traces, out, options)
            return
        out.flush()
        # A format has its encoding, whatever the terminal's is.
        with open(out.fileno(), "wb", closefd=False) as file:
            _to_file(report, traces, file, options)
