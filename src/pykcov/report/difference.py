"""What is in a trace, line for line: what one collection executed and another one did not."""

from __future__ import annotations

from typing import TextIO

from ..probes.source import digest, read_text
from ..trace import Trace
from .options import DEFAULT, Options, Traces
from .text import printable, shown, styled

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write the lines and the functions entered of each file, with the texts that are what ran."""
    trace = Trace.join(traces.values())
    put = styled(out)
    lines, functions = trace.lines(), trace.functions()
    for file, count in trace.files().items():
        own = sorted(lines.get(file, ()))
        texts = _texts(trace, file)
        note = "" if texts or not file else "  (no text: the source is gone, or not what ran)"
        put("bold", shown(file, options.root) + note)
        width = len(str(own[-1])) if own else 0
        for line in own:
            text = printable(texts[line - 1].expandtabs()) if line <= len(texts) else ""
            put("green", f"  {line:{width}}  {text}".rstrip())
        if names := sorted(functions.get(file, ())):
            put("", f"  entered: {printable(', '.join(names))}")
        if not own and not names:
            put("", f"  {count.events} events of other kinds")
        put("", "")
    total = sum(map(len, lines.values()))
    entered = sum(map(len, functions.values()))
    put("bold", f"{_many(total, 'line')}, {_many(entered, 'function')}")


def _texts(trace: Trace, file: str) -> list[str]:
    text = read_text(file) if len(trace.sources.get(file, ())) == 1 else None
    if text is None or digest(text) != trace.sources[file][0]:
        return []
    return text.splitlines()


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
