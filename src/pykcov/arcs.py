"""Activations, and arcs, out of an ordered stream of entries and lines.

The reconstruction behind ``Trace.arcs()``, which documents its limits, and behind calls.py.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple

from .codemap import Place

__all__ = ["Activation", "Key", "Stop", "Walk", "find_arcs", "one_liners_of", "stops_of", "walk"]

Key = tuple[str, str]  # file and qualified name of a function
Arc = tuple[int, int]

# More activations than this are not one stack of calls but callbacks from code outside the scope,
# whose returns we cannot see; the oldest are then taken to have returned, so that memory stays
# bounded.
_DEEPEST = 20_000
# How many activations of one function are remembered when left, in case they were only suspended (a
# generator).
_SUSPENDED = 64


class Stop(NamedTuple):
    """What one PC means for the walk."""

    is_entry: bool
    line: int
    key: Key
    arcs: set[Arc]  # of its file


class Activation:
    """One run of one function, as far as the stream shows it."""

    __slots__ = ("first", "key", "last")

    def __init__(self, key: Key, first: int | None) -> None:
        self.key = key
        self.first = first  # None: it was already running
        # The line before the next one: -first before any line, None if unknown.
        self.last = None if first is None else -first


class Walk:
    """The stack of activations of one stream of events."""

    def __init__(self, arcs: dict[str, set[Arc]], one_liners: set[Key]) -> None:
        self.arcs = arcs
        self.one_liners = one_liners
        self.stack: list[Activation] = []
        self.depth: Counter[Key] = Counter()  # how many activations of a function are on the stack
        self.left: dict[Key, list[Activation]] = {}  # popped: returned, or suspended

    def run(self, pcs: array[int], stops: Mapping[int, Stop]) -> None:
        """Go on with these events."""
        top: Activation | None = self.stack[-1] if self.stack else None
        for pc in pcs:
            stop = stops.get(pc)
            if stop is None:
                continue
            is_entry, line, key, arcs = stop
            if is_entry:
                top = Activation(key, line)
                self._push(top)
                continue
            if top is None or top.key is not key:
                top = self._activation_at(top, line, key)
            if top.last is not None:
                arcs.add((top.last, line))
            top.last = line

    def end(self) -> None:
        """Leave everything: code that was entered in a section has been left when it ends."""
        for activation in self.stack:
            self._leave(activation)
        for suspended in self.left.values():
            for activation in suspended:
                self._leave(activation)

    def _activation_at(self, top: Activation | None, line: int, key: Key) -> Activation:
        """Return whose line it is, where ``top`` is the newest activation and of another function."""
        # A line has one PC, and so one function, though a lambda on it is another one: the line
        # on which the newest activation began is that activation's, whatever its function.
        if top is not None and top.first == line and top.key[0] == key[0]:
            return top
        return self._find(key)

    def _find(self, key: Key) -> Activation:
        if key in self.one_liners:
            # Not entered just now, so this is the statement around it.
            key = next((outer for outer in _around(key) if self.depth[outer]), key)
        if self.depth[key]:
            while self.stack[-1].key != key:
                self._pop()
            return self.stack[-1]
        suspended = self.left.get(key)
        activation = suspended.pop() if suspended else Activation(key, None)
        self._push(activation)
        return activation

    def _push(self, activation: Activation) -> None:
        if len(self.stack) >= _DEEPEST:
            for oldest in self.stack[: _DEEPEST // 2]:
                self.depth[oldest.key] -= 1
                self._leave(oldest)
            del self.stack[: _DEEPEST // 2]
        self.stack.append(activation)
        self.depth[activation.key] += 1

    def _pop(self) -> None:
        activation = self.stack.pop()
        self.depth[activation.key] -= 1
        suspended = self.left.setdefault(activation.key, [])
        suspended.append(activation)
        if len(suspended) > _SUSPENDED:
            self._leave(suspended.pop(0))

    def _leave(self, activation: Activation) -> None:
        if activation.first is not None and activation.last is not None and activation.last > 0:
            self.arcs[activation.key[0]].add((activation.last, -activation.first))


def find_arcs(
    pcs: array[int],
    places: Mapping[int, Place],
    sections: Iterable[tuple[int, int, Hashable]],
) -> dict[str, set[Arc]]:
    """Return the arcs of each file; ``sections`` as for ``walk``."""
    stops = stops_of(places)
    arcs = {stop.key[0]: stop.arcs for stop in stops.values()}
    one_liners = one_liners_of(stops.values())
    walk(pcs, sections, stops, lambda _: Walk(arcs, one_liners))
    return {file: found for file, found in arcs.items() if found}


def walk(
    pcs: array[int],
    sections: Iterable[tuple[int, int, Hashable]],
    stops: Mapping[int, Stop],
    new: Callable[[Hashable], Walk],
) -> None:
    """Let a walk of its own, made by ``new(whose)``, run over the events of each outermost section.

    ``sections`` are (start, end, whose): indexes into ``pcs``, and the same ``whose`` for all parts
    of a section that was moved in parts; None is what lies in no section.
    """
    cut = list(_parts(len(pcs), sections))
    rest = Counter(whose for _, _, whose in cut)
    walks: dict[Hashable, Walk] = {}
    for start, end, whose in cut:
        if whose not in walks:
            walks[whose] = new(whose)
        walks[whose].run(pcs[start:end], stops)
        rest[whose] -= 1
        if not rest[whose]:
            walks.pop(whose).end()


def stops_of(places: Mapping[int, Place]) -> dict[int, Stop]:
    """Return what the PCs of entries and lines mean for a walk."""
    arcs: dict[str, set[Arc]] = {}
    keys: dict[Key, Key] = {}  # one object for each key, so that `is` compares them
    stops = {}
    for pc, place in places.items():
        if place.kind in ("line", "entry"):
            key = place.file, place.function
            stops[pc] = Stop(
                place.kind == "entry",
                place.line,
                keys.setdefault(key, key),
                arcs.setdefault(place.file, set()),
            )
    return stops


def _parts(
    length: int, sections: Iterable[tuple[int, int, Hashable]]
) -> Iterator[tuple[int, int, Hashable]]:
    """Cut 0 … length into the outermost sections and what lies between them, which is nobody's.

    A section inside another one ran in the same task and continues its stack. What lies between is
    the device's own task, whose events go on after a section of another task was moved in.
    """
    done = 0
    for start, end, whose in sorted(sections, key=lambda part: (part[0], -part[1])):
        if start < done or start >= end:
            continue
        if done < start:
            yield done, start, None
        yield start, end, whose
        done = end
    if done < length:
        yield done, length, None


def one_liners_of(stops: Iterable[Stop]) -> set[Key]:
    """Return the functions of one line in the trace, perhaps part of a statement there."""
    lines: dict[Key, set[int]] = {}
    for stop in stops:
        lines.setdefault(stop.key, set()).add(stop.line)
    return {key for key, found in lines.items() if len(found) == 1}


def _around(key: Key) -> Iterator[Key]:
    """Yield what is around a function, inner first; f.<locals>.C, f, … around f.<locals>.C.m."""
    file, name = key
    while name and name != "<module>":
        name = name.rpartition(".")[0].removesuffix(".<locals>")
        yield file, name or "<module>"
