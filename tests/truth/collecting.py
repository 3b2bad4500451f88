"""Who collects what: the model of devices, sections and collect() that the expectation comes from.

This is the contract in its shortest form. An event goes to the task's local device and, once, to each device
that has a section open in the task. A section counts when it stops, if its device is still in the
session that it started in. What does not fit is counted. A collect() is a device that everything follows
which its block creates: tasks, threads, jobs, and contexts that are copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .values import Event

UNLIMITED = 1 << 40


@dataclass(eq=False)
class Collection:
    """Who gets events: a device, or a collect()."""

    key: str
    files: frozenset[int]
    """Numbers of the files in its scope."""
    room: int
    """PCs that its area holds."""
    section_room: int = UNLIMITED
    session: int = 0
    """Moves at each enable and disable."""
    handles: tuple[int, ...] = ()
    runs: list[Run] = field(default_factory=list)
    """What came into its area, in the order of arrival, since it was emptied."""
    lost: int = 0
    """Dropped before it was emptied."""
    process: int = 0
    """Whose it is, while it is enabled."""

    def kept(self) -> int:
        """Number of PCs in its area."""
        return min(self.room, sum(len(run.kept()) for run in self.runs))

    def dropped(self) -> int:
        return self.lost + sum(len(run.events) for run in self.runs) - self.kept()


@dataclass(eq=False)
class Run:
    """A stretch of one task's trace that goes to one collection: a section, or local collecting."""

    to: Collection
    session: int
    task: int
    thread: str
    handle: int
    room: int = UNLIMITED
    nested: bool = False
    """Another one of the same collection is open around it and has its events."""
    process: int = 0
    """The number of the process that it happened in."""
    events: list[Event] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        return self.to.session == self.session

    def kept(self) -> list[Event]:
        return self.events[: self.room]

    def finish(self) -> None:
        """It stops. It is lost as a whole if the device was disabled in between."""
        if self.counts and not self.nested:
            self.to.runs.append(self)


class Common(int):
    """What common_handle() returns: it knows its session, so that a stale one matches nothing."""

    session: tuple[Collection, int]


@dataclass(frozen=True)
class Inherited:
    """A common handle, as a task has it and hands it on; `outer` is what it had before."""

    handle: int
    to: Collection
    session: int
    follow: bool
    outer: Inherited | None

    @property
    def live(self) -> bool:
        return self.to.session == self.session


class Task:
    """On whose behalf something runs."""

    def __init__(
        self, number: int, thread: str, inherited: Inherited | None, process: int = 0
    ) -> None:
        self.number = number
        self.thread = thread
        self.process = process
        self.stream: list[Event] = []
        self.local: Run | None = None
        self.sections: list[Run | None] = []
        self.following: list[Run] = []
        self.inherited = inherited
        for found in self.chain():
            if found.follow:
                self.follow(found)

    def chain(self) -> Iterator[Inherited]:
        """The common handles in force that it has, innermost first."""
        found = self.inherited
        while found is not None:
            if found.live:
                yield found
            found = found.outer

    def open_run(self, to: Collection, handle: int) -> Run:
        nested = any(
            run.to is to and run.counts for run in [*self.following, *self.sections] if run
        )
        return Run(
            to, to.session, self.number, self.thread, handle, to.section_room, nested, self.process
        )

    def follow(self, found: Inherited) -> Run:
        run = self.open_run(found.to, found.handle)
        self.following.append(run)
        # It ends when its task or the block does: as nothing is recorded in between, at once is as good.
        run.finish()
        return run

    def happens(self, event: Event) -> None:
        self.stream.append(event)
        file = event[1]
        if self.local is not None and self.local.counts and file in self.local.to.files:
            self.local.events.append(event)
        for run in self.following:
            if run.counts and not run.nested and file in run.to.files:
                run.events.append(event)
        for section in self.sections:
            if (
                section is not None
                and section.counts
                and not section.nested
                and file in section.to.files
            ):
                section.events.append(event)

    def die(self) -> None:
        """Its process ends: what its sections and its local device have by now is what they get."""
        for run in (*self.sections, self.local):
            if run is not None:
                run.finish()
        self.sections, self.following, self.local = [], [], None


class Registry:
    """Who has which handle."""

    def __init__(self) -> None:
        self.by_handle: dict[int, Collection] = {}

    def enable(self, to: Collection, handles: tuple[int, ...], process: int) -> None:
        taken = [h for h in handles if h in self.by_handle]
        if taken:
            raise AssertionError(f"the scenario uses {taken[0]:#x} twice")
        to.session += 1
        to.process = process
        to.handles = handles
        self.by_handle.update(dict.fromkeys(handles, to))

    def disable(self, to: Collection) -> None:
        to.session += 1
        for handle in to.handles:
            del self.by_handle[handle]
        to.handles = ()

    def die(self, process: int) -> None:
        """A process is gone, and the handles that it had enabled are free."""
        for to in {to for to in self.by_handle.values() if to.process == process}:
            self.disable(to)

    def find(self, handle: int) -> Collection | None:
        found = self.by_handle.get(handle)
        if found is not None and isinstance(handle, Common):
            return found if handle.session == (found, found.session) else None
        return found
