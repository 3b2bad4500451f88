"""What a collection with TRACE_CMP saw: which values the code compared. Pure.

The words are as they were recorded (abi.py describes them) and become values one by one, when they are asked for.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import EllipsisType, MappingProxyType
from typing import NamedTuple, TypeAlias, overload

from . import abi
from .abi import CmpKind
from .codemap import Place
from .symbolize import Location, locate

__all__ = ["CONST", "Comparison", "Comparisons", "Operand"]

Operand: TypeAlias = int | float | str | bytes | EllipsisType | None
WORDS = abi.RECORD_WORDS[abi.TRACE_CMP]
CONST = "const"


class Comparison(NamedTuple):
    """One comparison that happened: ``left op right``.

    ``op`` is the operator ('==', 'in', 'is not', ...), 'case' for a pattern of ``match``, or the name of a method
    that compares ('startswith', ...), ``left`` then the text that was searched. An operand is an int, bool, float,
    str, bytes or None, and ``...`` for an object of another type. ``const_side`` says which one is a constant
    of the source: 'left', 'right' or ''. ``cut`` says of which one there was more than is recorded ('left', 'right',
    'both' or ''): of an int the lowest 64 bits, of the others the first 256 bytes (what ends a text, its last).
    """

    op: str
    left: Operand
    right: Operand
    const_side: str
    location: Location
    cut: str = ""


class Comparisons(Sequence[Comparison]):
    """Comparisons in order of execution, each made when it is asked for.

    ``words`` are the records, four words each, ``operands`` the bytes that their words count places in.
    """

    __slots__ = ("_locations", "operands", "places", "words")

    def __init__(
        self,
        words: Iterable[int] = (),
        operands: bytes = b"",
        places: Mapping[int, Place] = MappingProxyType({}),
    ) -> None:
        self.words = array("Q", words)
        self.operands = operands
        self.places = places
        self._locations: dict[int, tuple[Location, str, str]] = {}

    @classmethod
    def of(cls, words: array[int], operands: bytes, base: int = 0) -> Comparisons:
        """Return those of an area whose table of operands had ``operands`` from ``base`` on."""
        made = cls(words, operands)
        if base:
            made._move(-base)
        return made

    def _move(self, by: int) -> None:
        """Let the places in ``operands`` count from elsewhere."""
        words = self.words
        for at in range(0, len(words), WORDS):
            for i in (0, 1):
                if words[at] & abi.CMP_IN_TABLE[i]:
                    words[at + 1 + i] = (words[at + 1 + i] + by) % (1 << 64)

    @classmethod
    def join(cls, parts: Iterable[tuple[Comparisons, Mapping[int, int]]]) -> Comparisons:
        """Return one after the other; of each part also which of its PCs are others here."""
        made = cls()
        for part, changed in parts:
            moved = cls(part.words)
            moved._move(len(made.operands))
            for at in range(3, len(moved.words), WORDS):
                moved.words[at] = changed.get(moved.words[at], moved.words[at])
            made.words.extend(moved.words)
            made.operands += part.operands
        return made

    def __len__(self) -> int:
        return len(self.words) // WORDS

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Comparison]: ...
    def __getitem__(self, index: int | slice) -> Comparison | Sequence[Comparison]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[Comparison]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparisons):
            return NotImplemented
        return len(self) == len(other) and all(
            self._raw(i) == other._raw(i) for i in range(len(self))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Comparisons: {len(self)}>"

    def _raw(self, number: int) -> tuple[int | bytes, ...]:
        kind, one, two, pc = self.words[WORDS * number : WORDS * number + WORDS]
        return kind, self._bytes(kind, 0, one), self._bytes(kind, 1, two), pc

    def _bytes(self, kind: int, i: int, word: int) -> int | bytes:
        if CmpKind.BYTES <= kind >> abi.CMP_KIND_SHIFT[i] & 15 <= CmpKind.STR:
            length = kind >> abi.CMP_LENGTH_SHIFT[i] & 0xFFFF
            if kind & abi.CMP_IN_TABLE[i]:
                return self.operands[word : word + length]
            return word.to_bytes(8, sys.byteorder)[:length]
        return word

    def _at(self, number: int) -> Comparison:
        kind, one, two, pc = self.words[WORDS * number : WORDS * number + WORDS]
        location, op, const_side = self._location(pc)
        values = (
            _value(kind, 0, self._bytes(kind, 0, one)),
            _value(kind, 1, self._bytes(kind, 1, two)),
        )
        cut = [bool(kind & bit) for bit in abi.CMP_CUT]
        if const_side == "right":  # the constant is the first word
            values, cut = values[::-1], cut[::-1]
        sides = {(False, False): "", (True, True): "both", (True, False): "left"}
        return Comparison(op, *values, const_side, location, sides.get((cut[0], cut[1]), "right"))

    def _location(self, pc: int) -> tuple[Location, str, str]:
        found = self._locations.get(pc)
        if found is None:
            location = locate(pc, self.places.get(pc))
            op = location.arm if location.kind == "cmp" else ""
            const_side = ""
            if op.startswith(f"{CONST} "):
                op, const_side = op.removeprefix(f"{CONST} "), "left"
            elif op.endswith(f" {CONST}"):
                op, const_side = op.removesuffix(f" {CONST}"), "right"
            found = self._locations[pc] = location, op, const_side
        return found


def _value(kind: int, i: int, word: int | bytes) -> Operand:
    """Return the value of an operand."""
    what = kind >> abi.CMP_KIND_SHIFT[i] & 15
    if isinstance(word, bytes):
        return _text(word) if what == CmpKind.STR else word
    if what == CmpKind.INT:
        return word - (word >> 63 << 64)
    if what == CmpKind.UINT:
        return word
    if what == CmpKind.BOOL:
        return bool(word)
    if what == CmpKind.FLOAT:
        value: float = struct.unpack("=d", word.to_bytes(8, sys.byteorder))[0]
        return value
    return None if what == CmpKind.NONE else ...


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # damaged
        return data.decode("utf-8", "replace")
