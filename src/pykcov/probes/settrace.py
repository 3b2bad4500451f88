"""3.11: a C trace function, in the threads that collect (_trace311.h).

The interpreter has one trace function for each thread. pykcov's goes in front of whatever is there and calls it;
if a program sets another while pykcov is there, that one has to be called too, and not replace it. So
``sys.settrace`` and ``sys.gettrace`` are wrapped from the first collection on.
"""

from __future__ import annotations

import sys

from .. import _recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

__all__ = [
    "NAME", "by_instruction", "describe", "enter_frame", "prepare", "start", "stop", "unwatch", "watch",
]  # fmt: skip

NAME = "trace function"

_prepared = False


def describe() -> list[tuple[str, str]]:
    """Return what is in use and why, in pairs of a label and a text."""
    version = ".".join(map(str, sys.version_info[:3]))
    function = sys.gettrace()
    return [
        ("probe", "events: a C trace function, in the threads that collect"),
        ("why", f"Python {version} has no sys.monitoring (3.12 does)"),
        ("trace function of others", "none" if function is None else repr(function)),
    ]


def prepare() -> None:
    """Put ours in front of ``sys.settrace`` and ``sys.gettrace``."""
    global _prepared
    if _prepared:
        return
    _prepared = True
    sys.settrace, sys.gettrace = _recorder.in_front(sys.settrace, sys.gettrace)


def start(*, branch: bool, restart: bool) -> None:
    """Trace threads from when a sink is attached in them."""
    _recorder.set_tracing(True)


def stop() -> None:
    """Trace no more threads; one that is traced stops when its last sink is gone."""
    _recorder.set_tracing(False)


def watch(code: types.CodeType, *, branch: bool, lines: bool) -> None:
    """Nothing to do: all code of a thread is traced."""


def unwatch(code: types.CodeType) -> None:
    """Nothing to do: nothing was set."""


def by_instruction(code: types.CodeType) -> bool:
    """Tell whether lines are recorded by instruction: never here."""
    return False


def enter_frame(frame: types.FrameType, *, branch: bool) -> None:
    """Trace a frame that runs already by instruction if its branches are wanted."""
    if branch:
        frame.f_trace_opcodes = True
