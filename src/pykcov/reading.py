"""From a device's area to a Trace."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from . import probes
from .area import RECORD_WORDS, Area, Head
from .symbolize import places
from .trace import SectionRecord, Trace

__all__ = ["make_trace", "read_area", "read_records"]


def read_area(area: Area, dropped: int) -> Trace:
    """Return what is in a device's area. Must be called with the device's lock held."""
    count = min(area.words[0], area.size - 1)
    return make_trace(array("Q", bytes(area.words[1 : count + 1])), read_records(area), dropped)


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
    pcs: array[int], sections: Sequence[SectionRecord], dropped: int, *, kernel: bool = False
) -> Trace:
    """Return the Trace of these PCs, with the places that they name."""
    probe = probes.name() + ", kcov" * kernel
    return Trace(pcs, places=places(set(pcs)), sections=sections, dropped=dropped, probe=probe)
