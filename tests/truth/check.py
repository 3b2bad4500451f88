"""Runs a program under pykcov and compares what each collection got with what it had to get."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pykcov

from .collecting import Collection, Run
from .family import Home, family
from .programs import Expected, Program
from .stage import Stage, Told, listen
from .values import Event

Trace = Sequence[Event]
MAIN_HANDLE = 0x99


class Reader:
    """Turns PCs into events. A PC means the same for the whole life of a process."""

    def __init__(self, paths: list[Path]) -> None:
        self.files = {str(path): number for number, path in enumerate(paths)}
        self.known: dict[int, Event] = {}
        self.places: dict[Any, int] = {}
        self.twice: list[str] = []

    def events(self, pcs: Iterable[int]) -> list[Event]:
        return [self.known.get(pc) or self.event(pc) for pc in pcs]

    def event(self, pc: int) -> Event:
        at = pykcov.symbolize(pc)
        name = at.function if at.kind == "entry" else ""
        event = (at.kind, self.files.get(at.file, -1), at.line, name)
        self.known[pc] = event
        # The same place in another process must have the same PC.
        place = dataclasses.replace(at, pc=0)
        if self.places.setdefault(place, pc) != pc:
            self.twice.append(f"{pc:#x} and {self.places[place]:#x} are one place: {at}")
        return event


# ------------------------------------------------------------------ comparing


def first_difference(expected: Trace, actual: Trace) -> str:
    """Says where two traces part, for people."""
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, actual, strict=False)) if a != b),
        min(len(expected), len(actual)),
    )
    near = slice(max(0, at - 3), at + 4)
    return (
        f"at {at} of {len(expected)} expected and {len(actual)} recorded\n"
        f"      expected {list(expected[near])}\n      recorded {list(actual[near])}"
    )


def differs(what: str, expected: Trace, actual: Trace) -> Iterator[str]:
    if list(expected) != list(actual):
        yield f"{what}: {first_difference(expected, actual)}"


def differ(what: str, expected: Iterable[Trace], actual: Iterable[Trace]) -> Iterator[str]:
    """Compares stretches of traces whose order is open."""
    left, right = Counter(map(tuple, expected)), Counter(map(tuple, actual))
    missing, extra = list((left - right).elements()), list((right - left).elements())
    if missing or extra:
        yield f"{what}: {len(missing)} runs are missing, {len(extra)} too many"
        for a, b in zip(missing or [()], extra or [()], strict=False):
            yield f"    {first_difference(a, b)}"
            break


def is_some_order_of(runs: list[Trace], actual: Trace) -> bool:
    """Says whether `actual` is what comes first of some order of the runs, one behind the other."""
    left = Counter(tuple(run) for run in runs if run)

    def fits(at: int) -> bool:
        if at == len(actual):
            return True
        for run in [run for run, n in left.items() if n]:
            if tuple(actual[at : at + len(run)]) == run[: len(actual) - at]:
                left[run] -= 1
                if fits(at + len(run) if at + len(run) < len(actual) else len(actual)):
                    return True
                left[run] += 1
        return False

    return fits(0)


def foretold(events: Iterable[Event]) -> list[Event]:
    """Returns the events without branch arms."""
    return [event for event in events if event[0] != "arm"]


def stretches(records: Iterable[Any], events: Trace) -> list[tuple[Any, Trace]]:
    """Joins the pieces in which a section came, by its records."""
    found: dict[Any, tuple[Any, list[Event]]] = {}
    for record in records:
        section = (record.pid, record.task, record.handle, record.began_ns)
        found.setdefault(section, (record, []))[1].extend(events[record.start : record.end])
    return [(record, foretold(part)) for record, part in found.values()]


def compare_device(
    key: str, to: Collection, got: Told, reader: Reader, processes: dict[int, int]
) -> Iterator[str]:
    recorded = reader.events(got.pcs)
    actual = foretold(recorded)
    if got.dropped != to.dropped():
        yield f"{key}: {got.dropped} dropped, not {to.dropped()}"
    kept = [run.kept() for run in to.runs]
    if len({run.task for run in to.runs}) < 2:  # one task: the order is known
        yield from differs(key, [e for run in kept for e in run][: to.room], actual)
    elif len(actual) != to.kept():
        yield f"{key}: {len(actual)} recorded, not {to.kept()}"
    elif not is_some_order_of(kept, actual):
        yield f"{key}: no order of its {len(kept)} runs gives what it recorded"
    if got.sections and to.kept() == sum(map(len, kept)):
        parts = stretches(got.sections, recorded)
        yield from differ(f"{key} by its records", filter(None, kept), [part for _, part in parts])
        yield from differ_by_process(key, [run for run in to.runs if run.kept()], parts, processes)
        handles = Counter(run.handle for run in to.runs if run.kept())
        if handles != Counter(record.handle for record, _ in parts):
            yield f"{key}: the handles of the sections are not {handles}"


def compare_collect(
    key: str, to: Collection, got: Told, reader: Reader, processes: dict[int, int]
) -> Iterator[str]:
    actual = reader.events(got.pcs)
    if got.dropped:
        yield f"{key}: {got.dropped} dropped"
    parts = stretches(got.sections, actual)
    if sum(record.end - record.start for record in got.sections) != len(actual):
        yield f"{key}: the section records do not cover the trace"
    runs = [run for run in to.runs if run.events]
    yield from differ(key, (run.events for run in runs), (part for _, part in parts))
    yield from differ_by_process(key, runs, parts, processes)
    yield from differ_in_workers(key, runs, parts)
    lines = {e[1:3] for run in runs for e in run.events if e[0] == "line"}
    told = {(reader.files.get(file, -1), n) for file, ns in got.lines.items() for n in ns}
    if lines != told:
        yield f"{key}: lines() differs: {sorted(lines ^ told)[:5]}"


def differ_by_process(
    key: str, runs: list[Run], parts: list[tuple[Any, Trace]], processes: dict[int, int]
) -> Iterator[str]:
    """What one process did must be under one identifier, and nothing else under that.

    `processes` has the numbers of the processes that are known by their identifiers; 0 or less.
    """
    expected: dict[int, Counter[Trace]] = {}
    for run in runs:
        expected.setdefault(run.process, Counter())[tuple(run.kept())] += 1
    actual: dict[int, Counter[Trace]] = {}
    for record, part in parts:
        number = processes.get(record.pid, record.pid)
        actual.setdefault(number, Counter())[tuple(part)] += 1
    if grouped(expected) != grouped(actual):
        yield f"{key}: the sections of its {len(expected)} processes are not under one pid each"


def grouped(by_process: dict[int, Counter[Trace]]) -> Counter[Any]:
    return Counter((min(number, 1), frozenset(runs.items())) for number, runs in by_process.items())


def differ_in_workers(key: str, runs: Any, parts: list[tuple[Any, Trace]]) -> Iterator[str]:
    """The program's own worker threads have names that the records must tell."""
    expected = Counter(run.thread for run in runs if run.thread.startswith("worker"))
    if expected != Counter(r.thread for r, _ in parts if r.thread.startswith("worker")):
        yield f"{key}: the sections of the workers are not those of {expected}"


# ------------------------------------------------------------------ running


class Check:
    """Runs programs, one after the other, with pools that are older than any of them."""

    def __init__(self, pools: list[Any]) -> None:
        self.pools = pools
        self.warnings: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="pykcov-truth-"))

    def problems(self, program: Program, expected: Expected) -> list[str]:
        """Returns what is wrong, nothing if all is as it must be."""
        self.warnings.clear()
        make: type[Stage] = Stage
        if program.kind == "processes":
            make = Home
            family()  # its processes must be older than any collection: they would inherit it
        stage = make(pykcov, program, self.folder, self.pools)
        stage.warnings = self.warnings
        stage.write()
        reader = Reader(stage.paths)
        try:
            run = self.plain if program.kind == "plain" else self.concurrent
            found = list(run(stage, expected, reader))
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            import traceback

            found = [f"raised {error!r}\n{traceback.format_exc()}"]
        finally:
            stage.close()
        found += [f"meanwhile: {text}" for text in self.warnings]
        if not found:
            for path in stage.paths:
                path.unlink()
        return found

    def concurrent(self, stage: Stage, expected: Expected, reader: Reader) -> Iterator[str]:
        names = stage.load()
        if self.program_is_warm(stage.program):
            stage.warm(names)
        result = names["main"]()
        if result != expected.result:
            yield f"main() returned {result}, not {expected.result}"
        processes = {os.getpid(): 0, **stage.processes}
        found = stage.found()
        for key, to in expected.collections.items():
            if key not in found:
                yield f"{key} was never there"
                continue
            compare = compare_device if found[key].is_device else compare_collect
            yield from compare(key, to, found[key], reader, processes)
        yield from reader.twice

    def program_is_warm(self, program: Program) -> bool:
        return program.seed // 1000 % 4 == 0

    def plain(self, stage: Stage, expected: Expected, reader: Reader) -> Iterator[str]:
        """The whole program, its import included, in a local device, a section and a collect()."""
        scope = stage.scope([0])
        local = stage.device("local", 1 << 16, **scope, sections=0)
        remote = stage.device("remote", 1 << 16, **scope, sections=0)
        remote.remote_enable(area_size=1 << 16, handles=[MAIN_HANDLE])
        with pykcov.collect(**scope, branch=stage.branch) as c:
            local.enable()
            pykcov.remote_start(MAIN_HANDLE)
            names = stage.load()
            pykcov.remote_stop()
            local.disable()
        remote.disable()
        if names["x"] != expected.result:
            yield f"x is {names['x']}, not {expected.result}"
        for key in ("local", "remote"):
            area = stage.areas[key]
            yield from differs(
                key, expected.streams[0], foretold(reader.events(area[1 : 1 + area[0]]))
            )
            if stage.devices[key].dropped:
                yield f"{key}: {stage.devices[key].dropped} dropped"
        parts = stretches(c.trace.sections, reader.events(c.trace.pcs))
        yield from differ("collect", expected.streams, (part for _, part in parts))

    def listen(self) -> None:
        """From now on warnings of pykcov's are problems of the program that runs."""
        listen(self.warnings)

    def keep(self, program: Program, problems: list[str]) -> str:
        """Returns the report of a program that failed; its source stays where it says."""
        paths = [str(path) for path in sorted(self.folder.glob(f"*_{program.seed}_*.py"))]
        head = (
            f"{program.kind} program {program.seed} on {sys.version.split()[0]}: {', '.join(paths)}"
        )
        return "\n".join([head, *(f"  {problem}" for problem in problems)])
