"""Who collects what: the model of devices, sections and collect() that the expectation comes from.

This is the contract in its shortest form: an event goes to the task's local device and to each device that
has a section open in the task, once; a section counts when it stops, if its device is still in the
session that it started in; what does not fit is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .values import Event


@dataclass(eq=False)
class Collection:
    """Who gets events: a device, or a collect()."""

    key: str
    files: frozenset[int]
    """Numbers of the files in its scope."""
    room: int
    """PCs that its area holds."""
    mode: str = ""
    session: int = 0
    """Moves at each enable and disable."""
    section_room: int = 0
    owner: Task | None = None
    handles: tuple[int, ...] = ()
    runs: list[Run] = field(default_factory=list)
    """What came into its area, in the order of arrival."""
    in_order: bool = True
    """The order of arrival does not depend on who is faster."""


@dataclass(eq=False)
class Run:
    """A stretch of one task's trace that goes to one collection: a section, or local collecting."""

    to: Collection
    session: int
    task: Task
    thread: str
    handle: int
    nested: bool = False
    """Another one of the same collection is open around it and has its events."""
    room: int | None = None
    """PCs that fit; None: as many as in its area."""
    events: list[Event] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        return self.to.session == self.session

    def kept(self) -> list[Event]:
        return self.events if self.room is None else self.events[: self.room]


class Common(int):
    """A common handle that a task carries. It knows its session: a stale one matches nothing."""

    to: Collection
    session: int


class Task:
    """On whose behalf something runs."""

    def __init__(self, number: int, origin: Task | None) -> None:
        self.number = number
        self.stream: list[Event] = []
        self.local: Run | None = None
        self.remote: Collection | None = None
        self.sections: list[Run | None] = []
        self.following: list[Run] = []
        self.common: Common | None = None
        if origin is not None:
            self.inherit(origin)

    def inherit(self, origin: Task) -> None:
        """What a task hands to those that it creates: its common handle, and who follows it."""
        self.common = origin.common
        for run in origin.following:
            if run.counts:
                self.follow(run.to)

    def follow(self, collection: Collection) -> Run:
        run = Run(collection, collection.session, self, "", 0)
        run.nested = any(r.to is collection and r.counts for r in self.open())
        self.following.append(run)
        return run

    def open(self) -> list[Run]:
        """Everything that collects from this task, from the outside inwards."""
        runs = [*self.following, *(s for s in self.sections if s is not None)]
        return runs if self.local is None else [self.local, *runs]

    def happens(self, event: Event) -> None:
        self.stream.append(event)
        for run in self.open():
            if event[1] in run.to.files:
                run.events.append(event)
