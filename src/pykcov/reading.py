"""From a device's area to a Trace."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence

from . import _recorder, abi, codemap, probes
from .abi import TRACE_CMP, TRACE_PC
from .area import RECORD_WORDS, Area, Head
from .comparisons import Comparisons
from .symbolize import places
from .trace import SectionRecord, Trace

__all__ = ["copy_records", "make_trace", "read_area", "read_records"]

_RECORD = struct.Struct("=8Q64s")


def read_area(area: Area, dropped: int) -> Trace:
    """Return what is in a device's area. Must be called with the device's lock held."""
    mode = TRACE_CMP if area.head[Head.MODE] == TRACE_CMP and area.operands else TRACE_PC
    count = min(area.words[0], abi.capacity(area.size, mode))
    words = array("Q", bytes(area.words[1 : count * abi.RECORD_WORDS[mode] + 1]))
    operands, base = (area.read_operands(), area.operands_base()) if mode == TRACE_CMP else (b"", 0)
    sections = [*read_records(copy_records(area))]
    return make_trace(mode, words, sections, dropped, operands, base)


def copy_records(area: Area) -> bytes:
    """Return the section records of a device's area, as they are there."""
    count = min(area.head[Head.RECORDED], area.record_room)
    return bytes(area.records[: RECORD_WORDS * count])


def read_records(copied: bytes, offset: int = 0) -> Iterator[SectionRecord]:
    """Yield the section records of a copy, their positions moved by ``offset`` words."""
    for handle, pid, tid, number, start, end, began, ended, name in _RECORD.iter_unpack(copied):
        thread = name.rstrip(b"\0").decode(errors="replace")
        yield SectionRecord(
            handle, pid, tid, thread, number, start + offset, end + offset, began, ended
        )


def make_trace(
    mode: int,
    words: array[int],
    sections: Sequence[SectionRecord],
    dropped: int,
    operands: bytes = b"",
    base: int = 0,
    *,
    kernel: bool = False,
) -> Trace:
    """Return the Trace of the records in these words, with the places that their PCs name.

    ``operands`` is what was in the table of operands from ``base`` on. With ``kernel`` they are the kernel's, too.
    """
    pcs = words[3::4] if mode == TRACE_CMP else words
    known = places(_recorder.tally(pcs))
    return Trace(
        pcs,
        places=known,
        sections=sections,
        dropped=dropped,
        probe=probes.name(mode) + ", kcov" * kernel,
        comparisons=Comparisons.of(words, operands, base) if mode == TRACE_CMP else Comparisons(),
        sources=codemap.versions(known),
    )
