"""Probes: an event becomes a PC. Which kind is at work is chosen here, and says why.

Compiled probes (compiled.py) are constants of the code that instrument() has seen being imported; event probes
(events.py) are the interpreter's own events, for all other code. While every file that is in some
collection's scope has compiled probes, no events are asked for.
"""

from __future__ import annotations

from _thread import RLock

from .. import _recorder, namespace, registry
from ..abi import TRACE_CMP, TRACE_PC
from ..late import join, load
from ..registry import Header
from . import events, scopes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..scope import Scope

__all__ = ["arm", "bit", "check", "describe", "name", "prepare", "settle", "use_compiled"]

_UNITS = "pykcov.probes.units"
_COMPARE = "pykcov.probes.compare"
_COMPILED = "pykcov.probes.compiled"

_lock = RLock()
_traced: set[Scope] = set()
"""For which events were prepared; comparisons need none."""
_compiled: Any = None
"""compiled.py, once something is compiled with probes."""


def prepare() -> None:
    """Import what makes units now, and not with the first code that is in some scope."""
    load(_UNITS)


def use_compiled() -> None:
    """Consider compiled probes from now on."""
    global _compiled
    join()  # who waits for a reason to has the same hook
    with _lock:
        _compiled = load(_COMPILED)
        _recorder.install(uncompiled=_uncompiled)
        if _recorder.is_awake():
            _compiled.wake()


def bit(scope: Scope, *, branch: bool, mode: int = TRACE_PC) -> int:
    """Return the bit that stands for a scope in units and sinks.

    Raises KcovError ENOSPC if 64 other scopes are in use, EMFILE if sys.monitoring has no room for a tool.
    """
    if branch and mode == TRACE_PC and not events.wants_branches():
        with _lock:
            events.want_branches()
            _recorder.set_awake(False)
    found = scopes.known(scope)
    if not found or (mode == TRACE_PC and scope not in _traced):
        with _lock:
            # Threads that come first at the same time would each take a tool, and each entry were recorded twice; and
            # who prepares again takes events from those that record already.
            if mode == TRACE_PC and not (scopes.known(scope) and scope in _traced):
                events.prepare()
                _traced.add(scope)
                _recorder.set_awake(False)
            found = scopes.bit(scope)
        if mode == TRACE_PC and scope.has_library():
            prepare()  # not in the middle of what it imports itself
    return found


def check(mode: int, scope: Scope) -> None:
    """Compile what is imported from now on for who begins to collect here; warn if nothing that is there is."""
    if mode == TRACE_CMP:
        _compare(scope)
        load(_COMPARE).check(scope)


def arm(mode: int, scope: Scope, *, follow: bool = False) -> None:
    """See to it that events of a mode come. Must be called after a sink was attached, in its thread.

    ``follow``: all that this process does from now on is to be collected, also what it imports.
    """
    if mode == TRACE_CMP:
        if follow:
            # No warning: each worker of a program would put it among what the program says.
            _compare(scope)
        else:
            load(_COMPARE).arm(scope)
        if _compiled is not None:
            with _lock:
                _compiled.resolve()
        return
    if not _recorder.is_awake():
        with _lock:
            if not _recorder.is_awake():
                if _compiled is not None:
                    _compiled.wake()
                if _has_gaps() or events.wants_branches():
                    events.arm()
                # Only now may another thread go on without arming.
                _recorder.set_awake(True)
    # The sink may have been attached before another thread has armed.
    events.check_thread()


def settle() -> None:
    """Let probes sleep if nothing collects in this process and nobody in the namespace listens."""
    shared = registry.current()
    if (
        (_recorder.is_awake() or events.is_armed())
        and not _recorder.sinks()
        and not (shared and shared.header[Header.COUNT])
    ):
        with _lock:
            # In this order: who attaches a sink looks at is_awake() afterwards, and waits for the lock to arm again.
            _recorder.set_awake(False)
            if _recorder.sinks():
                return
            if _compiled is not None:
                _compiled.sleep()
            events.disarm()


def name(mode: int = TRACE_PC) -> str:
    """Return the names of the probes that are in use."""
    if mode == TRACE_CMP:
        return "comparisons"
    if _compiled is None:
        return events.name()
    return f"compiled, {events.name()}" if _has_gaps() else "compiled"


def describe() -> list[tuple[str, str]]:
    """Return what is in use and why, in pairs of a label and a text."""
    if _compiled is None:
        return [
            *events.describe(),
            ("compiled probes", "none: pykcov.instrument() was not called"),
        ]
    found: list[tuple[str, str]] = _compiled.describe()
    return found + (events.describe() if _has_gaps() else [])


def _compare(scope: Scope) -> None:
    module = load(_COMPILED)
    module.install(scope, comparisons=module.Extent())


def _has_gaps() -> bool:
    return _compiled is None or bool(_compiled.has_gaps())


def _uncompiled(what: object) -> None:
    """Code that has no probes is about to run. Called by C."""
    if _compiled.note(what) and _recorder.is_awake():
        with _lock:
            events.arm()


def _after_fork() -> None:
    global _lock
    _lock = RLock()


_recorder.install(idle=settle)
namespace.in_child(_after_fork)
