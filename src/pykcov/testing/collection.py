"""The collections of a test run: sets of lines, one device for each that is open, used again for the next.

Each is exclusive: while the main task is in one, those that it was in before rest, and so do they in any thread or
process that works for another one by a handle. What is executed belongs to exactly one of them.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self, TypeAlias

from .. import _recorder, codemap, task
from ..abi import TRACE_PC
from ..device import Device
from ..remote import Section, enter
from ..scope import Scope
from ..task import quietly

__all__ = ["Collection", "Collections", "Lines"]

Lines: TypeAlias = dict[str, set[int]]

# Words. A test's own sections move their events on when they have 4096; another process's fill an area of this size.
_AREA = 1 << 14


class Collections:
    """What all collections of this process have in common: the files that they are of, and the devices."""

    @quietly
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.dropped = 0
        self._keys: set[int] = set()  # of the collections that are open
        self._free: list[Device] = []
        self._places: dict[int, tuple[str, int] | None] = {}

    def device(self) -> Device:
        """Return a device that is ready to be enabled."""
        if self._free:
            return self._free.pop()
        made = Device(self.scope)
        made.init_trace(_AREA)
        return made

    def give_back(self, device: Device) -> None:
        """Take back a device that is disabled."""
        self._free.append(device)

    def add(self, inherited: _recorder.Inherited) -> None:
        """Know what a collection's tasks inherit as one of these."""
        self._keys.add(inherited.device)

    def forget(self, inherited: _recorder.Inherited) -> None:
        """Forget a collection that is closed."""
        self._keys.discard(inherited.device)

    def inherit(self, mine: _recorder.Inherited | None) -> _recorder.Inherited | None:
        """Let the current task inherit ``mine`` in the place of the collection that it is in; return what that has.

        What else it inherits, of a collect() that a test or who started pytest has opened, stays.
        """
        chain = task.chain(task.inherited())
        found = mine
        for other in chain:
            if other.device not in self._keys:
                found = _recorder.Inherited(other.handle, other.device, other.follow, found)
        task.inherit(found)
        return next((i for i in reversed(chain) if i.device in self._keys), None)

    @quietly
    def close(self) -> None:
        """Close the devices. Those of open collections are theirs."""
        while self._free:
            device = self._free.pop()
            self.dropped += device.dropped
            device.close()

    def lines(self, pcs: set[int]) -> Lines:
        """Return the lines of each file that these PCs stand for."""
        found: Lines = {}
        for pc in pcs:
            try:
                place = self._places[pc]
            except KeyError:
                place = self._places[pc] = _line(pc)
            if place is not None:
                found.setdefault(place[0], set()).add(place[1])
        return found


def _line(pc: int) -> tuple[str, int] | None:
    place = codemap.place(pc)
    return (place.file, place.line) if place is not None and place.kind == "line" else None


class Collection:
    """What is executed in its ``with`` blocks, and what they cause until it is closed.

    The blocks are the main task's; their threads, tasks, jobs and child processes are collected between them too.
    """

    @quietly
    def __init__(self, every: Collections) -> None:
        self._every = every
        self._pcs: set[int] = set()
        self._process = os.getpid()
        self._device = every.device()
        self._handle = self._device._collect(_AREA, (), TRACE_PC, self._drain, exclusive=True)
        self._inherited = _recorder.Inherited(self._handle, self._device._key(), True, None)
        self._device._inherit(self._inherited)
        every.add(self._inherited)
        self._open: list[tuple[_recorder.Inherited | None, Section | None]] = []

    @quietly
    def __enter__(self) -> Self:
        task.current()  # before it inherits: it is a section of this one as it is
        before = self._every.inherit(self._inherited)
        section = enter(self._handle, self._device._key(), implicit=True)
        self._open.append((before, section))
        return self

    @quietly
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process != os.getpid():
            return  # a forked child has left the test's code: it is collected until it ends
        before, section = self._open.pop()
        if section is not None:
            section.leave()
        self._every.inherit(before)

    @quietly
    def take(self) -> Lines:
        """Return what has been executed since the last call."""
        self._device.sync()
        with self._device._get_lock():
            self._drain()
        return self._lines()

    @quietly
    def close(self) -> Lines:
        """End the collection; return what has been executed since the last take()."""
        if self._process != os.getpid():
            return {}
        while self._open:
            self.__exit__(None, None, None)
        self._device._end_collect()
        self._drain()
        self._every.forget(self._inherited)
        self._every.give_back(self._device)
        return self._lines()

    def _lines(self) -> Lines:
        pcs, self._pcs = self._pcs, set()
        return self._every.lines(pcs)

    def _drain(self) -> None:
        """Empty the device's area. Must be called with the device's lock held, or when it is disabled."""
        words = self._device._get_area().words
        count = min(words[0], len(words) - 1)
        if count:
            self._pcs.update(_recorder.tally(words[1 : count + 1]))
            words[0] = 0
