"""Writes the concurrent part of a program: who collects, who is annotated, who hands work to whom.

The unit is an actor: a function `actor(key, x)` or `async def`, of ordinary calls, sections, collections and work
for others. Actors are written callee first, so that everything ends. `key` names where in the run an actor
is: two runs of one statement have different keys, and a collection is compared under its key.

Threads really run at the same time. The expectation does not depend on who is faster, because each actor waits
for what it handed out before it ends a collection, and because devices are enabled and disabled by main() alone,
while no section is open but those that wait for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .phrases import Place
from .writer import Writer

SCOPES = ("ALL", "ALL", "ALL", "MAIN", "LIB")
SPARE = ("0xc00", "0xc01")
"""Handles that no device has. Main may collect() with them, each once."""
POOLS = 3


@dataclass(frozen=True)
class Actor:
    """What its callers have to know of an actor."""

    name: str
    is_async: bool
    pools: int  # it needs the pools below this number for itself
    local: bool  # it enables a local device in its caller's task
    loop: bool  # it runs an event loop in its caller's thread
    root: bool = False  # it needs something that only the program's first process has


class Scenario:
    """Writes the file of the actors; `lib` wrote what they call."""

    def __init__(
        self, rng: random.Random, lib: Writer, handles: list[str], small_areas: bool
    ) -> None:
        self.rng = rng
        self.lib = lib
        self.names = lib.names
        self.out = Writer(rng, lib.names, prefix="m_")
        self.handles = handles
        self.small_areas = small_areas
        self.actors: list[Actor] = []
        self.sites = 0
        # Of the actor that is being written:
        self.pools = 0
        self.local = self.loop = self.root = False
        self.local_open = 0

    # ---------------------------------------------------------------- small parts

    def add(self, p: Place, text: str) -> None:
        self.out.add(p, text)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def site(self) -> str:
        self.sites += 1
        return str(self.sites)

    def key(self) -> str:
        return f'key + ".{self.site()}"'

    def handle(self) -> str:
        """A handle: registered or not, or the task's common one."""
        return self.rng.choice((*self.handles, *SPARE, "0xbad", "pykcov.common_handle()"))

    def scope(self) -> str:
        return f"**{self.rng.choice(SCOPES)}"

    def room(self, *small: int) -> int:
        """A size of an area: small, or large enough for anything."""
        return self.rng.choice((*small, *[1 << 14] * len(small))) if self.small_areas else 1 << 15

    def take(self, actor: Actor, same_task: bool, same_thread: bool) -> str:
        """Notes what a call of the actor means for the one that is being written."""
        self.pools = max(self.pools, actor.pools)
        self.local |= same_task and actor.local
        self.loop |= same_thread and actor.loop
        self.root |= actor.root
        return actor.name

    def actor(
        self, *, is_async: bool = False, same_task: bool = False, no_loop: bool = False,
        pools: int = POOLS, portable: bool = False,
    ) -> Actor | None:  # fmt: skip
        fit = [
            a
            for a in self.actors
            if a.is_async == is_async
            and a.pools <= pools
            and not (portable and a.root)
            and not (same_task and self.local_open and a.local)
            and not (no_loop and a.loop)
        ]
        return self.rng.choice(fit[-4:]) if fit else None

    # ---------------------------------------------------------------- statements of every actor

    def work(self, p: Place) -> None:
        """Ordinary calls."""
        form = self.rng.randrange(4)
        if form == 0:
            self.add(p, f"x = ({self.out.number(replace(p, vars=('x',)))}) % 101")
        elif form == 1:
            self.add(p, f"x = thrice(x, {self.rng.randrange(5)})")
        elif p.kind == "coroutine" and self.names.coroutines and form == 2:
            self.guarded(p, f"x = await {self.rng.choice(self.names.coroutines)}(x, 2)")
        else:
            self.guarded(
                p, f"x = {self.rng.choice(self.names.functions)}(x, {self.rng.randrange(9)})"
            )

    def guarded(self, p: Place, text: str) -> None:
        self.add(p, "try:")
        self.add(p.deeper(), text)
        self.add(p, "except Exception:")
        self.add(p.deeper(), "x = 1")

    def section(self, p: Place) -> None:
        self.add(p, f"with pykcov.remote({self.handle()}):")
        self.block(p.deeper())

    def section_that_raises(self, p: Place) -> None:
        self.add(p, "try:")
        self.add(p.deeper(), f"with pykcov.remote({self.handle()}):")
        self.work(p.deeper().deeper())
        self.add(p.deeper().deeper(), "x = 5 // (x % 2)")
        self.add(p, "except Exception:")
        self.work(p.deeper())

    def start_and_stop(self, p: Place) -> None:
        self.add(p, f"pykcov.remote_start({self.handle()})")
        self.block(p)
        self.add(p, "pykcov.remote_stop()")

    def section_across_functions(self, p: Place) -> None:
        name = self.out.fresh("begin")
        self.add(p, f"def {name}(h, x):")
        self.add(p.deeper(), "y = thrice(x)")
        self.add(p.deeper(), "pykcov.remote_start(h)")
        self.add(p.deeper(), "return thrice(y)")
        self.add(p, f"x = {name}({self.handle()}, x)")
        self.block(p)
        self.add(p, "pykcov.remote_stop()")

    def aside(self, p: Place) -> None:
        if p.kind == "coroutine" and self.names.coroutines and self.chance(0.5):
            call = f"aside_async({self.handle()}, {self.rng.choice(self.names.coroutines)}(x, 3))"
            if self.chance(0.5):
                call = f"asyncio.create_task({call})"
            self.add(p, f"x = await {call}")
        else:
            self.add(p, f"x = aside({self.handle()}, {self.rng.choice(self.names.functions)}, x)")

    def loop_(self, p: Place) -> None:
        i, k = self.out.fresh("i"), self.out.fresh("k")
        self.add(p, f"for {i} in range({self.rng.randrange(1, 4)}):")
        inner = p.deeper()
        self.add(inner, f"{k} = key")
        self.add(inner, f'key = key + ".{self.site()}." + str({i})')
        self.block(inner)
        self.add(inner, f"key = {k}")

    def branch(self, p: Place) -> None:
        self.add(p, f"if x % {self.rng.randrange(2, 4)}:")
        self.block(p.deeper())
        self.add(p, "else:")
        self.block(p.deeper())

    def call_actor(self, p: Place) -> None:
        is_async = p.kind == "coroutine" and self.chance(0.6)
        found = self.actor(is_async=is_async, same_task=True, no_loop=p.kind == "coroutine")
        if found is not None:
            await_ = "await " if is_async else ""
            self.add(p, f"x = {await_}{self.take(found, True, True)}({self.key()}, x)")

    def local_device(self, p: Place) -> None:
        if self.local_open:
            return self.section(p)
        name = self.out.fresh("d")
        size = self.room(3, 9, 40)
        self.add(p, f"{name} = device({self.key()}, {size}, {self.scope()}, sections=0)")
        self.local, self.local_open = True, self.local_open + 1
        for _ in range(self.rng.choice((1, 1, 2))):
            self.add(p, f"{name}.enable()")
            self.block(p)
            if self.chance(0.2):
                self.add(p, f"empty({name})")
                self.work(p)
            self.add(p, f"{name}.disable()")
        self.local_open -= 1
        return None

    def collect(self, p: Place, handles: str = "") -> None:
        name = self.out.fresh("c")
        size = self.rng.choice(("", "", ", area_size=9", ", area_size=70"))
        self.add(p, f"with pykcov.collect({handles}{self.scope()}{size}, branch=BRANCH) as {name}:")
        self.block(p.deeper())
        if self.chance(0.3):
            self.add(p.deeper(), f"with pykcov.remote({name}.handle):")
            self.work(p.deeper().deeper())
        if self.chance(0.6):
            self.hand_out(p.deeper())
        self.add(p, f"keep({self.key()}, {name})")

    # ---------------------------------------------------------------- work for others

    def threads(self, p: Place) -> None:
        names = []
        for _ in range(self.rng.randrange(1, 4)):
            found = self.actor()
            if found is None:
                continue
            t = self.out.fresh("t")
            target = self.take(found, False, False)
            self.add(p, f"{t} = threading.Thread(target={target}, args=({self.key()}, x))")
            names.append(t)
        for t in names:
            self.add(p, f"{t}.start()")
        if names and self.chance(0.6):
            self.work(p)
        for t in names:
            self.add(p, f"{t}.join()")

    def jobs(self, p: Place) -> None:
        names = []
        for _ in range(self.rng.randrange(1, 4)):
            found = self.actor(pools=POOLS - 1)
            if found is None:
                continue
            j = self.out.fresh("j")
            pool, name = f"POOL{found.pools}", self.take(found, False, False)
            self.pools = max(self.pools, found.pools + 1)
            if p.kind == "coroutine" and self.chance(0.5):
                call = (
                    f"asyncio.get_running_loop().run_in_executor({pool}, {name}, {self.key()}, x)"
                )
                self.add(p, f"{j} = {call}")
                names.append(f"await {j}")
            else:
                self.add(p, f"{j} = {pool}.submit({name}, {self.key()}, x)")
                names.append(f"{j}.result()")
        if names and self.chance(0.6):
            self.work(p)
        for name in names:
            self.add(p, f"x = {name}")

    def context(self, p: Place) -> None:
        ctx = self.out.fresh("ctx")
        self.add(p, f"{ctx} = contextvars.copy_context()")
        found = self.actor(no_loop=p.kind == "coroutine")
        if found is not None and self.chance(0.6):
            self.add(p, f"x = {ctx}.run({self.take(found, False, True)}, {self.key()}, x)")
        if self.chance(0.6):
            self.add(p, f"{ctx}.run(pykcov.remote_start, {self.handle()})")
            self.work(p)
            for _ in range(self.rng.randrange(1, 3)):
                self.add(p, f"x = {ctx}.run(thrice, x, 3)")
            self.work(p)
            self.add(p, f"{ctx}.run(pykcov.remote_stop)")

    def event_loop(self, p: Place) -> None:
        if p.kind == "coroutine":
            return self.tasks(p)
        found = self.actor(is_async=True)
        if found is not None:
            self.loop = True
            self.add(p, f"x = asyncio.run({self.take(found, False, True)}({self.key()}, x))")
        return None

    def handed_generator(self, p: Place) -> None:
        """A generator or coroutine that several tasks resume, one after the other."""
        g = self.out.fresh("g")
        if self.names.generators and self.chance(0.6):
            self.add(p, f"{g} = {self.rng.choice(self.names.generators)}(x, 3)")
            call, times = "resume", 4
        else:
            self.add(p, f"{g} = walk(key, x)")
            call, times = "drive", 5
        while times > 0:
            n = min(times, self.rng.randrange(1, 3))
            times -= n
            form = self.rng.randrange(4)
            if form == 0:
                t = self.out.fresh("t")
                self.add(p, f"{t} = threading.Thread(target={call}, args=({g}, {n}))")
                self.add(p, f"{t}.start()")
                self.add(p, f"{t}.join()")
            elif form == 1:
                self.add(p, f"x += contextvars.copy_context().run({call}, {g}, {n})")
            elif form == 2:
                self.add(p, f"with pykcov.remote({self.handle()}):")
                self.add(p.deeper(), f"x += {call}({g}, {n})")
            else:
                self.add(p, f"x += {call}({g}, {n})")
        if self.chance(0.5):
            self.add(p, f"{g}.close()")

    def queue_work(self, p: Place) -> None:
        """Work for threads that have been there since before anybody collected."""
        self.root = True
        for _ in range(self.rng.randrange(1, 4)):
            q = f"QUEUES[{self.rng.randrange(2)}]"
            f = self.rng.choice(self.names.functions)
            self.add(p, f"{q}.put(({self.handle()}, {f}, x, {self.rng.randrange(9)}))")
        self.add(p, "QUEUES[0].join()")
        self.add(p, "QUEUES[1].join()")

    # ---------------------------------------------------------------- statements of async actors

    def pause(self, p: Place) -> None:
        self.add(p, "await asyncio.sleep(0)")

    def tasks(self, p: Place) -> None:
        names = []
        for _ in range(self.rng.randrange(1, 4)):
            found = self.actor(is_async=True)
            if found is None:
                continue
            t = self.out.fresh("t")
            name = self.take(found, False, True)
            self.add(p, f"{t} = asyncio.create_task({name}({self.key()}, x))")
            names.append(t)
        if names:
            self.block(p)
        for t in names:
            self.add(p, f"x = await {t}")

    def gather(self, p: Place) -> None:
        found = [self.actor(is_async=True) for _ in range(2)]
        calls = [f"{self.take(a, False, True)}({self.key()}, x)" for a in found if a is not None]
        if calls:
            self.add(p, f"x = (await asyncio.gather({', '.join(calls)}))[0]")

    def to_thread(self, p: Place) -> None:
        found = self.actor()
        if found is not None:
            self.add(
                p, f"x = await asyncio.to_thread({self.take(found, False, False)}, {self.key()}, x)"
            )

    # ---------------------------------------------------------------- actors and main

    def hand_out(self, p: Place) -> None:
        kinds = [self.threads, self.jobs, self.context, self.event_loop, self.handed_generator,
                 self.queue_work]  # fmt: skip
        if p.kind == "coroutine":
            kinds += [self.tasks, self.gather, self.to_thread]
        self.rng.choice(kinds)(p)

    def statement(self, p: Place) -> None:
        kinds: list[Callable[[Place], None]] = [self.work] * 5
        kinds += [
            self.section_that_raises,
            self.aside,
            self.call_actor,
            self.hand_out,
            self.hand_out,
        ]
        if p.depth < 4:
            kinds += [self.section] * 3 + [self.start_and_stop, self.section_across_functions]
            kinds += [self.loop_, self.branch, self.local_device, self.collect, self.collect]
        if p.kind == "coroutine":
            kinds += [self.pause] * 5
        self.rng.choice(kinds)(p)

    def block(self, p: Place) -> None:
        for _ in range(self.rng.randrange(1, 3)):
            self.statement(p)
        self.work(p)

    def write_actor(self, is_async: bool) -> None:
        name = self.out.fresh("co_actor" if is_async else "actor")
        place = Place(kind="coroutine" if is_async else "plain", vars=("x",))
        self.begin_actor()
        self.add(Place(0), f"{'async ' if is_async else ''}def {name}(key, x):")
        for _ in range(self.rng.randrange(1, 5)):
            self.statement(place)
        self.add(place, "return x % 101")
        self.actors.append(self.that_actor(name, is_async))

    def begin_actor(self) -> None:
        self.pools, self.local_open = 0, 0
        self.local = self.loop = self.root = False

    def that_actor(self, name: str, is_async: bool = False) -> Actor:
        return Actor(name, is_async, self.pools, self.local, self.loop, self.root)
