"""The generator is right: CPython itself gives the events that the interpreter foretells.

Without pykcov: by `sys.settrace` on every Python, and by `sys.monitoring` as well where there is one.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import oracle, programs, rules, shrink
from .frames import Source
from .programs import Program
from .values import Event

SEEDS = 8  # of each kind, for each chunk
MECHANISMS = [("settrace", rules.of_settrace())]
if sys.version_info >= (3, 12):
    MECHANISMS.append(("monitoring", rules.of_pykcov()))


@pytest.fixture(autouse=True)
def deep_recursion() -> Iterator[None]:
    """The interpreter takes several frames of its own for one of a program's."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


def that_count(program: Program, streams: list[list[Event]]) -> list[list[Event]]:
    """Returns what remains of CPython's events where only statements count."""
    for number, text in enumerate(program.files):
        source = Source(number, text)
        streams = [source.lines_that_count(stream) for stream in streams]
    return [stream for stream in streams if stream]


def events_of(chunks: Counter[tuple[Event, ...]]) -> Counter[tuple[Event, ...]]:
    """Return each event of all chunks as a chunk of its own."""
    found: Counter[tuple[Event, ...]] = Counter()
    for chunk, times in chunks.items():
        for event in chunk:
            found[(event,)] += times
    return found


@pytest.mark.parametrize("mechanism, like", MECHANISMS)
@pytest.mark.parametrize("kind", ["plain", "concurrent"])
@pytest.mark.parametrize("chunk", range(2))
def test_cpython_gives_each_task_the_events_that_are_foretold(
    mechanism: str, like: rules.Rules, kind: str, chunk: int, tmp_path: Path
) -> None:
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        program, expected = programs.make(seed, kind, like)
        result, streams = oracle.run(program, tmp_path, mechanism)
        foretold = programs.chunks(expected.streams)
        given = programs.chunks(that_count(program, streams))
        if any(
            programs.chunks(programs.interpret(program, like, order).streams) != foretold
            for order in range(1, 5)
        ):  # two workers wait at one queue: who of them takes how many jobs is a matter of chance
            foretold, given = events_of(foretold), events_of(given)
        where = f"{kind} program {program.seed}, {mechanism}, in {tmp_path}"
        assert result == expected.result, where
        assert not foretold - given and not given - foretold, where


@pytest.mark.parametrize(
    "kind, seed", [*(("concurrent", n) for n in range(10)), *(("processes", n) for n in range(4))]
)
def test_what_is_foretold_does_not_depend_on_who_is_faster(kind: str, seed: int) -> None:
    program, first = programs.make(seed, kind, rules.of_pykcov())
    for order in range(1, 5):
        other = programs.interpret(program, rules.of_pykcov(), order)
        assert shrink.what(other) == shrink.what(first)
