"""From a PC to a place in the source: ``symbolize(pc)``.

A PC that the code map does not know is a place too, of kind 'unknown': reading a trace never fails
because a word of it is strange.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import SupportsIndex

from . import codemap
from .codemap import Place

__all__ = ["Location", "locate", "places", "symbolize"]


@dataclass(frozen=True, slots=True)
class Location:
    """What one PC stands for.

    ``kind`` is 'line' (a statement starts on this line), 'entry' (a function, module or class body
    starts), 'arm' (one way out of a branch; ``arm`` says which), 'kernel' (a place in the kernel or
    in a module of it; without debug information ``file`` is '[kernel]' or '[module]' and ``line``
    is 0) or 'unknown' (then ``file`` is '' and ``line`` is 0). ``line`` and ``end_line`` count from
    1, ``column`` and ``end_column`` from 0 in UTF-8 bytes as the interpreter counts them; they are
    None where it has none. ``function`` is the qualified name, '<module>' for a module's own code.
    """

    pc: int
    kind: str
    file: str
    line: int
    function: str
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    arm: str = ""

    def __repr__(self) -> str:
        shown = (
            f"{part.name}={hex(self.pc) if part.name == 'pc' else repr(getattr(self, part.name))}"
            for part in fields(self)
        )
        return f"Location({', '.join(shown)})"


def locate(pc: int, place: Place | None) -> Location:
    """Return the ``Location`` of a PC whose place is ``place``, None for a PC that nobody knows."""
    if place is None:
        return Location(pc, "unknown", "", 0, "")
    return Location(pc, *place)


def symbolize(pc: SupportsIndex) -> Location:
    """Return the place that ``pc`` names.

    A Python PC's by the code map of this process's namespace, a kernel's by the running kernel's
    symbols; of kind 'unknown' if there is none. Any integer is accepted, whatever its value, and so
    is what can be used as one (NumPy's); anything else is a TypeError. A namespace that cannot be
    read knows no PC.
    """
    number = operator.index(pc)
    try:
        place = places((number,)).get(number) if 0 <= number < 1 << 64 else None
    except OSError:  # a damaged or foreign namespace: `pykcov doctor` is the one to say so
        place = None
    return locate(number, place)


def places(pcs: Iterable[int]) -> dict[int, Place]:
    """Return the place of each of ``pcs`` that has one, by its value: Python's or the kernel's."""
    found: dict[int, Place] = {}
    other = []
    for pc in pcs:
        if not codemap.is_python(pc):
            other.append(pc)
        elif (place := codemap.place(pc)) is not None:
            found[pc] = place
    if other:
        from .linux import vmlinux

        found |= vmlinux.places(other)
    return found
