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
from _weakref import ref
from errno import ETIMEDOUT

from .. import _recorder, namespace
from ..errors import KcovError, is_own, log
from ..late import load
from . import scopes

if sys.version_info >= (3, 12):
    from . import monitoring as interpreter
else:
    from . import settrace as interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

__all__ = [
    "arm", "check_thread", "describe", "disarm", "is_armed", "is_generated", "name", "prepare", "want_branches",
    "wants_branches",
]  # fmt: skip

_UNITS = "pykcov.probes.units"
_PAUSE = 1.0  # seconds

_units: dict[int, tuple[ref[types.CodeType], _recorder.Unit]] = {}
_local: list[ref[types.CodeType]] = []  # code objects with local events in this arming
_armed = False
_events_on = False  # also while they are being set
_arming = 0  # number of the arming in force
_branch = False
_stuck_until = 0.0  # monotonic time: the code map's lock is not waited for again before
_fresh = False  # a scope has been added since the last arming


def want_branches() -> None:
    """Record branch arms, too, from the next arming on."""
    global _armed, _branch
    if not _branch:
        _branch, _armed = True, False


def wants_branches() -> bool:
    """Tell whether some collection of this process has wanted branch arms: they come from events alone."""
    return _branch


def prepare() -> None:
    """Get ready for a new scope. Raises KcovError EMFILE if sys.monitoring has no room for a tool."""
    global _armed, _fresh
    interpreter.prepare()
    _armed, _fresh = False, True


def arm() -> None:
    """See to it that events come. Must be called after a sink was attached, with the probes' lock held."""
    if not _armed:
        _arm()


def check_thread() -> None:
    """See to it that events come in this thread, too."""
    if sys.version_info < (3, 12):
        _recorder.settle()


def is_armed() -> bool:
    """Tell whether events come."""
    return _armed or bool(_local)


def disarm() -> None:
    """Take all events off. Must be called with the probes' lock held."""
    global _armed
    _armed = False
    _stop()


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
    _armed = True


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
    mask = scopes.mask(code.co_filename) if not is_generated(code) else 0
    if not _branch and _recorder.is_probed(code):
        mask = 0  # it records by itself; only its arms come from events
    if unit is None or (mask and not unit.mask) or (mask and _branch and not unit.branch):
        if mask and time.monotonic() < _stuck_until:
            raise KcovError(ETIMEDOUT, "code map: its lock was kept a moment ago")
        again = unit is not None and bool(unit.mask)
        try:
            unit = _make_unit(code) if mask else _recorder.Unit()
        except OSError as error:
            if not is_own(error):
                raise
            if error.errno == ETIMEDOUT:
                # Who has the code map's lock was stopped: what runs now is lost, and tried again later.
                _stuck_until = time.monotonic() + _PAUSE
                raise
            log.debug("%s: %s is not recorded: %s", code.co_filename, code.co_qualname, error)
            namespace.warn(f"code is not recorded: {error}")
            unit, mask = _recorder.Unit(), 0
        # Another thread that meets it now would take it for code that is out of every scope.
        unit.mask = mask
        _keep(code, unit)
        if again:
            # What was disabled for want of arms has to come again.
            interpreter.unwatch(code)
    unit.mask = mask
    if mask and _events_on:
        _local.append(ref(code))
        interpreter.watch(code, branch=_branch, lines=not _recorder.is_probed(code))
    # Last: another thread that sees it goes on at once, and has to have its lines.
    unit.armed = arming
    return unit


def is_generated(code: types.CodeType) -> bool:
    """Tell whether the standard library made the code: methods of dataclasses and named tuples."""
    return code.co_filename == "<string>" and (
        code.co_qualname.startswith("__create_fn__")
        or code.co_varnames[:1] == ("_cls",)
        or any(isinstance(made, type(code)) and is_generated(made) for made in code.co_consts)
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
    global _stuck_until
    _stuck_until = 0.0  # the child has the lock of nobody


_recorder.install(discover=_discover)
namespace.at_exit(_stop)
namespace.in_child(_after_fork)
