"""A process that runs sections: in threads, and in asyncio tasks that take turns on one thread."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykcov

from . import digits, doom, plans, threads
from .journal import Journal, Kind
from .plans import Plan

# How a process ends that dies by its own hand.
DEATHS: tuple[Callable[[], object], ...] = (
    lambda: os.kill(os.getpid(), signal.SIGKILL),
    lambda: os.kill(os.getpid(), signal.SIGSEGV),
    lambda: os.kill(os.getpid(), signal.SIGABRT),
    lambda: os._exit(77),
)
DEAD = (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, 77)


@dataclass(frozen=True)
class Settings:
    """What all processes of a run know."""

    seed: int
    folder: Path
    mortal: bool  # this process may die by its own hand


class Worker:
    """One process's lanes."""

    def __init__(self, number: int, settings: Settings, is_over: Callable[[], bool]) -> None:
        self.number = number
        self.settings = settings
        self.is_over = is_over
        self.journal = Journal(settings.folder / f"worker.{number}")
        self.modules = [digits.load(settings.folder, module) for module in range(digits.MODULES)]
        self.now = threading.local()  # the section that begins, runs or ends

    def run(self) -> int:
        """Run all lanes until it is over; return the exit status."""
        warnings.showwarning = self._warned  # type: ignore[assignment]
        warnings.simplefilter("always")
        alone = plans.THREADS - 1
        runs: list[Callable[[], object]] = [self._thread(lane) for lane in range(alone)]
        runs.append(lambda: asyncio.run(self._loop(range(alone, plans.LANES))))
        return threads.run_all(runs)

    def _thread(self, lane: int) -> Callable[[], None]:
        def run() -> None:
            for pause in self._lane(lane):
                if pause:
                    time.sleep(pause)

        return run

    async def _loop(self, lanes: range) -> None:
        async def run(lane: int) -> None:
            for pause in self._lane(lane):
                await asyncio.sleep(pause)

        await asyncio.gather(*(run(lane) for lane in lanes))

    def _lane(self, lane: int) -> Iterator[float]:
        """Run one section after the other; yields seconds to wait."""
        rng = random.Random(self.settings.seed << 32 | self.number << 8 | lane)
        self.journal.write(Kind.LANE, lane, threading.get_native_id())
        serial = 0
        while not self.is_over():
            root = plans.number(self.number, lane, serial)
            plan = plans.make(self.settings.seed, root)
            if self.settings.mortal and rng.random() < 1 / 250:
                doom.arm(rng.randrange(1, 1000))
            serial += len(plan.walk())
            run = Run(self, plan, rng)
            yield from run.play(plan)
            yield rng.expovariate(60)

    def _warned(self, message: Warning | str, *_: Any, **__: Any) -> None:
        self.journal.write(Kind.WARNED, getattr(self.now, "section", 0))
        sys.stderr.write(f"{time.monotonic_ns()} {type(message).__name__}: {message}\n")
        sys.stderr.flush()


class Run:
    """One root section, as it is executed."""

    def __init__(self, worker: Worker, root: Plan, rng: random.Random) -> None:
        self._journal = worker.journal
        self._now = worker.now
        self._root = root
        self._done = 0
        self._module = rng.randrange(digits.MODULES)
        self._functions = worker.modules[self._module]
        # The digit after which the process dies, if it does.
        dies = worker.settings.mortal and rng.random() < 1 / 1500
        self._last = rng.randrange(len(root.digits)) if dies else -1
        self._die = rng.choice(DEATHS)

    def play(self, plan: Plan) -> Iterator[float]:
        """Execute a section; yields where its task may let others run."""
        self._now.section = plan.number
        self._journal.write(Kind.BEGIN, plan.number, self._module)
        if plan.by_statement:
            with pykcov.remote(plan.handle):
                yield from self._body(plan)
                self._now.section = plan.number
        else:
            pykcov.remote_start(plan.handle)
            yield from self._body(plan)
            self._now.section = plan.number
            pykcov.remote_stop()
        self._journal.write(Kind.END, plan.number)

    def _body(self, plan: Plan) -> Iterator[float]:
        functions = self._functions
        for part in plan.body:
            if isinstance(part, Plan):
                yield from self.play(part)
            else:
                last = self._last - self._done
                if 0 <= last < len(part):
                    self._die_after(part[:last])
                for digit in part:
                    functions[digit]()
                self._done += len(part)
                self._journal.write(Kind.DONE, self._root.number, self._done)
            yield 0.0

    def _die_after(self, part: bytes) -> None:
        for digit in part:
            self._functions[digit]()
        self._journal.write(Kind.DIE, self._root.number, self._done + len(part))
        self._die()
        while True:  # the signal may be on its way to another thread
            signal.pause()
