"""Where in a code object its probes are used, and what they have to jump over to sleep. Pure.

It knows instructions by name, and as few of them as the uses need that insertion.py makes: a statement `~P`,
`(~P) or x`, a guard, and a `~P` whose value nobody looks at. `~P` is False.
"""

from __future__ import annotations

import dis
from collections.abc import Collection, Iterator
from types import CodeType
from typing import NamedTuple

from .bytecode import EXTENDED_ARG, RESUME, Instruction, decode, ops
from .placeholders import number_of

__all__ = ["Site", "find_sites", "inner_codes", "with_prologue"]

_LOAD_CONST = dis.opmap["LOAD_CONST"]
_LOAD_FAST = dis.opmap["LOAD_FAST"]
_INVERT = dis.opmap["UNARY_INVERT"]
_POP = dis.opmap["POP_TOP"]
_COPY = dis.opmap["COPY"]
_NOTHING = ops("NOP", "TO_BOOL")
_GOTO = ops("JUMP_FORWARD")
_IF_TRUE = ops("POP_JUMP_IF_TRUE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_TRUE")
_IF_FALSE = ops("POP_JUMP_IF_FALSE", "POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_FALSE")
_IF_TRUE_OR_POP = ops("JUMP_IF_TRUE_OR_POP")  # 3.11
_FARTHEST = 255  # an argument of one byte
_PROLOGUE_UNITS = 3


class Site(NamedTuple):
    """One use of a probe."""

    probe: int
    """The number of its placeholder."""
    unit: int
    """The code unit that changes when it goes to sleep."""
    skip: int
    """How many units the jump goes over that stands there then; 0: it is the UNARY_INVERT, and a NOP then."""
    parts: bool
    """A LOAD_FAST is before it: the interpreter may have made one instruction of both."""


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that are in it, in an order that is always the same."""
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from inner_codes(value)


def find_sites(code: CodeType, numbers: Collection[int]) -> list[Site]:
    """Return the sites of a code object that has placeholders; `numbers` are those that can sleep."""
    at_const = {
        i: n for i, value in enumerate(code.co_consts) if (n := number_of(value)) in numbers
    }
    if not at_const:
        return []
    raw = code.co_code
    instructions = decode(code)
    index = {one.offset: i for i, one in enumerate(instructions)}
    found = []
    argument, start, before = 0, 0, -1
    for i, one in enumerate(instructions):
        argument = argument << 8 | raw[one.offset + 1]
        if one.opcode == EXTENDED_ARG:
            continue
        if one.opcode == _LOAD_CONST and argument in at_const:
            unit, skip = instructions[start].offset // 2, 0
            target = _where_to(instructions, index, i + 1)
            skip = target // 2 - unit - 1
            if target < 0 or not 0 < skip <= _FARTHEST:
                unit, skip = instructions[i + 1].offset // 2, 0
            parts = skip > 0 and start == i and before == _LOAD_FAST
            found.append(Site(at_const[argument], unit, skip, parts))
        argument, start, before = 0, i + 1, one.opcode
    return found


def _where_to(instructions: list[Instruction], index: dict[int, int], i: int) -> int:
    """Return the offset where it goes on when the False of an UNARY_INVERT is gone from the stack, or -1."""
    values = 1
    i += 1
    while values:
        one = instructions[i]
        i += 1
        if one.opcode == _POP or one.opcode in _IF_TRUE | _IF_TRUE_OR_POP:
            values -= 1
        elif one.opcode == _COPY:
            values += 1
        elif one.opcode in _IF_FALSE:
            values -= 1
            i = index[one.target]
        elif one.opcode in _GOTO:
            i = index[one.target]
        elif one.opcode not in _NOTHING and one.opcode != EXTENDED_ARG:
            return -1
    return instructions[i].offset


# -- code that no statement is in: a lambda, a generator expression


def with_prologue(code: CodeType, constant: str) -> CodeType:
    """Return a code object that first of all, behind its RESUME, uses the probe that `constant` stands for."""
    raw = code.co_code
    position = 2 * raw[::2].index(RESUME) + 2
    number = len(code.co_consts)
    prologue = bytearray()
    if number > 255:
        prologue += bytes((EXTENDED_ARG, number >> 8))
    prologue += bytes((_LOAD_CONST, number & 255, _INVERT, 0, _POP, 0))
    units = len(prologue) // 2
    return code.replace(
        co_code=raw[:position] + bytes(prologue) + raw[position:],
        co_consts=(*code.co_consts, constant),
        co_stacksize=code.co_stacksize + 1,
        co_linetable=_move_lines(code.co_linetable, position // 2, units),
        co_exceptiontable=_move_handlers(code.co_exceptiontable, position // 2, units),
    )


def _move_lines(table: bytes, unit: int, units: int) -> bytes:
    """Make room in a location table (CPython's Objects/locations.md): the new units have no location."""
    at, covered, room = 0, 0, bytes((128 | _NO_LOCATION << 3 | units - 1,))
    while covered < unit:
        start, size = at, (table[at] & 7) + 1
        at += 1
        while at < len(table) and not table[at] & 128:
            at += 1
        covered += size
    more = covered - unit
    if not more:
        return table[:at] + room + table[at:]
    kind, rest = table[start] >> 3 & 15, table[start + 1 : at]
    before = bytes((128 | kind << 3 | size - more - 1,)) + rest
    # The second part is on the line of the first: its distance from that is 0.
    if kind in _ON_SOME_LINE:
        kind = _ON_THIS_LINE
    elif kind in _WITH_DISTANCE:
        while rest[0] & 64:
            rest = rest[1:]
        rest = bytes(1) + rest[1:]
    after = bytes((128 | kind << 3 | more - 1,)) + rest
    return table[:start] + before + room + after + table[at:]


# Kinds of locations: with a column on this line, the next, or the one after; with a distance in lines; none.
_ON_THIS_LINE = 10
_ON_SOME_LINE = (10, 11, 12)
_WITH_DISTANCE = (13, 14)
_NO_LOCATION = 15


def _move_handlers(table: bytes, unit: int, units: int) -> bytes:
    """Make room in an exception table (CPython's Objects/exception_handling_notes.txt)."""
    moved = bytearray()
    source = iter(table)
    for first in source:
        values = [_number(first, source), *(_number(next(source), source) for _ in range(3))]
        start, length, target, depth = values
        if start < unit < start + length:
            length += units
        elif start >= unit:
            start += units
        if target >= unit:
            target += units
        row = bytearray()
        for value in (start, length, target, depth):
            row += _bytes_of(value)
        row[0] |= 128
        moved += row
    return bytes(moved)


def _number(byte: int, source: Iterator[int]) -> int:
    value = byte & 63
    while byte & 64:
        byte = next(source)
        value = value << 6 | byte & 63
    return value


def _bytes_of(value: int) -> bytes:
    """Return a number in bytes of 6 bits, the highest first; bit 6 says that more follow."""
    parts = [value & 63]
    while value := value >> 6:
        parts.append(value & 63 | 64)
    return bytes(reversed(parts))
