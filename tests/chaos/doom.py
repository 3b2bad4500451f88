"""Death inside pykcov: a process is killed after so many lines of its code, which no clock would ever hit."""

from __future__ import annotations

import os
import signal
import sys
from types import CodeType, FrameType
from typing import Any

import pykcov

_HERE = os.path.dirname(pykcov.__file__) + os.sep
_TOOL = 3
_left = 0


def arm(lines: int) -> None:
    """Kill this process after so many more lines of pykcov's. On 3.11 those of this thread count."""
    global _left
    if _left:
        return
    _left = lines
    if sys.version_info >= (3, 12):
        sys.monitoring.use_tool_id(_TOOL, "doom")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, _line)
        sys.monitoring.set_events(_TOOL, sys.monitoring.events.LINE)
    else:
        sys.settrace(_trace)


def _line(code: CodeType, _: int) -> Any:
    if not code.co_filename.startswith(_HERE):
        return sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore]
    return _step()


def _trace(frame: FrameType, event: str, _: object) -> Any:
    if not frame.f_code.co_filename.startswith(_HERE):
        return None
    if event == "line":
        _step()
    return _trace


def _step() -> None:
    global _left
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
        while True:
            signal.pause()
