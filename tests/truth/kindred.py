"""Other processes as an interpreted program sees them: a process is a strand whose task has another number.

Whoever is forked or started follows what its parent's task follows; a worker of a pool does so for one job;
an older worker inherits nothing and is told a handle. A process that dies keeps what it recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .machine import Machine, Strand
from .pretend import Pykcov
from .values import Abort, Death, Function, Steps, TooMuch, Wait, steps
from .world import Flag

POOL, OLD = -1, -2
"""The processes that are older than the program, as numbers: those of the pool, those that are annotated."""
MOST_FORKS, MOST_SPAWNS = 14, 1
"""A program that starts more processes is given up: it would take too long to check."""


class Kindred:
    """What the driver gives to a program of processes."""

    load: Callable[[], Steps]
    """Executes the program's files, and gives their names."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pykcov = Pykcov(machine)
        self.started = self.spawned = 0

    def names(self) -> dict[str, Any]:
        return {
            "fork": self.fork, "process": self.process, "job": self.job, "ask": self.ask,
            "gate": Flag, "meet": self.meet, "die": self.die, "kill": self.kill,
        }  # fmt: skip

    def fork(self, function: Function, *args: Any) -> Child:
        """os.fork(), and the child does nothing but this call."""
        self.started += 1
        if self.started > MOST_FORKS:
            raise TooMuch("too many processes")
        task = self.machine.new_task(self.machine.task.inherited, "child", self.started)
        work = self.machine.interpreter.call(function, *args)
        return Child(self.machine, self.machine.start("child", work, task, "child"))

    def process(self, method: str, function: Function, *args: Any) -> Child:
        """multiprocessing.Process. One that is not forked executes the program's files first."""
        if method == "fork":
            return self.fork(function, *args)
        self.spawned += method == "spawn"
        if self.spawned > MOST_SPAWNS:
            raise TooMuch("too many processes")
        child = self.fork(function, *args)
        child.strand.work = self.afresh(function.qualname, args)
        return child

    def afresh(self, name: str, args: tuple[Any, ...]) -> Steps:
        names = yield from self.load()
        return (yield from self.machine.interpreter.call(names[name], *args))

    def job(self, function: Function, *args: Any) -> Child:
        """A job of a ProcessPoolExecutor whose workers are older than the program."""
        inherited = self.machine.task.inherited
        task = self.machine.new_task(None, "job", POOL)
        task.inherited = inherited
        for found in task.chain():
            task.follow(found)
        work = self.machine.interpreter.call(function, *args)
        return Child(self.machine, self.machine.start("job", work, task, "job"))

    def ask(self, number: int, handle: int, function: Function, *args: Any) -> Child:
        """A worker that is older than the program, and annotated."""
        task = self.machine.new_task(None, "old", OLD - number)
        work = self.annotated(handle, function, args)
        return Child(self.machine, self.machine.start("old", work, task, "old"))

    def annotated(self, handle: int, function: Function, args: tuple[Any, ...]) -> Steps:
        self.pykcov.remote_start(handle)
        try:
            return (yield from self.machine.interpreter.call(function, *args))
        except Exception:
            return 1
        finally:
            if not self.machine.interpreter.dead:
                self.pykcov.remote_stop()

    @steps
    def meet(self, here: Flag, go: Flag) -> Steps:
        """Says where it is, and waits, with no event in between."""
        here.set()
        yield Wait(lambda: go.on)

    def die(self, how: str) -> None:
        """The process that calls it ends at once. The program does that where it runs nothing else."""
        machine = self.machine
        assert machine.current is not None
        process = machine.current.process
        if process <= 0 or sum(strand.process == process for strand in machine.strands) > 1:
            raise Abort("a process dies that has more to do")
        machine.die(process)
        raise Death

    def kill(self, child: Child) -> None:
        """Ends a process that waits in meet()."""
        self.machine.kill(child.strand)


class Child:
    """A process, or a job in one."""

    def __init__(self, machine: Machine, strand: Strand) -> None:
        self.machine = machine
        self.strand = strand

    @steps
    def result(self) -> Steps:
        yield from self.machine.join(self.strand)
        return self.strand.outcome()
