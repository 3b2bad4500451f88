"""The tasks of a program while it is interpreted, their scheduler, and what each of them does.

A strand is what runs: a thread, an asyncio task, a pool's job. A task is on whose behalf it runs: a
strand begins with its own, and Context.run() puts another one in its place for a while.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .collecting import Collection, Inherited, Registry, Task
from .interpreter import Interpreter
from .rules import Rules
from .values import Abort, Death, Event, Steps, TooMuch, Wait

MOST_EVENTS = 6_000
"""A program that gives more is given up: it would take too long to check."""
GONE = 7
"""What a process gives that does not live to say something else."""


class Strand:
    """Something that runs; its tasks are a stack because of Context.run()."""

    def __init__(self, name: str, work: Steps, task: Task, thread: str) -> None:
        self.name = name
        self.process = task.process
        self.work = work
        self.tasks = [task]
        self.thread = thread
        self.wait: Callable[[], bool] | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def task(self) -> Task:
        return self.tasks[-1]

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class Machine:
    """Interprets one program. `order` draws which strand goes on where the program leaves it open."""

    def __init__(self, rules: Rules, order: random.Random) -> None:
        self.interpreter = Interpreter(rules, self.record)
        self.order = order
        self.strands: list[Strand] = []
        self.tasks: list[Task] = []
        self.current: Strand | None = None
        self.events = 0
        self.registry = Registry()
        self.collections: list[Collection] = []

    def record(self, event: Event) -> None:
        """Every event of the program comes by here, in the strand that runs."""
        self.events += 1
        if self.events > MOST_EVENTS:
            raise TooMuch("too many events")
        assert self.current is not None
        self.current.task.happens(event)

    def mark(self, mark: str) -> None:
        """Something that is no event but must happen between the same events under CPython."""
        assert self.current is not None
        self.current.task.stream.append(("mark", 0, 0, mark))

    @property
    def task(self) -> Task:
        assert self.current is not None
        return self.current.task

    def new_task(
        self, inherited: Inherited | None, thread: str | None = None, process: int | None = None
    ) -> Task:
        if thread is None:
            assert self.current is not None
            thread = self.current.thread
        if process is None:
            process = self.current.process if self.current else 0
        task = Task(len(self.tasks), thread, inherited, process)
        self.tasks.append(task)
        return task

    def start(self, name: str, work: Steps, task: Task, thread: str | None = None) -> Strand:
        """Something more runs from now on."""
        if thread is None:
            assert self.current is not None
            thread = self.current.thread
        strand = Strand(name, work, task, thread)
        self.strands.append(strand)
        return strand

    def join(self, strand: Strand) -> Steps:
        """Waits for its end."""
        yield Wait(lambda: strand.done)

    def run(self, work: Steps) -> Any:
        """Runs `work` in a first strand, and everything that it starts, to the end."""
        main = self.start("main", work, self.new_task(None, "main"), "main")
        try:
            while self.strands:
                ready = [s for s in self.strands if s.wait is None or s.wait()]
                if not ready:
                    raise Abort("deadlock: " + ", ".join(s.name for s in self.strands))
                self.step(self.order.choice(ready))
        except BaseException:
            self.interpreter.dead = True
            raise
        return main.outcome()

    def step(self, strand: Strand) -> None:
        """Runs a strand until it waits or ends."""
        self.current, strand.wait = strand, None
        try:
            request = strand.work.send(None)
        except StopIteration as stop:
            strand.result, strand.done = stop.value, True
        except Death:
            strand.result, strand.done = GONE, True
        except Abort:
            raise
        except BaseException as error:
            strand.error, strand.done = error, True
        else:
            if not isinstance(request, Wait):
                raise Abort("yields outside a generator")
            strand.wait = request.ready
        if strand.done:
            self.strands.remove(strand)

    def die(self, process: int) -> None:
        """A process ends where it is; its last strand is for the caller to end."""
        for task in self.tasks:
            if task.process == process:
                task.die()
        self.registry.die(process)

    def kill(self, strand: Strand) -> None:
        """Ends a process that is one strand, which waits."""
        self.die(strand.process)
        self.strands.remove(strand)
        strand.result, strand.done = GONE, True
        strand.work.close()
