"""What the places of a code object are called: its Unit, from its source and the namespace's code map."""

from __future__ import annotations

import array
import contextlib
import dis
import os
import struct
import types

from .. import _recorder, codemap
from . import places, versions

__all__ = ["make"]

_JUMP = struct.Struct("=IIQQQQ")
_texts: dict[str, tuple[object, versions.Text]] = {}


def make(code: types.CodeType, *, with_arms: bool, by_instruction: bool) -> _recorder.Unit:
    """Return the unit of a code object; ``by_instruction``: with lines that need no LINE events.

    Code that has probes records by itself: its unit has nothing but arms.

    Raises KcovError and OSError if the code map cannot be had.
    """
    text = _text(code.co_filename, branch=with_arms)
    source = text.source if text.has(code) else None
    probed = _recorder.is_probed(code)
    table = {} if probed else places.line_table(code, source)
    file = _source_file(code, source, table, text.kind)
    entry = places.entry(code)
    arms = places.arms(code, source) if with_arms else None
    steps = places.steps(code, table) if by_instruction and not probed else None

    keys: list[codemap.Key] = [entry]
    if arms is not None:
        keys += [_arm_key(code.co_qualname, arm) for arm in _all_arms(arms)]
    pcs = dict(zip(keys, codemap.get().places(file, keys), strict=True))

    def arm_pc(arm: places.Arm | None) -> int:
        return pcs[_arm_key(code.co_qualname, arm)] if arm is not None else 0

    def line_pc(number: int) -> int:
        return file.base + number if number else 0

    units = len(code.co_code) // 2
    starts = array.array("Q", bytes(8 * units))
    jump_at = array.array("Q", bytes(8 * units))
    handlers = array.array("Q", bytes(8 * units))
    jumps = bytearray()
    implied = array.array("Q")
    if steps is None and not probed:
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
        entry=0 if probed else pcs[keys[0]],
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
    code: types.CodeType, source: places.Source | None, table: dict[int, int], kind: str
) -> codemap.SourceFile:
    filename = code.co_filename
    if kind != codemap.NO_TEXT and os.path.exists(filename):
        filename = os.path.abspath(filename)
    if source is None:
        # No text: the code object itself is the source.
        lines = [line for _, _, line in code.co_lines() if line] or [code.co_firstlineno]
        digest = kind + places.content_digest(code)
        return codemap.get().file(filename, digest, max(*lines, *table), [(0, code.co_qualname)])
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


def _text(filename: str, *, branch: bool) -> versions.Text:
    """Return the text of a source file, read again if it has changed."""
    status = None
    stamp = (0, 0, 0, branch)
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(filename)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, branch)
    known = _texts.get(filename)
    if known is None or known[0] != stamp:
        text = versions.Text(filename, status, branch=branch)
        known = _texts[filename] = (stamp, text)
    return known[1]
