"""3.12 and later: ``sys.monitoring`` with C callbacks (_monitor312.h)."""

from __future__ import annotations

import sys
from errno import EMFILE

from .. import _recorder
from ..errors import KcovError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

__all__ = [
    "NAME", "by_instruction", "describe", "enter_frame", "prepare", "start", "stop", "unwatch", "watch",
]  # fmt: skip

NAME = "sys.monitoring"

# 5 and 2 first: coverage.py sits on 1, Hypothesis on 3, HypoFuzz, ddtrace and CrossHair on 4, debuggers on 0.
_TOOL_IDS = (5, 2, 4, 3, 0, 1)

_tool = -1

if sys.version_info >= (3, 12):
    _E = sys.monitoring.events

    def describe() -> list[tuple[str, str]]:
        """Return what is in use and why, in pairs of a label and a text."""
        used = {number: sys.monitoring.get_tool(number) for number in range(6)}
        others = ", ".join(f"{i} {n}" for i, n in used.items() if n and i != _tool) or "none"
        version = ".".join(map(str, sys.version_info[:3]))
        return [
            ("probe", "events: sys.monitoring, C callbacks"),
            (
                "why",
                f"Python {version} has sys.monitoring",
            ),
            ("monitoring tools of others", others),
        ]

    def prepare() -> None:
        """Take a tool id and register the callbacks. Raises KcovError EMFILE if none is free."""
        global _tool
        if _tool >= 0:
            return
        for number in _TOOL_IDS:
            if sys.monitoring.get_tool(number) is None:
                sys.monitoring.use_tool_id(number, "pykcov")
                break
        else:
            raise KcovError(EMFILE, "all tool ids of sys.monitoring are in use by others")
        for event, callback in (
            (_E.PY_START, _recorder.on_start),
            (_E.PY_RESUME, _recorder.on_resume),
            (_E.PY_THROW, _recorder.on_throw),
            (_E.LINE, _recorder.on_line),
            (_E.INSTRUCTION, _recorder.on_instruction),
            (_E.BRANCH, _recorder.on_jump),
            (_E.JUMP, _recorder.on_jump),
            (_E.EXCEPTION_HANDLED, _recorder.on_handler),
        ):
            sys.monitoring.register_callback(number, event, callback)
        _recorder.install(disable=sys.monitoring.DISABLE)
        _tool = number

    def start(*, branch: bool, restart: bool) -> None:
        """Let all code tell when it begins or goes on to run; with ``restart`` also where that was disabled."""
        # Exceptions are told of everywhere or nowhere, so only where somebody wants arms.
        handled = _E.EXCEPTION_HANDLED if branch else 0
        sys.monitoring.set_events(_tool, _E.PY_START | _E.PY_RESUME | _E.PY_THROW | handled)
        if restart:
            sys.monitoring.restart_events()

    def stop() -> None:
        """Let no code tell anything any more, but what is watched."""
        if _tool >= 0:
            sys.monitoring.set_events(_tool, 0)

    def watch(code: types.CodeType, *, branch: bool, lines: bool) -> None:
        """Set the events that record on one code object: of its entry and lines, of its branches."""
        if not lines:
            events = _E.BRANCH if branch else 0
        elif by_instruction(code):
            events = _E.PY_START | _E.INSTRUCTION | _E.JUMP | _E.BRANCH
        else:
            events = _E.PY_START | _E.LINE | (_E.BRANCH if branch else 0)
        sys.monitoring.set_local_events(_tool, code, events)

    def unwatch(code: types.CodeType) -> None:
        """Take the events off a code object, and forget which were disabled."""
        sys.monitoring.set_local_events(_tool, code, 0)


# 3.12.1 and 3.13.0 keep an instruction's line as a distance from the first line, less 1/16 of its offset
# in code units, in 8 bits. Where that does not fit each LINE event searches the line table from its
# beginning: measured, 0.2 µs become 2 to 150 µs, from the very line on at which the number stops to fit.
_LINE_SHIFT = 4
_LINE_LIMIT = 120  # of 127
_SMALL_LINE_FIELD = (3, 12) <= sys.version_info < (3, 14)


def by_instruction(code: types.CodeType) -> bool:
    """Tell whether LINE events in this code object would cost as much as it is long: it is done another way."""
    if not _SMALL_LINE_FIELD:
        return False
    first = code.co_firstlineno
    for start, end, line in code.co_lines():
        if line is None:
            continue
        distance = line - first
        if (
            distance - (start // 2 >> _LINE_SHIFT) > _LINE_LIMIT
            or distance - ((end // 2 - 1) >> _LINE_SHIFT) < -_LINE_LIMIT
        ):
            return True
    return False


def enter_frame(frame: types.FrameType, *, branch: bool) -> None:
    """A frame that runs already needs nothing more than its code object does."""
