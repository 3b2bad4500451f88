"""The sources of what was executed, each line with how often that was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TextIO

from ..trace import Trace
from .coveragepy import statements
from .options import DEFAULT, Options, Traces
from .sources import hits, text_lines, usable
from .text import printable, shown, styled

__all__ = ["write"]

STYLES = {">": "green", "!": "red", " ": ""}


class Line(NamedTuple):
    """A line of a source: '>' executed, '!' a statement that was not, ' ' anything else."""

    mark: str
    text: str


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write the text of each file with executed lines, in colour on a terminal.

    Where coverage.py is installed, what it calls a statement and was not executed is marked, too.
    """
    files = usable(traces, options)
    counts = hits(Trace.join(traces.values()))
    put = styled(out)
    known = statements(files)
    for number, file in enumerate(files):
        if number:
            put("", "")
        put("bold", shown(file, options.root))
        for line in _lines(text_lines(file), counts.get(file, {}), known.get(file, ())):
            put(STYLES[line.mark], line.text)


def _lines(texts: Sequence[str], counts: Mapping[int, int], known: Iterable[int]) -> Iterable[Line]:
    missing = set(known).difference(counts)
    width = max(len(str(len(texts))), 4)
    often = max((len(str(count)) for count in counts.values()), default=1)
    for number, text in enumerate(texts, 1):
        mark = ">" if number in counts else "!" if number in missing else " "
        count = str(counts.get(number, ""))
        code = printable(text.expandtabs())
        yield Line(mark, f"{number:{width}}  {count:>{often}} {mark} {code}".rstrip())
