"""Event probes: the interpreter's own events for entries, lines and branches become PCs.

On 3.12 and later ``sys.monitoring`` with C callbacks: while something collects in this process, PY_START and
PY_RESUME are on everywhere to discover the code that runs, and the events that record are set locally, on the
code objects that are in some collection's scope. On 3.11 a C trace function, in the threads that collect.
Nothing is armed while nobody collects.

A code object gets its Unit (what its places are called) when it is first seen, and keeps it. What makes units
(units.py) is imported with the first that is in some scope.
"""

from __future__ import annotations

import sys
import time
from _thread import RLock
from _weakref import ref
from errno import ENOSPC, ETIMEDOUT

from .. import _recorder, namespace, registry
from ..errors import KcovError, log, warn
from ..late import load
from ..registry import Header

if sys.version_info >= (3, 12):
    from . import monitoring as interpreter
else:
    from . import settrace as interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

    from ..scope import Scope

__all__ = ["arm", "bit", "describe", "name", "prepare", "settle"]

_MAX_SCOPES = 64
_UNITS = "pykcov.probes.units"
_PAUSE = 1.0  # seconds

_lock = RLock()
_bits: dict[Scope, int] = {}
_units: dict[int, tuple[ref[types.CodeType], _recorder.Unit]] = {}
_local: list[ref[types.CodeType]] = []  # code objects with local events in this arming
_armed = False
_events_on = False  # also while they are being set
_arming = 0  # number of the arming in force
_branch = False
_stuck_until = 0.0  # monotonic time: the code map's lock is not waited for again before
_fresh = False  # a scope has been added since the last arming


def bit(scope: Scope, *, branch: bool) -> int:
    """Return the bit that stands for a scope in units and sinks.

    Raises KcovError ENOSPC if 64 other scopes are in use, EMFILE if sys.monitoring has no room for a tool.
    """
    global _armed, _branch, _fresh
    if branch and not _branch:
        with _lock:
            _branch, _armed = True, False
    found = _bits.get(scope)
    if found is None:
        with _lock:
            # Threads that come first at the same time would each take a tool, and each entry were recorded twice.
            interpreter.prepare()
            if len(_bits) == _MAX_SCOPES:
                if _recorder.sinks():
                    raise KcovError(
                        ENOSPC, f"{_MAX_SCOPES} different scopes are in use in this process"
                    )
                _bits.clear()
            found = _bits.setdefault(scope, 1 << len(_bits))
            _armed, _fresh = False, True
        if scope.has_library():
            prepare()  # not in the middle of what it imports itself
    return found


def prepare() -> None:
    """Import what makes units now, and not with the first code that is in some scope."""
    load(_UNITS)


def arm() -> None:
    """See to it that events come. Must be called after a sink was attached, in its thread."""
    if not _armed:
        with _lock:
            _arm()


def settle() -> None:
    """Disarm if nothing collects in this process and nobody in the namespace listens."""
    shared = registry.current()
    if (
        (_armed or _local)
        and not _recorder.sinks()
        and not (shared and shared.header[Header.COUNT])
    ):
        with _lock:
            _disarm()


def name() -> str:
    """Return the name of the probe that is in use."""
    return interpreter.NAME


def describe() -> list[tuple[str, str]]:
    """Return what is in use and why, in pairs of a label and a text."""
    return interpreter.describe()


# -- arming


def _arm() -> None:
    global _armed, _arming, _events_on, _fresh
    if _armed:
        return
    _arming = _recorder.rearm()
    _events_on = True
    # Code that was out of every scope had its events disabled, and may be in a new one.
    interpreter.start(branch=_branch, restart=_fresh)
    _fresh = False
    for top in list(sys._current_frames().values()):
        walk: types.FrameType | None = top
        while walk is not None:
            interpreter.enter_frame(walk, branch=bool(_discover(walk.f_code).branch))
            walk = walk.f_back
    del top  # one of them is ours: a cycle that would keep our callers' objects alive
    # Only now may another thread go on without arming.
    _armed = True


def _disarm() -> None:
    """Take all events off, unless something has begun to collect."""
    global _armed
    # In this order: who attaches a sink looks at _armed afterwards, and waits for the lock to arm again.
    _armed = False
    if _recorder.sinks():
        _armed = _events_on
        return
    _stop()


def _stop() -> None:
    global _events_on
    _events_on = False
    interpreter.stop()
    while _local:
        code = _local.pop()()
        if code is not None:
            interpreter.unwatch(code)


# -- units


def _discover(code: types.CodeType) -> _recorder.Unit:
    """Give a code object its unit, and its events if some scope has it. Called by C when it runs."""
    global _stuck_until
    unit, arming = _recorder.get_unit(code), _arming
    if unit is not None and unit.armed == arming:
        return unit
    mask = 0
    if not _is_generated(code):
        for scope, scope_bit in list(_bits.items()):
            if scope.contains(code.co_filename):
                mask |= scope_bit
    if unit is None or (mask and not unit.entry) or (mask and _branch and not unit.branch):
        if mask and time.monotonic() < _stuck_until:
            raise KcovError(ETIMEDOUT, "code map: its lock was kept a moment ago")
        again = unit is not None and bool(unit.mask)
        try:
            unit = _make_unit(code) if mask else _recorder.Unit()
        except (KcovError, OSError) as error:
            if error.errno == ETIMEDOUT:
                # Who has the code map's lock was stopped: what runs now is lost, and tried again later.
                _stuck_until = time.monotonic() + _PAUSE
                raise
            log.debug("%s: %s is not recorded: %s", code.co_filename, code.co_qualname, error)
            warn(f"code is not recorded: {error}")
            unit, mask = _recorder.Unit(), 0
        _keep(code, unit)
        if again:
            # What was disabled for want of arms has to come again.
            interpreter.unwatch(code)
    unit.mask = mask
    if mask and _events_on:
        _local.append(ref(code))
        interpreter.watch(code, branch=_branch)
    # Last: another thread that sees it goes on at once, and has to have its lines.
    unit.armed = arming
    return unit


def _is_generated(code: types.CodeType) -> bool:
    """Tell whether the standard library made the code: methods of dataclasses and named tuples."""
    return code.co_filename == "<string>" and (
        code.co_qualname.startswith("__create_fn__")
        or code.co_varnames[:1] == ("_cls",)
        or any(isinstance(made, type(code)) and _is_generated(made) for made in code.co_consts)
    )


def _make_unit(code: types.CodeType) -> _recorder.Unit:
    """Return what the places of a code object are called, from what is imported late."""
    made: _recorder.Unit = load(_UNITS).make(
        code, with_arms=_branch, by_instruction=interpreter.by_instruction(code)
    )
    return made


def _keep(code: types.CodeType, unit: _recorder.Unit) -> None:
    number = id(code)
    _recorder.set_unit(code, unit)
    _units[number] = (ref(code, lambda _: _units.pop(number, None)), unit)


def _after_fork() -> None:
    global _lock
    _lock = RLock()


_recorder.install(discover=_discover, idle=settle)
namespace.in_child(_after_fork)
namespace.at_exit(_stop)
