"""Who called whom, for each task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ..calls import Call, TaskCalls, calls_of
from ..errors import listed
from .options import DEFAULT, Options, Traces
from .text import printable, shown, styled

__all__ = ["write"]


def write(traces: Traces, out: TextIO, options: Options = DEFAULT) -> None:
    """Write for each task of each collection its functions, indented below what called them.

    With each: how often it was entered there, and how many events of an entry or a line it has of
    its own. What called it may be missing, if that is not in scope.
    """
    put = styled(out)
    first = True
    for name, trace in traces.items():
        for task in calls_of(trace):
            put("bold", ("" if first else "\n") + _heading(task, name if len(traces) > 1 else ""))
            put("", f"{'calls':>9}  {'events':>9}")
            first = False
            for call, depth in _below(task.top):
                where = f"{shown(call.file, options.root)}:{call.line}" if call.line else "…"
                put(
                    "",
                    f"{call.calls or '-':>9}  {call.events:>9}  {'  ' * depth}"
                    f"{printable(call.function)}  {where}",
                )


def _heading(task: TaskCalls, name: str) -> str:
    said = [printable(name)] if name else []
    if not task.sections:
        return ": ".join([*said, "in no section"])
    section = task.sections[0]
    handles = list(dict.fromkeys(f"{part.handle:#x}" for part in task.sections))
    said.append(
        f"task {section.task} in thread {printable(section.thread)} of process {section.pid}, "
        f"for {listed(handles, 3)}"
    )
    return ": ".join(said)


def _below(top: Call) -> Iterator[tuple[Call, int]]:
    """Yield all calls with their depth; by a stack of our own, for what is nested deeply."""
    rest = [(call, 0) for call in reversed(top.children.values())]
    while rest:
        call, depth = rest.pop()
        yield call, depth
        rest += [(child, depth + 1) for child in reversed(call.children.values())]
