"""The frozen result of a collection: PCs in order of execution, their places, what was lost.

A ``Trace`` opens nothing and locks nothing, except that ``save`` and ``load`` open the one file
they are told to (its format is in tracefile.py). It carries the places of its own PCs, so that it
can be read where the sources, and the namespace that gave the PCs, are gone.
"""

from __future__ import annotations

import itertools
import operator
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, SupportsIndex, final

from . import _recorder, tracefile
from .arcs import find_arcs
from .codemap import PYTHON_PC_BASE, Place
from .comparisons import Comparisons
from .symbolize import Location, locate

__all__ = ["FileCount", "SectionRecord", "Trace"]


class SectionRecord(NamedTuple):
    """One remote section of a trace: for which handle it ran, who ran it, which part it is.

    ``start`` and ``end`` are indexes into ``Trace.pcs`` (``pcs[start:end]`` is the section);
    ``began_ns`` and ``ended_ns`` are nanoseconds of CLOCK_MONOTONIC on the machine that recorded
    it.
    """

    handle: int
    pid: int
    tid: int
    thread: str
    task: int
    start: int
    end: int
    began_ns: int
    ended_ns: int


class FileCount(NamedTuple):
    """How much of one file a trace holds: distinct lines and entries, and events of every kind."""

    lines: int
    functions: int
    events: int


@final
class Trace:
    """What one collection saw. Immutable; ``pcs`` is to be read, not written.

    ``pcs`` are the recorded PCs in order, with repeats; ``places`` gives the place of each of them
    that has one; ``sections`` the remote sections, if the device kept a record of them; ``dropped``
    how many events happened and did not fit; ``probe`` which kind of probe was at work ('compiled',
    'sys.monitoring', 'trace function', 'comparisons'); ``sources`` which version of each file ran; ``comparisons`` what
    was compared, of a collection with TRACE_CMP: there is one for each PC.

    ``a | b``, ``a & b`` and ``a - b`` work on the sets of PCs: the result holds each PC once, in
    the order of its first event in ``a`` (then ``b``). It has no sections and no comparisons, and its ``dropped`` is
    the sum of both, since either loss may have changed it. Places are compared where both traces
    have them: two namespaces, of two runs say, number the same places differently, and the result
    has the PCs of ``a``; the kernel's PCs are compared as they are. Two traces are equal if they recorded the same PCs
    in the same order, and compared the same; compare ``set(a)`` with ``set(b)`` for less.
    """

    __slots__ = (
        "_comparisons", "_counts", "_dropped", "_pcs", "_places", "_probe", "_sections", "_sources",
    )  # fmt: skip

    def __init__(
        self,
        pcs: Iterable[int] = (),
        *,
        places: Mapping[int, Place],
        sections: Sequence[SectionRecord] = (),
        dropped: int = 0,
        probe: str = "",
        sources: Mapping[str, Iterable[str]] = MappingProxyType({}),
        comparisons: Comparisons | None = None,
    ) -> None:
        """Copy ``pcs`` (values below 2^64), and of ``places`` the part that these PCs need."""
        self._pcs = array("Q", pcs)
        self._counts = _recorder.tally(self._pcs)
        self._places = MappingProxyType(
            {pc: place for pc in self._counts if (place := places.get(pc)) is not None}
        )
        self._sources = MappingProxyType({file: tuple(of) for file, of in sources.items()})
        comparisons = comparisons or Comparisons()
        self._comparisons = Comparisons(comparisons.words, comparisons.operands, self._places)
        self._sections = tuple(sections)
        self._dropped = dropped
        self._probe = probe

    @property
    def pcs(self) -> array[int]:
        """The recorded PCs, an ``array('Q')``, in order of execution within each section."""
        return self._pcs

    @property
    def counts(self) -> Mapping[int, int]:
        """How often each distinct PC was recorded, in order of the first time."""
        return MappingProxyType(self._counts)

    @property
    def places(self) -> Mapping[int, Place]:
        """The place of each distinct PC of this trace; PCs that no code map knew are absent."""
        return self._places

    @property
    def comparisons(self) -> Comparisons:
        """What was compared, in order of execution within each section: a sequence of ``Comparison``."""
        return self._comparisons

    @property
    def sections(self) -> tuple[SectionRecord, ...]:
        """The remote sections in order of their moves; empty if the device has no room for them."""
        return self._sections

    @property
    def dropped(self) -> int:
        """How many events happened and did not fit into the area, or into a section's."""
        return self._dropped

    @property
    def probe(self) -> str:
        """Which kind of probe recorded the events; '' if unknown."""
        return self._probe

    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """Which versions of each file ran: digests of its text, 16 hex digits each.

        More than one if the file was changed meanwhile. Code that is not from the text that the file had when it ran
        has a digest of its own, which no text has; files whose text nobody could read are absent.
        """
        return self._sources

    def symbolize(self, pc: SupportsIndex) -> Location:
        """Do what ``pykcov.symbolize`` does, by this trace's own places."""
        number = operator.index(pc)
        return locate(number, self._places.get(number))

    def lines(self) -> dict[str, set[int]]:
        """Return for each file the lines on which a statement started: coverage.py's lines."""
        result: dict[str, set[int]] = {}
        for place in self._places.values():
            if place.kind == "line":
                result.setdefault(place.file, set()).add(place.line)
        return result

    def functions(self) -> dict[str, set[str]]:
        """Return for each file the names of the functions, class bodies and lambdas entered.

        The names are qualified. A function that was already running when the collection began is
        not entered again and not listed. Modules are left out.
        """
        result: dict[str, set[str]] = {}
        for place in self._places.values():
            if place.kind == "entry" and place.function != "<module>":
                result.setdefault(place.file, set()).add(place.function)
        return result

    def kernel(self) -> dict[str, set[str]]:
        """Return for each file of the kernel's source the functions that were executed.

        Without debug information they are under '[kernel]' and '[module]'. ``lines`` and ``functions`` have Python's
        only.
        """
        result: dict[str, set[str]] = {}
        for place in self._places.values():
            if place.kind == "kernel":
                result.setdefault(place.file, set()).add(place.function)
        return result

    def files(self) -> dict[str, FileCount]:
        """Return the summary of each file, by name; events of unknown place are under ''.

        The events of all files add up to ``len(trace)``. Functions are counted by place, so that
        two lambdas are two.
        """
        events: Counter[str] = Counter()
        entries: Counter[str] = Counter()
        for pc, count in self._counts.items():
            place = self._places.get(pc)
            events[place.file if place else ""] += count
            if place and place.kind == "entry" and place.function != "<module>":
                entries[place.file] += 1
        lines = self.lines()
        for place in self._places.values():
            if place.kind == "kernel" and place.line:
                lines.setdefault(place.file, set()).add(place.line)
        for file, functions in self.kernel().items():
            entries[file] += len(functions)
        return {
            file: FileCount(len(lines.get(file, ())), entries[file], events[file])
            for file in sorted(events)
        }

    def arcs(self) -> dict[str, set[tuple[int, int]]]:
        """Return for each file the jumps (from line, to line), in coverage.py's convention.

        (-n, m): code whose first line is n was entered and began on line m; (m, -n): it was left
        after line m.

        The stream has entries and lines but no returns, so this is a reconstruction: a stack of
        activations for each outermost section, on which an entry pushes and a line of another
        function pops to it. What it cannot know:

        * When a function calls itself, the lines after the inner call's return are taken for the
          inner call's: an arc from the inner call's last line appears, and the one from the line of
          the call is missing.
        * Of several suspended generators or coroutines of one function, the one suspended last is
          taken to resume; one that never resumes is taken to have been left where it stopped.
        * A frame that was already running has no entry, and its first line and its end give no arc.
        * In a merged stream without a record of sections (``sections=`` of ``open()``), an arc may
          join the end of one section to the begin of the next if both are in the same function.
        * Two functions of one file with the same qualified name are one; and where events were
          dropped, an arc may skip over them.
        """
        parts = ((s.start, s.end, (s.pid, s.tid, s.task, s.began_ns)) for s in self._sections)
        return find_arcs(self._pcs, self._places, parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace to ``path``, whole or not at all.

        A file that is there is replaced, and its mode kept. KcovError with the system's errno.
        """
        tracefile.write(
            path,
            tracefile.Contents(
                self._pcs,
                self._places,
                self._sections,
                self._dropped,
                self._probe,
                self._sources,
                self._comparisons.words,
                self._comparisons.operands,
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read what ``save`` wrote.

        KcovError: EINVAL for what is not a whole trace, else the system's errno.
        """
        found = tracefile.read(path)
        return cls(
            found.pcs,
            places=found.places,
            sections=[SectionRecord(*row) for row in found.sections],
            dropped=found.dropped,
            probe=found.probe,
            sources=found.sources,
            comparisons=Comparisons(found.comparisons, found.operands),
        )

    @classmethod
    def join(cls, traces: Iterable[Trace]) -> Trace:
        """Return one trace with all events, comparisons and sections of these, one trace after the other.

        PCs are those of the first trace that has the place.
        """
        every = list(traces)
        if len(every) == 1:
            return every[0]
        numbers = _Numbers()
        pcs: array[int] = array("Q")
        sections: list[SectionRecord] = []
        comparisons = []
        for trace in every:
            moved = len(pcs)
            sections += [
                s._replace(start=s.start + moved, end=s.end + moved) for s in trace._sections
            ]
            changed = numbers.take(trace._places)
            own = trace._pcs
            pcs.extend(array("Q", map(changed.get, own, own)) if changed else own)
            comparisons.append((trace._comparisons, changed))
        return _together(every, pcs, numbers, sections, Comparisons.join(comparisons))

    def _distinct(self, numbers: _Numbers) -> dict[int, None]:
        changed = numbers.take(self._places)
        return dict.fromkeys(map(changed.get, self._counts, self._counts))

    def __or__(self, other: object) -> Trace:
        if not isinstance(other, Trace):
            return NotImplemented
        numbers = _Numbers()
        pcs = self._distinct(numbers) | other._distinct(numbers)
        return _together((self, other), pcs, numbers)

    def __and__(self, other: object) -> Trace:
        if not isinstance(other, Trace):
            return NotImplemented
        numbers = _Numbers()
        own, others = self._distinct(numbers), other._distinct(numbers)
        return _together((self, other), (pc for pc in own if pc in others), numbers)

    def __sub__(self, other: object) -> Trace:
        if not isinstance(other, Trace):
            return NotImplemented
        numbers = _Numbers()
        own, others = self._distinct(numbers), other._distinct(numbers)
        return _together((self, other), (pc for pc in own if pc not in others), numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return self._pcs == other._pcs and self._comparisons == other._comparisons

    def __hash__(self) -> int:
        return hash((len(self._pcs), frozenset(self._counts)))

    def __reduce__(self) -> tuple[object, ...]:
        places, sources = dict(self._places), dict(self._sources)
        comparisons = self._comparisons.words, self._comparisons.operands
        return _unpickled, (
            self._pcs, places, self._sections, self._dropped, self._probe, sources, comparisons,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._pcs)

    def __iter__(self) -> Iterator[int]:
        return iter(self._pcs)

    def __contains__(self, pc: object) -> bool:
        return pc in self._counts

    def __repr__(self) -> str:
        files = len({place.file for place in self._places.values()})
        return (
            f"<Trace: {len(self._pcs)} events, {len(self._counts)} distinct, in {files} files; "
            f"{self._dropped} dropped>"
        )


class _Numbers:
    """One PC for each place, whatever it was in the namespaces of several traces."""

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self._pcs: dict[Place, list[int]] = {}  # two arms may have all in common that a Place says
        # As far from what code maps give as Python's PCs go.
        self._fresh = itertools.count(PYTHON_PC_BASE + (1 << 47))

    def take(self, places: Mapping[int, Place]) -> dict[int, int]:
        """Take in the places of one more trace; return which of its PCs are another one here."""
        same = {pc for pc, place in places.items() if self.places.get(pc) == place}
        taken = set(same)
        changed: dict[int, int] = {}
        for pc in places.keys() - same if same else places:
            place = places[pc]
            known = None
            if (
                place.kind != "kernel"
            ):  # many of its PCs have one place, and all namespaces have the same
                known = next((pc for pc in self._pcs.get(place, ()) if pc not in taken), None)
            if known is None:
                known = next(self._fresh) if pc in self.places else pc
                self._pcs.setdefault(place, []).append(known)
                self.places[known] = place
            if known != pc:
                changed[pc] = known
            taken.add(known)
        return changed


def _together(
    traces: Iterable[Trace],
    pcs: Iterable[int],
    numbers: _Numbers,
    sections: Sequence[SectionRecord] = (),
    comparisons: Comparisons | None = None,
) -> Trace:
    """Return the trace with these PCs that has what is not PCs from all of ``traces``."""
    probes: dict[str, None] = {}
    sources: dict[str, dict[str, None]] = {}
    dropped = 0
    for trace in traces:
        dropped += trace.dropped
        if trace.probe:
            probes[trace.probe] = None
        for file, versions in trace.sources.items():
            sources.setdefault(file, {}).update(dict.fromkeys(versions))
    return Trace(
        pcs,
        places=numbers.places,
        sections=sections,
        comparisons=comparisons,
        dropped=dropped,
        probe=", ".join(probes),
        sources=sources,
    )


def _unpickled(
    pcs: array[int],
    places: dict[int, Place],
    sections: tuple[SectionRecord, ...],
    dropped: int,
    probe: str,
    sources: dict[str, tuple[str, ...]],
    comparisons: tuple[array[int], bytes],
) -> Trace:
    return Trace(
        pcs,
        places=places,
        sections=sections,
        dropped=dropped,
        probe=probe,
        sources=sources,
        comparisons=Comparisons(*comparisons),
    )
