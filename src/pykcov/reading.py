"""From a device's area to a Trace."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from . import _recorder, abi, codemap, probes
from .abi import TRACE_CMP, TRACE_PC
from .area import RECORD_WORDS, Area, Head
from .comparisons import Comparisons
from .symbolize import places
from .trace import SectionRecord, Trace

__all__ = ["make_trace", "read_area", "read_records"]


def read_area(area: Area, dropped: int) -> Trace:
    """Return what is in a device's area. Must be called with the device's lock held."""
    mode = TRACE_CMP if area.head[Head.MODE] == TRACE_CMP and area.operands else TRACE_PC
    count = min(area.words[0], abi.capacity(area.size, mode))
    words = array("Q", bytes(area.words[1 : count * abi.RECORD_WORDS[mode] + 1]))
    operands, base = (area.read_operands(), area.operands_base()) if mode == TRACE_CMP else (b"", 0)
    return make_trace(mode, words, read_records(area), dropped, operands, base)


def read_records(area: Area, offset: int = 0) -> list[SectionRecord]:
    """Return the section records of a device's area, their positions moved by ``offset`` words."""
    records = []
    count = min(area.head[Head.RECORDED], area.record_room)
    for at in range(0, RECORD_WORDS * count, RECORD_WORDS):
        words = area.records[at : at + RECORD_WORDS]
        handle, pid, tid, number, start, end, began, ended = words[:8]
        thread = bytes(words[8:]).rstrip(b"\0").decode(errors="replace")
        records.append(
            SectionRecord(
                handle, pid, tid, thread, number, start + offset, end + offset, began, ended
            )
        )
    return records


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
