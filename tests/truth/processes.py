"""Writes programs whose actors have work done in other processes as well.

What the text calls is in family.py, and in kindred.py while it is interpreted:

    p = fork(actor, key, x)                 os.fork(); the child does that call and ends
    p = process(method, actor, key, x)      multiprocessing.Process: "fork", "forkserver" or "spawn"
    p = job(actor, key, x)                  a job for a ProcessPoolExecutor that is older than the program
    p = ask(n, handle, function, x, y)      work for an annotated process that is older than the program
    x = p.result()                          waits for its end
    die(how)                                the process ends here, by SIGKILL or by os._exit()

A mortal is an actor that may die, inside whatever is open there. Only other processes run one.
"""

from __future__ import annotations

import random

from .conductor import Main, RemoteDevice
from .phrases import Place
from .scenario import POOLS, Actor, Scenario
from .writer import Writer

DESCENDANTS = """\
def linger(handle, here, go, x):
    pykcov.remote_start(handle)
    x = thrice(x)
    meet(here, go)
    x = thrice(x)
    pykcov.remote_stop()
    with pykcov.remote(handle):
        x = thrice(x, 2)
    return x
def collector(handle, here, go, x):
    with pykcov.collect([handle], **ALL, branch=BRANCH):
        x = thrice(x)
        meet(here, go)
        x = thrice(x)
        die("kill")
    return x
def brood(key, x, actor):
    for i in range(2):
        p = fork(actor, key + str(i), x)
        x = thrice(x, i)
        y = p.result()
        x = thrice(x, y)
"""
LEGACY = "0xc0f"
"""A handle that a process has when it dies."""


class Families(Scenario):
    """Writes actors that hand work to other processes, and some that die there."""

    def __init__(
        self, rng: random.Random, lib: Writer, handles: list[str], small_areas: bool
    ) -> None:
        super().__init__(rng, lib, handles, small_areas)
        self.mortals: list[str] = []
        # Of the actor that is being written:
        self.mortal = False
        self.portable = False  # it has to run in other processes too

    def write_actor(self, is_async: bool) -> None:
        self.portable = self.chance(0.6)
        super().write_actor(is_async)
        if self.chance(0.4):
            self.write_mortal()
        self.portable = False

    def write_mortal(self) -> None:
        name, place = self.out.fresh("mortal"), Place(vars=("x",))
        self.begin_actor()
        self.mortal = self.portable = True
        self.add(Place(0), f"def {name}(key, x):")
        if self.chance(0.3):
            self.statement(place)
        self.rng.choice((self.section, self.section, self.start_and_stop, self.collect))(place)
        self.statement(place)
        self.death(place)
        self.add(place, "return x % 101")
        self.mortal = False
        self.mortals.append(name)

    def death(self, p: Place) -> None:
        how = self.rng.choice(("kill", "exit"))
        self.add(p, f"if x % {self.rng.randrange(2, 4)}:")
        self.add(p.deeper(), f'die("{how}")')

    # ---------------------------------------------------------------- what may be written where

    def actor(
        self, *, is_async: bool = False, same_task: bool = False, no_loop: bool = False,
        pools: int = POOLS, portable: bool = False,
    ) -> Actor | None:  # fmt: skip
        return super().actor(
            is_async=is_async, same_task=same_task, no_loop=no_loop, pools=pools,
            portable=portable or self.portable,
        )  # fmt: skip

    def block(self, p: Place) -> None:
        super().block(p)
        if self.mortal and self.chance(0.5):
            self.death(p)

    def queue_work(self, p: Place) -> None:
        if self.portable:
            return self.elsewhere(p)
        return super().queue_work(p)

    def hand_out(self, p: Place) -> None:
        if self.chance(0.4):
            return super().hand_out(p)
        return self.elsewhere(p)

    def elsewhere(self, p: Place) -> None:
        """Some work for other processes at once."""
        kinds = [self.forks] * 3
        if not self.portable:
            kinds += [self.processes, self.jobs_elsewhere, self.questions, self.questions]
        names = [name for kind in self.rng.sample(kinds, 2) for name in kind(p)]
        if names and self.chance(0.6):
            self.work(p)
        for name in names:
            self.add(p, f"x = {name}.result()")

    def threads(self, p: Place) -> None:
        """Threads that fork at the same time: each child has only one of them."""
        target = self.someone()
        if target is None or self.chance(0.5):
            return super().threads(p)
        names = [self.out.fresh("t") for _ in range(2)]
        for t in names:
            args = f"({self.key()}, x, {target})"
            self.add(p, f"{t} = threading.Thread(target=brood, args={args})")
        for t in names:
            self.add(p, f"{t}.start()")
        self.work(p)
        for t in names:
            self.add(p, f"{t}.join()")
        return None

    def started(self, p: Place, stem: str, call: str) -> str:
        name = self.out.fresh(stem)
        self.add(p, f"{name} = {call}")
        return name

    def someone(self) -> str | None:
        """The name of what another process may be told to do and need not survive."""
        if self.mortals and self.chance(0.5):
            return self.rng.choice(self.mortals)
        found = self.actor(portable=True)
        return None if found is None else found.name

    def forks(self, p: Place) -> list[str]:
        names = []
        for _ in range(self.rng.randrange(1, 3)):
            target = self.someone()
            if target is not None:
                form = self.rng.choice(("fork(", "fork(", 'process("fork", '))
                names.append(self.started(p, "p", f"{form}{target}, {self.key()}, x)"))
        return names

    def processes(self, p: Place) -> list[str]:
        target = self.someone()
        if target is None:
            return []
        self.root = True
        method = self.rng.choice(("forkserver", "forkserver", "forkserver", "spawn"))
        return [self.started(p, "p", f'process("{method}", {target}, {self.key()}, x)')]

    def jobs_elsewhere(self, p: Place) -> list[str]:
        found = [self.actor(portable=True) for _ in range(self.rng.randrange(1, 4))]
        self.root = True
        return [self.started(p, "j", f"job({a.name}, {self.key()}, x)") for a in found if a]

    def questions(self, p: Place) -> list[str]:
        """Work for processes that know nothing of this one but a handle."""
        self.root = True
        return [self.question(p, self.handle()) for _ in range(self.rng.randrange(1, 4))]

    def question(self, p: Place, handle: str) -> str:
        function = self.rng.choice(self.names.functions)
        call = f"ask({self.rng.randrange(2)}, {handle}, {function}, x, {self.rng.randrange(9)})"
        return self.started(p, "a", call)


class Founder(Main):
    """Writes a main() that leaves sections open in other processes, and collectors that die."""

    scenario: Families

    def phase(self) -> None:
        super().phase()
        if self.rng.random() < 0.3:
            self.inherit()

    def straddle(self, device: RemoteDevice) -> None:
        """Another process has a section open while its device is disabled, or until it is killed."""
        if self.rng.random() < 0.3:
            return super().straddle(device)
        self.rendezvous(f"linger, {self.rng.choice(device.handles)}")
        disables, kills = self.rng.random() < 0.4, self.rng.random() < 0.6
        if disables:
            self.disable(device)
            if self.rng.random() < 0.5:
                self.enable(device)
        if kills:
            self.add("kill(p)")
            if not disables and self.rng.random() < 0.3:
                self.disable(device)
        self.add("go.set()")
        self.add("x = p.result()")
        return None

    def inherit(self) -> None:
        """A process has a handle; when it is gone, main() has it."""
        self.rendezvous(f"collector, {LEGACY}")
        asked = self.scenario.question(self.place, LEGACY)
        self.add(f"x = {asked}.result()")
        self.add("go.set()" if self.rng.random() < 0.5 else "kill(p)")
        self.add("x = p.result()")
        name, inner = self.scenario.out.fresh("c"), self.place.deeper()
        scope = self.scenario.scope()
        self.add(f"with pykcov.collect([{LEGACY}], {scope}, branch=BRANCH) as {name}:")
        asked = self.scenario.question(inner, LEGACY)
        self.scenario.block(inner)
        self.scenario.add(inner, f"x = {asked}.result()")
        self.add(f"keep({self.scenario.key()}, {name})")

    def rendezvous(self, call: str) -> None:
        self.add("here = gate()")
        self.add("go = gate()")
        self.add(f"p = fork({call}, here, go, x)")
        self.add("here.wait()")
