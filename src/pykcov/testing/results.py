"""What a run has found, for people and other tools: a data file of coverage.py, and JSON."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable

from .. import wholefile
from ..report import coveragepy
from .bits import decode, merge
from .options import Options
from .recording import Context
from .store import RunStore, is_below, python

__all__ = ["write_coverage", "write_json"]

_PHASES = ("setup", "call", "teardown")


def write_coverage(store: RunStore, options: Options, root: str) -> None:
    """Write the data file: a context for each phase of each test, fixture and import. KcovError if that fails."""
    with coveragepy.writing_bits(options.output, options.named) as add:
        for context, lines in store.contexts():
            if not (options.add_fixtures and context.phase == "setup"):
                add(_context_name(context, root), lines)
        for nodeid, test in store.tests() if options.add_fixtures else ():
            add(f"{nodeid}|setup", _setup(store, nodeid, test.fixtures))


def write_json(store: RunStore, options: Options, root: str) -> None:
    """Write the lines of each test as JSON. KcovError if that fails."""
    try:
        with wholefile.replacing(options.json) as file:
            out = io.TextIOWrapper(file, "utf-8", write_through=True)
            out.write('{"format": "pykcov tests", "version": 1, ')
            out.write(f'"python": {json.dumps(python())}, "root": {json.dumps(root)},\n"tests": {{')
            _write_items(out, _tests(store, options, root))
            for kind in ("fixture", "import"):
                out.write(f'}},\n"{kind}s": {{')
                _write_items(out, _others(store, kind, root))
            session = _plain(store.lines(Context("session")), root)
            out.write(f'}},\n"session": {json.dumps(session)}}}\n')
            out.detach()
    except OSError as error:
        raise wholefile.failed("pykcov", options.json, error) from error


def _tests(store: RunStore, options: Options, root: str) -> Iterable[tuple[str, object]]:
    for nodeid, test in store.tests():
        found: dict[str, object] = {"outcome": test.outcome}
        for phase in _PHASES:
            found[phase] = _plain(store.lines(Context("test", nodeid, phase)), root)
        if options.add_fixtures:
            found["setup"] = _plain(_setup(store, nodeid, test.fixtures), root)
        yield nodeid, {**found, "fixtures": list(test.fixtures)}


def _setup(store: RunStore, nodeid: str, fixtures: Iterable[str]) -> dict[str, bytes]:
    """Return what a test's setup has executed, with the fixtures that it shares with others."""
    lines = store.lines(Context("test", nodeid, "setup"))
    for name in fixtures:
        for file, more in store.lines(Context("fixture", name)).items():
            lines[file] = merge(lines.get(file, b""), more)
    return lines


def _others(store: RunStore, kind: str, root: str) -> Iterable[tuple[str, object]]:
    for context, lines in store.contexts():
        if context.kind == kind:
            yield _relative(context.name, root), _plain(lines, root)


def _write_items(out: io.TextIOWrapper, items: Iterable[tuple[str, object]]) -> None:
    separator = "\n"
    for name, value in items:
        out.write(f"{separator}{json.dumps(name)}: {json.dumps(value)}")
        separator = ",\n"


def _plain(lines: dict[str, bytes], root: str) -> dict[str, list[int]]:
    return {_relative(file, root): sorted(decode(lines[file])) for file in sorted(lines)}


def _context_name(context: Context, root: str) -> str:
    """Return the name of a context as pytest-cov has it, for tests."""
    if context.kind == "test":
        return f"{context.name}|{'run' if context.phase == 'call' else context.phase}"
    if context.kind == "session":
        return "session"
    return f"{_relative(context.name, root)}|{context.kind}"


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root) if is_below(path, root) else path
