"""Code objects as the probes need them: instructions with their jumps, and the steps of long ones. Pure.

It reads CPython's bytecode of 3.11 to 3.13 without `dis.Instruction`, which takes some µs for each.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Instruction", "Steps", "content_digest", "decode", "handlers", "steps"]


def ops(*names: str) -> frozenset[int]:
    """Return the numbers of those of the named instructions that this Python has."""
    return frozenset(dis.opmap[name] for name in names if name in dis.opmap)


CONDITIONAL = {
    name: op for name, op in dis.opmap.items() if "JUMP_" in name and "_IF_" in name and op < 256
}
RESUME = dis.opmap["RESUME"]
FOR_ITER = dis.opmap["FOR_ITER"]
EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
PUSH_EXC_INFO = dis.opmap["PUSH_EXC_INFO"]

_CACHE = 0
_RELATIVE = frozenset(dis.hasjrel)
_BACKWARD = frozenset(op for name, op in dis.opmap.items() if "BACKWARD" in name)
# A loop that ends goes on behind what would clean up (END_FOR; in 3.13 also a POP_TOP).
_FOR_ITER_SKIPS = {(3, 11): 0, (3, 12): 2}.get(sys.version_info[:2], 4)

_JUMPS = ops("JUMP_FORWARD", "JUMP_BACKWARD")
_SILENT_JUMPS = ops("JUMP_BACKWARD_NO_INTERRUPT", "SEND")  # no event tells of them
_NO_FALL = (
    _JUMPS
    | ops("JUMP_BACKWARD_NO_INTERRUPT")
    | ops("RETURN_VALUE", "RETURN_CONST", "RERAISE", "RAISE_VARARGS")
)
# What the interpreter never gives a LINE event.
_NO_LINE = ops("RESUME", "END_FOR", "END_SEND", "END_ASYNC_FOR")
_END_ASYNC_FOR = ops("END_ASYNC_FOR")
# A generator into which an exception is thrown raises it here. 3.13 is then at the RESUME behind it, and
# behind a RESUME each line is new.
_THROWN_AT = ops("YIELD_VALUE") if sys.version_info >= (3, 13) else frozenset()
_NEVER_RAISES = ops(
    "LOAD_FAST", "LOAD_FAST_LOAD_FAST", "STORE_FAST", "STORE_FAST_STORE_FAST",
    "STORE_FAST_LOAD_FAST", "STORE_DEREF", "LOAD_CLOSURE", "LOAD_CONST", "POP_TOP", "NOP", "COPY",
    "SWAP", "PUSH_NULL", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
    "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "RETURN_VALUE", "RETURN_CONST", "PUSH_EXC_INFO",
    "POP_EXCEPT", "BUILD_TUPLE", "BUILD_LIST", "EXTENDED_ARG", "END_FOR", "END_SEND", "RESUME",
)  # fmt: skip
# In practice; a class body may have a namespace that raises.
_GOES_ON = _NEVER_RAISES | ops("STORE_NAME", "STORE_GLOBAL")


class Instruction(NamedTuple):
    """One instruction; each EXTENDED_ARG is one of its own. Offsets are in bytes."""

    offset: int
    opcode: int
    after: int
    """The offset of what follows it in sequence, behind its inline caches."""
    target: int
    """Where its jump goes, -1 if it has none."""
    line: int
    """-1: the compiler gave it none."""


def decode(code: CodeType) -> list[Instruction]:
    """Return the instructions of a code object, in order of their offsets."""
    raw = code.co_code
    lines: list[int] = []
    for start, end, line in code.co_lines():
        lines += [-1 if line is None else line] * ((end - start) // 2)
    found = []
    offset, argument, size = 0, 0, len(raw)
    while offset < size:
        opcode = raw[offset]
        argument = argument << 8 | raw[offset + 1]
        after = offset + 2
        target = -1
        if opcode != EXTENDED_ARG:
            while after < size and raw[after] == _CACHE:
                after += 2
            if opcode in _RELATIVE:
                target = after - 2 * argument if opcode in _BACKWARD else after + 2 * argument
                if opcode == FOR_ITER:
                    target += _FOR_ITER_SKIPS
            argument = 0
        found.append(Instruction(offset, opcode, after, target, lines[offset // 2]))
        offset = after
    return found


def handlers(code: CodeType) -> list[tuple[int, int, int]]:
    """Return the rows of the exception table: first offset, offset behind the last, handler."""
    # The format is CPython's Objects/exception_handling_notes.txt: numbers of 6 bits a byte, bit 6
    # set if more follow.
    table = iter(code.co_exceptiontable)

    def number(byte: int) -> int:
        value = byte & 63
        while byte & 64:
            byte = next(table)
            value = value << 6 | byte & 63
        return value

    rows = []
    for byte in table:
        start, length, handler = number(byte), number(next(table)), number(next(table))
        number(next(table))  # stack depth
        rows.append((2 * start, 2 * (start + length), 2 * handler))
    return rows


# -- long code objects


class Steps(NamedTuple):
    """What gives a code object's lines without LINE events. Offsets are in bytes, a line of 0 is none."""

    starts: dict[int, int]
    """Instruction -> line that happens when it is about to execute (INSTRUCTION event)."""
    jumps: dict[int, tuple[int, int, int]]
    """Jumping instruction -> (what follows it in sequence, line if it jumps, line if it does not).

    They happen when a BRANCH or JUMP event tells where it went, after the branch's own arm.
    """


def steps(code: CodeType, table: Mapping[int, int]) -> Steps:
    """Return what to record on INSTRUCTION, BRANCH and JUMP to get the lines that LINE events give.

    `table` is line_table()'s. The sequence is the same but for two cases, in which a line is recorded
    again, never one that does not happen: (1) a loop on one line, like `while x: x -= 1; continue`, behind
    a statement whose last instruction may raise, or another jump within a line like that: each
    return to it, as a trace function gives it; (2) an exception within the header of a `with` that
    has its block on more lines, behind its `__enter__`: the header again.
    """
    instructions = decode(code)
    index = {instruction.offset: i for i, instruction in enumerate(instructions)}
    first = next((i for i, one in enumerate(instructions) if one.opcode == RESUME), 0)
    rows = handlers(code)
    jumps_to: dict[int, list[int]] = {}
    for i, one in enumerate(instructions):
        if one.target >= 0 and i >= first:
            jumps_to.setdefault(one.target, []).append(i)
    raises_to: dict[int, list[tuple[int, int]]] = {}
    for start, end, handler in rows:
        raises_to.setdefault(handler, []).append((start, end))

    starts: dict[int, int] = {}
    jumps: dict[int, tuple[int, int, int]] = {}
    for offset in _line_events(instructions, first, jumps_to, raises_to):
        here = index[offset]
        line = instructions[here].line
        recorded = table.get(line, 0)
        if not recorded:
            continue
        # How control comes here from another line: that is when a LINE event happens.
        jumped, silent, fell = [], False, -1
        same = False
        for i in jumps_to.get(offset, ()):
            if instructions[i].line == line:
                same = True
            elif instructions[i].opcode in _SILENT_JUMPS:
                silent = True
            else:
                jumped.append(i)
        before = instructions[here - 1]
        if here > 0 and before.opcode not in _NO_FALL:
            if before.line == line and before.opcode != RESUME:
                same = True
            else:
                fell = here - 1
        raised, raised_same = _raises(instructions, index, raises_to.get(offset, ()), line)
        if not (same or raised_same) or silent or raised:
            starts[offset] = recorded
        else:
            if fell >= 0 and instructions[fell].target < 0:
                # Before the instruction before, if that certainly goes on to here.
                at = instructions[fell]
                if at.opcode not in _GOES_ON or at.offset in starts:
                    starts[offset] = recorded
                    continue
                starts[at.offset] = recorded
            elif fell >= 0:
                at = instructions[fell]
                old = jumps.get(at.offset, (at.after, 0, 0))
                jumps[at.offset] = (old[0], old[1], recorded)
            for i in jumped:
                at = instructions[i]
                old = jumps.get(at.offset, (at.after, 0, 0))
                jumps[at.offset] = (old[0], recorded, old[2])
    return Steps(starts, jumps)


def _line_events(
    instructions: list[Instruction],
    first: int,
    jumps_to: Mapping[int, object],
    raises_to: Mapping[int, object],
) -> list[int]:
    """Return the offsets at which the interpreter puts a LINE event, as its instrumentation does."""
    found = []
    jumped_to = {one.target for one in instructions[first:] if one.opcode in _JUMPS}
    current = -1
    for one in instructions[first:]:
        if one.opcode in _NO_LINE:
            # It begins no line, but a jump to it may.
            if one.line >= 0 and one.offset in jumped_to:
                found.append(one.offset)
            continue
        if one.line >= 0 and (
            one.line != current or one.offset in jumps_to or one.offset in raises_to
        ):
            found.append(one.offset)
        current = one.line
    return found


def _raises(
    instructions: list[Instruction],
    index: Mapping[int, int],
    ranges: Iterable[tuple[int, int]],
    line: int,
) -> tuple[bool, bool]:
    """Tell whether an exception may come from another line than `line`, and whether from it."""
    other = same = False
    for start, end in ranges:
        i = index[start]
        while i < len(instructions) and instructions[i].offset < end:
            one = instructions[i]
            if one.line != line or one.opcode in _THROWN_AT:
                other = other or one.opcode not in _NEVER_RAISES
            elif one.opcode not in _NEVER_RAISES:
                same = True
            i += 1
    return other, same


# -- code without a file


def content_digest(code: CodeType) -> str:
    """Return 16 hex digits that depend on all that a code object is, but not on its file's name.

    The same in all processes of one version of Python: no addresses, no order of a set.
    """
    return hashlib.blake2b(_content(code), digest_size=8).hexdigest()


def _content(value: Any) -> bytes:
    if isinstance(value, CodeType):
        kind = b"code"
        parts = [
            _content(part)
            for part in (
                value.co_code, value.co_consts, value.co_names, value.co_varnames,
                value.co_freevars, value.co_cellvars, value.co_name, value.co_qualname,
                value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount,
                value.co_flags, value.co_firstlineno, value.co_linetable, value.co_exceptiontable,
            )
        ]  # fmt: skip
    elif isinstance(value, tuple):
        kind, parts = b"tuple", [_content(part) for part in value]
    elif isinstance(value, frozenset):
        kind, parts = b"frozenset", sorted(_content(part) for part in value)
    elif isinstance(value, bytes):
        kind, parts = b"bytes", [value]
    elif isinstance(value, str):
        kind, parts = b"str", [value.encode("utf-8", "surrogatepass")]
    elif isinstance(value, int | float | complex | type(None) | type(...)):
        kind, parts = type(value).__name__.encode(), [repr(value).encode()]
    else:
        # A constant that no compiler makes: its text may have an address, its type has none.
        kind, parts = b"other", [type(value).__qualname__.encode()]
    body = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return hashlib.blake2b(kind + b"\0" + body, digest_size=16).digest()
