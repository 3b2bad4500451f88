"""Probes: an event becomes a PC. Which kind is at work is chosen here, and says why.

There is one kind so far, the interpreter's own events (events.py).
"""

from __future__ import annotations

from ..abi import TRACE_PC
from ..scope import Scope
from . import compare, events
from .events import bit, describe, settle

__all__ = ["arm", "bit", "compare", "describe", "name", "settle"]


def arm(mode: int, scope: Scope) -> None:
    """See to it that events of a mode come. Must be called after a sink was attached, in its thread."""
    if mode == TRACE_PC:
        events.arm()
    else:
        compare.arm(scope)


def name(mode: int = TRACE_PC) -> str:
    """Return the name of the probe that is in use."""
    return events.name() if mode == TRACE_PC else compare.NAME
