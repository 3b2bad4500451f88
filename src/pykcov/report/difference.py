"""What is in a trace, line for line: what one collection executed and another one did not."""

from __future__ import annotations

from typing import TextIO

from ..trace import Trace
from .options import DEFAULT, Options, Traces
from .sources import changed, text_lines
from .text import printable, shown, styled

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write the lines and the functions entered of each file, with the texts that are what ran."""
    trace = Trace.join(traces.values())
    put = styled(out)
    lines, functions = trace.lines(), trace.functions() | trace.kernel()
    unusable = set(changed({"": trace}, lines))
    for file, count in trace.files().items():
        own = sorted(lines.get(file, ()))
        texts = [] if file in unusable else text_lines(file)
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


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
