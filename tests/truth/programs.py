"""Makes a program from a seed, and interprets it: its files, and what each collection must get."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .collecting import Collection
from .conductor import HELPERS, Main, RemoteDevice
from .frames import Source
from .kindred import Kindred
from .machine import Machine
from .phrases import HEAD, Place
from .pretend import Helpers, Pykcov
from .processes import DESCENDANTS, Families, Founder
from .rules import Rules
from .scenario import POOLS, Scenario
from .values import Abort, Event, Steps, TooMuch
from .world import Asyncio, Builtins, Contexts, Pool, Queue, Threading
from .writer import Writer

IMPORTS = "import asyncio\nimport contextvars\nimport threading"
SCOPES = {"ALL": frozenset({0, 1}), "MAIN": frozenset({0}), "LIB": frozenset({1})}
"""What the programs give to pykcov as **ALL and so on, as the numbers of their files."""


@dataclass
class Program:
    """Source texts: [main] of a plain program, [main, lib] of the others."""

    seed: int
    kind: str
    files: list[str]


@dataclass
class Expected:
    """What the interpreter says about a program."""

    result: Any
    collections: dict[str, Collection] = field(default_factory=dict)
    streams: list[list[Event]] = field(default_factory=list)
    events: int = 0


def write_plain(seed: int) -> Program:
    """Returns a program of one file: functions, and a main() that calls each of them."""
    rng = random.Random(seed)
    w = Writer(rng)
    top, body = Place(0), Place(1)
    w.add(top, '"""A program."""\nimport asyncio')
    w.add(top, HEAD.rstrip("\n"))
    write_functions(w, rng, 8)
    w.add(top, "def main():")
    w.add(body, "x = 0")
    for name in w.names.functions:
        call_guarded(w, body, f"x = {name}({rng.randrange(9)}, {rng.randrange(9)})")
    for name in w.names.coroutines:
        call_guarded(w, body, f"x = asyncio.run({name}({rng.randrange(9)}, {rng.randrange(9)}))")
    w.add(body, "return x")
    w.add(top, "x = main()")
    return Program(seed, "plain", [w.text()])


def call_guarded(w: Writer, p: Place, text: str) -> None:
    w.add(p, "try:")
    w.add(p.deeper(), text)
    w.add(p, "except Exception:")
    w.add(p.deeper(), "x = 0")


def write_functions(
    w: Writer, rng: random.Random, number: int, most: int = 7, long: float = 0.12
) -> None:
    kinds = ["plain", "generator", "coroutine"]
    kinds += rng.choices(["plain", "generator", "delegating", "coroutine", "stream"], [4, 2, 1, 1, 1],
                         k=number - 3)  # fmt: skip
    rng.shuffle(kinds)
    for kind in kinds:
        w.function(kind, most=most)
        if rng.random() < 0.2:
            w.guarded()
    if rng.random() < long:
        w.long_function()


def write_concurrent(seed: int, kind: str = "concurrent") -> Program:
    """Returns a program of two files: the library, and the actors with main()."""
    rng = random.Random(seed)
    alone = kind == "concurrent"
    lib = Writer(rng)
    top = Place(0)
    lib.add(top, "import asyncio")
    lib.add(top, HEAD.rstrip("\n"))
    write_functions(lib, rng, rng.randrange(4, 6), most=4, long=0.08)
    # Branch arms are not foretold. Where they are recorded as well, nothing may overflow.
    small_areas = not branches(seed)
    devices = [remote_device(rng, i, small_areas) for i in range(rng.randrange(1, 4))]
    handles = [h for d in devices for h in (*d.handles, *([hex(d.common)] if d.common else []))]
    scenario = (Scenario if alone else Families)(rng, lib, handles, small_areas)
    scenario.add(top, IMPORTS)
    scenario.add(top, HELPERS.rstrip("\n"))
    if isinstance(scenario, Families):
        scenario.add(top, DESCENDANTS.rstrip("\n"))
    for _ in range(rng.randrange(2, 7)):
        scenario.write_actor(is_async=rng.random() < 0.4)
    (Main if alone else Founder)(scenario, devices).write()
    return Program(seed, kind, [scenario.out.text(), lib.text()])


def write_processes(seed: int) -> Program:
    """Returns such a program whose actors have work done in other processes too."""
    return write_concurrent(seed, "processes")


WRITERS = {"plain": write_plain, "concurrent": write_concurrent, "processes": write_processes}


def branches(seed: int) -> bool:
    """Says whether a program's collections record branch arms as well."""
    return seed // 1000 % 7 == 3


def remote_device(rng: random.Random, number: int, small_areas: bool) -> RemoteDevice:
    handles = [f"{0x42 + 16 * number:#x}", f"{1 << 56 | number:#x}", f"{2**64 - 1 - number:#x}"]
    return RemoteDevice(
        name=f"r{number}",
        size=rng.choice((2, 20, 200, *[1 << 15] * 3)) if small_areas else 1 << 17,
        area_size=rng.choice((2, 6, 30, *[1 << 13] * 3)) if small_areas else 1 << 15,
        handles=rng.sample(handles, rng.randrange(1, 4)),
        common=rng.choice((0, 0x70 + number)),
        sections=rng.choice((0, 2000)),
    )


def interpret(program: Program, rules: Rules, order: int = 0) -> Expected:
    """Returns what the program must do. Raises Abort if it cannot be taken."""
    machine = Machine(rules, random.Random(order))
    pykcov, kindred = Pykcov(machine), Kindred(machine)
    sources = [Source(i, text) for i, text in enumerate(program.files)]
    machine.interpreter.sources = list(sources)  # it notes there what it executes

    def load() -> Steps:
        names = surroundings(machine, pykcov) | kindred.names()
        for source in reversed(sources):
            yield from machine.interpreter.module(source, names)
        return names

    def executed() -> Steps:
        names = yield from load()
        return names["x"] if plain else (yield from machine.interpreter.call(names["main"]))

    plain = program.kind == "plain"
    kindred.load = load
    result = machine.run(executed())
    if machine.registry.by_handle or any(task.sections or task.local for task in machine.tasks):
        raise Abort("something is left enabled or open")
    return Expected(
        result,
        {c.key: c for c in machine.collections if c.key},
        [task.stream for task in machine.tasks if task.stream],
        machine.events,
    )


def surroundings(machine: Machine, pykcov: Pykcov) -> dict[str, Any]:
    """Returns what a program finds among its globals."""
    names = Builtins(machine).names()
    helpers = Helpers(machine, pykcov)
    names |= {
        "asyncio": Asyncio(machine), "threading": Threading(machine), "pykcov": pykcov,
        "contextvars": Contexts(machine), "QUEUES": [Queue(), Queue()], "device": helpers.device,
        "keep": helpers.keep, "aside": helpers.aside, "aside_async": helpers.aside_async,
        "empty": helpers.empty, "BRANCH": False,
    }  # fmt: skip
    names |= {name: {"include": files} for name, files in SCOPES.items()}
    return names | {f"POOL{i}": Pool(machine, f"pool{i}") for i in range(POOLS)}


def make(seed: int, kind: str, rules: Rules) -> tuple[Program, Expected]:
    """Returns the first program from the seed on that is not too long, and what it must do."""
    for attempt in range(100):
        program = WRITERS[kind](seed * 1000 + attempt)
        try:
            return program, interpret(program, rules)
        except TooMuch:
            continue
    raise AssertionError(f"seed {seed}: nothing but long programs")


def chunks(streams: list[list[Event]]) -> Counter[tuple[Event, ...]]:
    """Returns the streams as a multiset. A worker's is cut where a job begins: others decide the order."""
    found: Counter[tuple[Event, ...]] = Counter()
    for stream in streams:
        if not any(e[3] == "worker" for e in stream):
            found[tuple(stream)] += 1
            continue
        cuts = [i for i, e in enumerate(stream) if e[3] == "start"]
        for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            found[tuple(stream[a:b])] += 1
    return found
