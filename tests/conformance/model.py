"""The contract as a program that is too simple to be wrong: no threads, no memory, only lists.

It says what each verb answers, what every area then holds, and what was counted as dropped. Read
it as the specification of devices, tasks, sections and handles; the state machine compares pykcov
with it step by step. With the rules of Linux it is the kernel's contract.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum

from conformance.rules import PYKCOV, Rules
from conformance.work import Step

MAX_SIZE = 268435455  # words: INT_MAX / 8
PAGE = 4096
USB = 1 << 56


class Mode(Enum):
    DISABLED = "opened"
    INIT = "sized"
    LOCAL = "enabled"
    REMOTE = "remote-enabled"


@dataclass(eq=False)
class Device:
    mode: Mode = Mode.DISABLED
    closed: bool = False
    size: int = 0  # words, with the count word
    area: list[Step] = field(default_factory=list)
    dropped: int = 0
    sequence: int = 0  # moves at each disable; names one session
    owner: Task | None = None
    section_size: int = 0  # words of a section's area, with the count word
    handles: set[int] = field(default_factory=set)  # the common handle is one of them

    def take(self, events: list[Step], lost: int = 0) -> None:
        """Append what fits; what does not, and what was lost before, is counted."""
        room = self.size - 1 - len(self.area)
        self.area += events[:room]
        self.dropped += len(events[room:]) + lost


@dataclass(frozen=True)
class Common:
    """A common handle: the session that it is of."""

    handle: int
    device: Device
    sequence: int

    @property
    def stale(self) -> bool:
        return self.sequence != self.device.sequence


@dataclass(eq=False)
class Collection:
    """What the open sections of one task collect for one session of one device."""

    device: Device
    sequence: int
    events: list[Step] = field(default_factory=list)
    lost: int = 0
    merged: int = 0  # of the events; what sync() brought in still takes its room here
    number: int = field(default_factory=itertools.count().__next__)  # in order of their start

    @property
    def stale(self) -> bool:
        return self.sequence != self.device.sequence or self.device.mode is not Mode.REMOTE

    def add(self, event: Step) -> None:
        if len(self.events) < self.device.section_size - 1:
            self.events.append(event)
        else:
            self.lost += 1

    def merge(self) -> None:
        """Move everything into the device, unless its session is over."""
        if not self.stale:
            self.device.take(self.events[self.merged :], self.lost)
        self.merged, self.lost = len(self.events), 0


@dataclass(eq=False)
class Task:
    """Whoever runs: what it owns, its open sections, the common handle that its children get."""

    local: Device | None = None
    remote: Device | None = None
    sections: list[Collection | None] = field(default_factory=list)  # None: nobody listened
    # Common handles with their device and session, the newest first: the first one whose session
    # is not over is the task's.
    commons: tuple[Common, ...] = ()

    def collections(self) -> list[Collection]:
        """Each once, in the order in which they were opened."""
        return list(dict.fromkeys(c for c in self.sections if c is not None))


class System:
    """All devices, all tasks and the one map of handles."""

    def __init__(self, rules: Rules = PYKCOV) -> None:
        self.rules = rules
        self.devices: list[Device] = []
        self.tasks: list[Task] = []

    # Devices

    def open(self) -> Device:
        self.devices.append(Device())
        return self.devices[-1]

    def init_trace(self, device: Device, size: int) -> str:
        if device.closed:
            return "EBADF"
        if not 2 <= size <= MAX_SIZE:
            return "EINVAL"
        if device.mode is not Mode.DISABLED:
            return "EBUSY"
        device.mode, device.size = Mode.INIT, size
        return "ok"

    def enable(self, task: Task, device: Device, mode: int) -> str:
        if device.closed:
            return "EBADF"
        if device.mode is not Mode.INIT:
            return "EINVAL"
        if task.local or (task.remote and not self.rules.local_beside_remote):
            return "EBUSY"
        if mode != 0:
            return "EINVAL"
        device.mode, device.owner, task.local = Mode.LOCAL, task, device
        return "ok"

    def mmap(self, device: Device, length: int) -> str:
        """`length` in bytes."""
        if device.closed:
            return "EBADF"
        wanted = 8 * device.size
        if not self.rules.any_size_can_be_mapped and wanted % PAGE:
            return "EINVAL"
        if not self.rules.length_is_exact and wanted % PAGE == 0:
            length = -(-length // PAGE) * PAGE
        return "ok" if length == wanted > 0 else "EINVAL"

    def remote_enable(
        self, task: Task, device: Device, handles: list[int], common: int, area_size: int
    ) -> str:
        if device.closed:
            return "EBADF"
        if len(handles) > self.rules.max_handles:
            return "EINVAL"
        if device.mode is not Mode.INIT:
            return "EINVAL"
        if task.remote or (task.local and not self.rules.local_beside_remote):
            return "EBUSY"
        smallest, largest = self.rules.section_area
        if not smallest <= area_size <= largest:
            return "EINVAL"
        refusal = self._refuse(handles, common)
        if refusal:
            if not self.rules.inherited_handle_is_kept:
                task.commons = ()
            return refusal
        device.mode, device.owner, task.remote = Mode.REMOTE, task, device
        device.section_size = area_size
        device.handles = {*handles, common} - {0}
        if common:
            task.commons = (Common(common, device, device.sequence), *task.commons)
        return "ok"

    def _refuse(self, handles: list[int], common: int) -> str:
        """The errno of the first handle that cannot be had."""
        taken = {handle for other in self.devices for handle in other.handles}
        for handle in handles:
            good = handle if self.rules.any_value_in_handles else handle >> 32 == USB >> 32
            if not good:
                return "EINVAL"
            if handle in taken:
                return "EEXIST"
            taken.add(handle)
        if common >> self.rules.common_handle_bits:
            return "EINVAL"
        return "EEXIST" if common and common in taken else ""

    def disable(self, task: Task, device: Device, arg: int) -> str:
        if device.closed:
            return "EBADF"
        if arg != 0 or device.owner is not task:
            return "EINVAL"
        self._end_session(device)
        return "ok"

    def _end_session(self, device: Device) -> None:
        task = device.owner
        assert task is not None
        if not self.rules.inherited_handle_is_kept:
            task.commons = ()
        if device is task.remote:
            task.remote = None
        else:
            task.local = None
        device.mode, device.owner, device.handles = Mode.INIT, None, set()
        device.sequence += 1

    def close(self, device: Device) -> None:
        """A device that is enabled stays so until its owner ends: its mapping holds it."""
        device.closed = True

    def sync(self, device: Device) -> str:
        if device.closed:
            return "EBADF"
        found = [c for task in self.tasks for c in task.collections() if c.device is device]
        for collection in sorted(found, key=lambda c: c.number):
            collection.merge()
        return "ok"

    # Tasks

    def begin(self, parent: Task | None = None) -> Task:
        """A child gets the common handle of its parent, and nothing else."""
        self.tasks.append(Task(commons=parent.commons if parent else ()))
        return self.tasks[-1]

    def end(self, task: Task) -> bool:
        """Return whether there is a warning: it ended inside a section that somebody listens to."""
        warning = any(not collection.stale for collection in task.collections())
        for collection in task.collections():
            collection.merge()
        for device in (task.local, task.remote):
            if device:
                self._end_session(device)
        self.tasks.remove(task)
        return warning

    def common_handle(self, task: Task) -> int:
        common = self.common(task)
        return common.handle if common else 0

    def common(self, task: Task) -> Common | None:
        """The task's common handle, as it is passed on with work."""
        live = (common for common in task.commons if self._matches(common))
        return next(live, None)

    def _matches(self, common: Common) -> bool:
        return not (self.rules.stale_handles_match_nothing and common.stale)

    # Sections and work

    def start(self, task: Task, handle: int) -> None:
        found = next((device for device in self.devices if handle in device.handles), None)
        if found is None:
            task.sections.append(None)
            return
        for collection in task.collections():
            if collection.device is found and collection.sequence == found.sequence:
                task.sections.append(collection)  # each event once for that device
                return
        task.sections.append(Collection(found, found.sequence))

    def start_common(self, task: Task, common: Common | None) -> None:
        """Start a section of a handle that was passed on."""
        self.start(task, common.handle if common and self._matches(common) else 0)

    def stop(self, task: Task) -> bool:
        """Return whether there is a warning: no section is open."""
        if not task.sections:
            return True
        collection = task.sections.pop()
        if collection is not None and collection not in task.sections:
            collection.merge()
        return False

    def work(self, task: Task, events: list[Step]) -> None:
        for event in events:
            if task.local:
                task.local.take([event])
            for collection in task.collections():
                collection.add(event)
