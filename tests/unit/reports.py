"""Reports of small traces, as text."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Mapping
from contextlib import suppress

from pykcov import Trace
from pykcov.report.options import Options, Report


def text_of(
    write: Report,
    traces: Trace | Mapping[str, Trace],
    options: Options | None = None,
    encoding: str = "utf-8",
) -> str:
    """What a report writes into a pipe."""
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding=encoding, newline="\n")
    write(named(traces), out, options or Options(root="/"))
    out.flush()
    return buffer.getvalue().decode(encoding)


def screen_of(
    write: Report, traces: Trace | Mapping[str, Trace], options: Options | None = None
) -> str:
    """What a report writes to a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as out:
        assert out.isatty()
        write(named(traces), out, options or Options(root="/"))
    screen = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while data := terminal.read(4096):  # EIO is the end, after all that was written
            screen += data
    return screen.decode().replace("\r\n", "\n")


def named(traces: Trace | Mapping[str, Trace]) -> Mapping[str, Trace]:
    return {"one": traces} if isinstance(traces, Trace) else traces
