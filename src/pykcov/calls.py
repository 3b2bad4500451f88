"""Who called whom: a tree of functions for each task, out of an ordered stream of entries and lines.

By the same walk as the arcs (arcs.py), with the same limits: the stream has no returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from .arcs import Activation, Key, Stop, Walk, one_liners_of, stops_of, walk
from .trace import SectionRecord, Trace

__all__ = ["Call", "TaskCalls", "calls_of"]


@dataclass(slots=True)
class Call:
    """A function where it was called: how often it was entered there, and the events of its own.

    ``line`` is its first line; 0 if it was already running. A function that calls itself, directly
    or not, is one with its outer call.
    """

    file: str
    function: str
    line: int = 0
    calls: int = 0
    events: int = 0
    children: dict[Key, Call] = field(default_factory=dict)


@dataclass(slots=True)
class TaskCalls:
    """What one task did: its sections, none for what is in no section, and the calls in them."""

    sections: list[SectionRecord] = field(default_factory=list)
    top: Call = field(default_factory=lambda: Call("", ""))


class _CallWalk(Walk):
    def __init__(self, one_liners: set[Key], top: Call) -> None:
        super().__init__({}, one_liners)
        self.top = top
        self.calls: dict[Activation, Call] = {}

    def run(self, pcs: array[int], stops: Mapping[int, Stop]) -> None:
        top = self.stack[-1] if self.stack else None
        for is_entry, line, key, _ in filter(None, map(stops.get, pcs)):
            if is_entry:
                top = Activation(key, line)
                self._push(top)
            elif top is None or top.key is not key:
                top = self._activation_at(top, line, key)
            self.calls[top].events += 1

    def end(self) -> None:
        """There is nothing to be said of how it ended."""

    def _push(self, activation: Activation) -> None:
        if activation not in self.calls:  # else it goes on
            self.calls[activation] = call = self._called(activation.key)
            if activation.first is not None:
                call.calls += 1
                call.line = activation.first
        super()._push(activation)

    def _leave(self, activation: Activation) -> None:
        self.calls.pop(activation, None)

    def _called(self, key: Key) -> Call:
        if self.depth[key]:
            return next(self.calls[a] for a in reversed(self.stack) if a.key == key)
        parent = self.calls[self.stack[-1]] if self.stack else self.top
        return parent.children.setdefault(key, Call(*key))


def calls_of(trace: Trace) -> list[TaskCalls]:
    """Return what each task called, in order of their begin; what is in no section comes first."""
    tasks: dict[Hashable, TaskCalls] = {}
    whose: dict[Hashable, Hashable] = {None: None}
    for section in sorted(trace.sections, key=lambda section: section.began_ns):
        task = (section.pid, section.task)
        whose[(*task, section.began_ns)] = task
        tasks.setdefault(task, TaskCalls()).sections.append(section)
    stops = stops_of(trace.places)
    one_liners = one_liners_of(stops.values())

    def new(part: Hashable) -> Walk:
        return _CallWalk(one_liners, tasks.setdefault(whose[part], TaskCalls()).top)

    parts = ((s.start, s.end, (s.pid, s.task, s.began_ns)) for s in trace.sections)
    walk(trace.pcs, parts, stops, new)
    return sorted(tasks.values(), key=lambda task: bool(task.sections))
