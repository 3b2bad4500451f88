"""The texts of the files in a trace, if they are still what ran; and how often each line did."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from ..errors import KcovError, listed
from ..probes.source import digest, read_text
from ..trace import Trace
from .options import Options, Traces
from .text import shown

__all__ = ["changed", "files_of", "hits", "refuse", "text_lines", "usable"]

_NAMED = 5  # files that an error names


def usable(traces: Traces, options: Options) -> list[str]:
    """Return the files of which anything was executed and whose text is what ran, in order.

    What is in no file, a ``<string>`` say, is left out. KcovError: ENOENT for a file that is gone,
    ESTALE for one that has changed; with ``options.ignore_errors`` these are left out, too.
    """
    files = sorted(set().union(*map(files_of, traces.values())))
    gone = [file for file in files if not os.path.isfile(file)]
    stale = changed(traces, files)
    refuse(gone, errno.ENOENT, "the source is gone", options)
    refuse(stale, errno.ESTALE, "changed since it ran", options)
    unusable = {*gone, *stale}
    return [file for file in files if file not in unusable]


def files_of(trace: Trace) -> set[str]:
    """Return the files of which Python code was executed, be it no statement; no ``<string>``."""
    kinds = ("line", "entry", "arm")
    return {p.file for p in trace.places.values() if p.kind in kinds and os.path.isabs(p.file)}


def changed(traces: Traces, files: Iterable[str]) -> list[str]:
    """Return those of these files that are there and are not what every trace has executed."""
    result = []
    for file in files:
        ran = {version for trace in traces.values() for version in trace.sources.get(file, ())}
        text = read_text(file) if ran else None
        if text is not None and ran != {digest(text)}:
            result.append(file)
    return result


def text_lines(file: str) -> list[str]:
    """Return the lines of a source as Python counts them: a form feed, say, begins none."""
    lines = (read_text(file) or "").split("\n")
    return lines if lines[-1] else lines[:-1]


def refuse(files: list[str], number: int, cause: str, options: Options) -> None:
    """Raise a KcovError that names these files, if there are some and they are not to be left out."""
    if files and not options.ignore_errors:
        names = listed([shown(file, options.root) for file in files], _NAMED)
        raise KcovError(number, f"report: {cause}: {names} (--ignore-errors leaves such files out)")


def hits(trace: Trace) -> dict[str, dict[int, int]]:
    """Return for each file how often a statement started on each line."""
    result: dict[str, dict[int, int]] = {}
    counts = trace.counts
    for pc, place in trace.places.items():
        if place.kind == "line":
            own = result.setdefault(place.file, {})
            own[place.line] = own.get(place.line, 0) + counts[pc]
    return result
