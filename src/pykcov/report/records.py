"""JSON: all that the collections say, by a schema with a version (docs/report-json.md)."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, TextIO

from .. import __version__
from ..trace import Trace
from .options import DEFAULT, Options, Traces
from .sources import hits

__all__ = ["VERSION", "write"]

VERSION = 1


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write one JSON object; with ``options.branch`` it has the arcs, too."""
    document = {
        "format": "pykcov report",
        "version": VERSION,
        "pykcov": __version__,
        "collections": [
            {"name": name, **collection(trace, options)} for name, trace in traces.items()
        ],
    }
    json.dump(document, out)
    out.write("\n")


def collection(trace: Trace, options: Options) -> dict[str, Any]:
    """Return what one collection says."""
    lines = hits(trace)
    arcs = trace.arcs() if options.branch else {}
    functions, arms = _functions(trace), _arms(trace)
    files = {
        file: {
            "events": count.events,
            "versions": list(trace.sources.get(file, ())),
            "lines": {str(line): times for line, times in sorted(lines.get(file, {}).items())},
            "functions": functions[file],
            "arms": arms[file],
            **({"arcs": sorted(arcs.get(file, ()))} if options.branch else {}),
        }
        for file, count in trace.files().items()
        if file
    }
    return {
        "events": len(trace),
        "dropped": trace.dropped,
        "probe": trace.probe,
        "files": files,
        # A handle may be above 2^53, and then many a reader would round it.
        "sections": [{**s._asdict(), "handle": hex(s.handle)} for s in trace.sections],
    }


def _functions(trace: Trace) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pc, place in sorted(trace.places.items(), key=lambda item: item[1].line):
        if place.kind == "entry":
            found[place.file].append(
                {"name": place.function, "line": place.line, "entered": trace.counts[pc]}
            )
    return found


def _arms(trace: Trace) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pc, place in sorted(trace.places.items(), key=lambda item: item[1].line):
        if place.kind == "arm":
            found[place.file].append(
                {
                    "function": place.function,
                    "line": place.line,
                    "column": place.column,
                    "end_line": place.end_line,
                    "end_column": place.end_column,
                    "arm": place.arm,
                    "taken": trace.counts[pc],
                }
            )
    return found
