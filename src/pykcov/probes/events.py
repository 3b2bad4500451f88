"""Event probes: the interpreter's own events for entries, lines and branches become PCs.

On 3.12 and later ``sys.monitoring`` with C callbacks: while something collects in this process, PY_START and
PY_RESUME are on everywhere to discover the code that runs, and the events that record are set locally, on the
code objects that are in some collection's scope. On 3.11 a C trace function, in the threads that collect.
Nothing is armed while nobody collects.

A code object gets its Unit (what its places are called) when it is first seen, and keeps it.
"""

from __future__ import annotations

import array
import dis
import logging
import os
import struct
import sys
import threading
import time
import types
import weakref
from errno import ENOSPC, ETIMEDOUT

from .. import _recorder, codemap, namespace, registry
from ..abi import TRACE_PC
from ..errors import KcovError, warn
from ..registry import Header
from ..scope import Scope
from . import places

if sys.version_info >= (3, 12):
    from . import monitoring as interpreter
else:
    from . import settrace as interpreter

__all__ = ["arm", "bit", "describe", "name", "settle"]

log = logging.getLogger("pykcov")

_MAX_SCOPES = 64
_PAUSE = 1.0  # seconds
_JUMP = struct.Struct("=IIQQQQ")

_lock = threading.RLock()
_bits: dict[Scope, int] = {}
_units: dict[int, tuple[weakref.ref[types.CodeType], _recorder.Unit]] = {}
_local: list[weakref.ref[types.CodeType]] = []  # code objects with local events in this arming
_sources: dict[str, tuple[object, places.Source | None]] = {}
_armed = False
_events_on = False  # also while they are being set
_arming = 0  # number of the arming in force
_branch = False
_stuck_until = 0.0  # monotonic time: the code map's lock is not waited for again before
_fresh = False  # a scope has been added since the last arming
_prepared = False


def bit(scope: Scope, *, branch: bool, mode: int = TRACE_PC) -> int:
    """Return the bit that stands for a scope in units and sinks.

    Raises KcovError ENOSPC if 64 other scopes are in use, EMFILE if sys.monitoring has no room for a tool.
    """
    global _armed, _branch, _fresh, _prepared
    if branch and not _branch:
        with _lock:
            _branch, _armed = True, False
    if mode == TRACE_PC and not _prepared:
        with _lock:
            # Threads that come first at the same time would each take a tool, and each entry were recorded twice.
            interpreter.prepare()
            _prepared = True
    found = _bits.get(scope)
    if found is None:
        with _lock:
            if len(_bits) == _MAX_SCOPES:
                if _recorder.sinks() or _recorder.comparing():
                    raise KcovError(
                        ENOSPC, f"{_MAX_SCOPES} different scopes are in use in this process"
                    )
                _bits.clear()
            found = _bits.setdefault(scope, 1 << len(_bits))
            _fresh = True
    if mode == TRACE_PC and _fresh:
        _armed = False
    return found


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
        _local.append(weakref.ref(code))
        interpreter.watch(code, branch=_branch)
    # Last: another thread that sees it goes on at once, and has to have its lines.
    unit.armed = arming
    return unit


def _is_generated(code: types.CodeType) -> bool:
    """Tell whether the standard library made the code: methods of dataclasses and named tuples."""
    return code.co_filename == "<string>" and (
        code.co_qualname.startswith("__create_fn__")
        or code.co_varnames[:1] == ("_cls",)
        or any(isinstance(made, types.CodeType) and _is_generated(made) for made in code.co_consts)
    )


def _keep(code: types.CodeType, unit: _recorder.Unit) -> None:
    number = id(code)
    _recorder.set_unit(code, unit)
    _units[number] = (weakref.ref(code, lambda _: _units.pop(number, None)), unit)


def _source(filename: str) -> places.Source | None:
    """Return what is known of a source file, read again if it has changed."""
    try:
        status = os.stat(filename)
        stamp = (status.st_mtime_ns, status.st_size, _branch)
    except (OSError, ValueError):
        stamp = (0, 0, _branch)
    known = _sources.get(filename)
    if known is None or known[0] != stamp:
        known = _sources[filename] = (stamp, places.read_source(filename, branch=_branch))
    return known[1]


def _make_unit(code: types.CodeType) -> _recorder.Unit:
    source = _source(code.co_filename)
    table = places.line_table(code, source)
    file = _source_file(code, source, table)
    function, line, column = places.entry(code)
    arms = places.arms(code, source) if _branch else None
    steps = places.steps(code, table) if interpreter.by_instruction(code) else None

    keys: list[codemap.Key] = [("entry", function, line, column, None, None, "")]
    if arms is not None:
        keys += [_arm_key(function, arm) for arm in _all_arms(arms)]
    pcs = dict(zip(keys, codemap.get().places(file, keys), strict=True))

    def arm_pc(arm: places.Arm | None) -> int:
        return pcs[_arm_key(function, arm)] if arm is not None else 0

    def line_pc(number: int) -> int:
        return file.base + number if number else 0

    units = len(code.co_code) // 2
    starts = array.array("Q", bytes(8 * units))
    jump_at = array.array("Q", bytes(8 * units))
    handlers = array.array("Q", bytes(8 * units))
    jumps = bytearray()
    implied = array.array("Q")
    if steps is None:
        starts[_first_instruction(code) // 2] = 1
    if steps is not None:
        for offset, number in steps.starts.items():
            starts[offset // 2] = line_pc(number)
    for offset in sorted({*(steps.jumps if steps else ()), *(arms.branches if arms else ())}):
        fall, taken, not_taken = steps.jumps.get(offset, (0, 0, 0)) if steps else (0, 0, 0)
        branch = arms.branches.get(offset) if arms else None
        also = 0
        if branch is not None:
            fall = branch.fall
            if branch.implied:
                also = len(implied) + 1
                implied.extend((len(branch.implied), *map(arm_pc, branch.implied)))
        jumps += _JUMP.pack(
            fall,
            also,
            line_pc(taken),
            line_pc(not_taken),
            arm_pc(branch.taken) if branch else 0,
            arm_pc(branch.not_taken) if branch else 0,
        )
        jump_at[offset // 2] = len(jumps) // _JUMP.size
    if arms is not None:
        for offset, arm in arms.handlers.items():
            handlers[offset // 2] = arm_pc(arm)
    first = min(table, default=0)
    lines = array.array("Q", bytes(8 * (max(table, default=-1) - first + 1)))
    for number, statement in table.items():
        lines[number - first] = line_pc(statement)
    return _recorder.Unit(
        entry=pcs[keys[0]],
        first=first,
        lines=lines,
        starts=starts,
        jump_at=jump_at,
        jumps=bytes(jumps),
        implied=implied,
        handlers=handlers,
        branch=arms is not None,
    )


def _source_file(
    code: types.CodeType, source: places.Source | None, table: dict[int, int]
) -> codemap.SourceFile:
    filename = code.co_filename
    if source is None:
        # No text: the code object itself is the source.
        lines = [line for _, _, line in code.co_lines() if line] or [code.co_firstlineno]
        digest = codemap.NO_TEXT + places.content_digest(code)
        return codemap.get().file(filename, digest, max(*lines, *table), [(0, code.co_qualname)])
    if os.path.exists(filename):
        filename = os.path.abspath(filename)
    return codemap.get().file(filename, source.digest, source.nlines, source.changes)


def _arm_key(function: str, arm: places.Arm) -> codemap.Key:
    return ("arm", function, *arm[:4], arm.what, *arm[5:])


def _all_arms(arms: places.Arms) -> list[places.Arm]:
    found = list(arms.handlers.values())
    for branch in arms.branches.values():
        found += [arm for arm in (branch.taken, branch.not_taken) if arm is not None]
        found += branch.implied
    return found


def _first_instruction(code: types.CodeType) -> int:
    """Return the offset where 3.11 is when it traces the call that begins the function."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RESUME":
            return instruction.offset
    return 0


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


_recorder.install(discover=_discover, idle=settle)
namespace.in_child(_after_fork)
namespace.at_exit(_stop)
