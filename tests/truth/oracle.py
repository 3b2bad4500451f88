"""What CPython itself says about a program: `sys.settrace` on 3.11, and `sys.monitoring` as well from 3.12 on.

Independent of pykcov and of the interpreter: Python callbacks, one list of events for each task.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

from .values import Event

Record = Callable[[Event], None]


@cache
def start_offset(code: CodeType) -> int:
    """Offset of the instruction at which a call begins; a generator's later calls go on behind it."""
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), 0)


def settrace(files: dict[str, int], record: Record) -> Callable[[FrameType, str, Any], Any]:
    """Returns a trace function that gives the entries and all lines of the files."""

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        code = frame.f_code
        file = files.get(code.co_filename)
        if file is None:
            return None
        if what == "call" and frame.f_lasti == start_offset(code):
            record(("entry", file, code.co_firstlineno, code.co_qualname))
        elif what == "line":
            record(("line", file, frame.f_lineno, ""))
        return trace

    return trace


class Monitoring:
    """The same by sys.monitoring."""

    tool = 3

    def __init__(self, files: dict[str, int], record: Record) -> None:
        self.files = files
        self.record = record

    def start(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        monitoring.use_tool_id(self.tool, "truth")
        monitoring.register_callback(self.tool, monitoring.events.PY_START, self.on_start)
        monitoring.register_callback(self.tool, monitoring.events.LINE, self.on_line)
        monitoring.set_events(self.tool, monitoring.events.PY_START | monitoring.events.LINE)

    def stop(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        monitoring.set_events(self.tool, 0)
        monitoring.free_tool_id(self.tool)

    def on_start(self, code: CodeType, _: int) -> None:
        file = self.files.get(code.co_filename)
        if file is not None:
            self.record(("entry", file, code.co_firstlineno, code.co_qualname))

    def on_line(self, code: CodeType, line: int) -> None:
        file = self.files.get(code.co_filename)
        if file is not None:
            self.record(("line", file, line, ""))
