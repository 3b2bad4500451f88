"""What a program finds around it while it is interpreted: builtins, threads, pools, asyncio, contexts."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .collecting import Inherited, Task
from .machine import Machine, Strand
from .values import SimExit, SimStop, Steps, Suspendable, Wait, steps

ERRORS = (
    "Exception", "ValueError", "KeyError", "IndexError", "ZeroDivisionError", "StopIteration",
    "AssertionError", "RuntimeError",
)  # fmt: skip


class Builtins:
    """The builtins that call the program: generators, and functions as keys."""

    def __init__(self, machine: Machine) -> None:
        self.interpreter = machine.interpreter

    def names(self) -> dict[str, Any]:
        found = {name: getattr(builtins, name) for name in ERRORS}
        found["GeneratorExit"] = SimExit
        for name in ("list", "sum", "next", "sorted"):
            found[name] = getattr(self, name)
        return found

    @steps
    def list(self, over: Any) -> Steps:
        items: Any = []
        step = self.interpreter.items((yield from self.interpreter.iterator(over)))
        while True:
            more, item = yield from step()
            if not more:
                return items
            items.append(item)

    @steps
    def sum(self, over: Any) -> Steps:
        return builtins.sum((yield from self.list(over)))

    @steps
    def next(self, of: Suspendable, *default: Any) -> Steps:
        more, item = yield from of.resume()
        if more:
            return item
        if default:
            return default[0]
        raise SimStop(item)

    @steps
    def sorted(self, over: Any, key: Any) -> Steps:
        items = []
        for item in over:
            items.append(((yield from self.interpreter.call(key, item)), item))
        return [item for _, item in builtins.sorted(items, key=lambda pair: pair[0])]


class Threading:
    """threading: a thread is a strand with a task of its own, which inherits from who starts it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def Thread(self, target: Any, args: tuple[Any, ...] = (), name: str = "") -> Thread:
        return Thread(self.machine, target, args, name)

    def Event(self) -> Flag:
        return Flag()


class Thread:
    def __init__(self, machine: Machine, target: Any, args: tuple[Any, ...], name: str) -> None:
        self.machine = machine
        self.work = machine.interpreter.call(target, *args)
        self.name = name
        self.strand: Strand | None = None

    def start(self) -> None:
        task = self.machine.new_task(self.machine.task.inherited, self.name)
        self.strand = self.machine.start(self.name, self.work, task, self.name)

    @steps
    def join(self) -> Steps:
        assert self.strand is not None
        yield from self.machine.join(self.strand)
        self.strand.outcome()


class Flag:
    """threading.Event and asyncio.Event."""

    def __init__(self) -> None:
        self.on = False

    def set(self) -> None:
        self.on = True

    @steps
    def wait(self) -> Steps:
        yield Wait(lambda: self.on)


class Queue:
    """queue.Queue, as far as the programs' workers use it."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.undone = 0

    def put(self, job: Any) -> None:
        self.jobs.append(job)
        self.undone += 1

    @steps
    def get(self) -> Steps:
        yield Wait(lambda: bool(self.jobs))
        return self.jobs.pop(0)

    def task_done(self) -> None:
        self.undone -= 1

    @steps
    def join(self) -> Steps:
        yield Wait(lambda: self.undone == 0)


class Pool:
    """An executor: a job runs inside sections of all the common handles that its submitter has."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    def submit(self, function: Any, *args: Any) -> Future:
        inherited = self.machine.task.inherited
        task = self.machine.new_task(None, self.name)
        task.inherited = inherited
        work = self.job(task, self.machine.interpreter.call(function, *args))
        return Future(self.machine, self.machine.start("job", work, task, self.name))

    def job(self, task: Task, work: Steps) -> Steps:
        for found in task.chain():
            task.follow(found)
        return (yield from work)


class Future:
    """A future, or an asyncio task: it may be awaited."""

    def __init__(self, machine: Machine, strand: Strand) -> None:
        self.machine = machine
        self.strand = strand

    @steps
    def result(self) -> Steps:
        yield from self.machine.join(self.strand)
        return self.strand.outcome()

    wait = result


class Contexts:
    """contextvars: a copied context is a task; it inherits from who copies it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def copy_context(self) -> Context:
        return Context(self.machine, self.machine.task.inherited)


class Context:
    def __init__(self, machine: Machine, inherited: Inherited | None) -> None:
        self.machine = machine
        self.task = machine.new_task(inherited)

    @contextmanager
    def entered(self) -> Iterator[None]:
        assert self.machine.current is not None
        strand = self.machine.current
        strand.tasks.append(self.task)
        self.task.thread = strand.thread
        try:
            yield
        finally:
            strand.tasks.pop()

    @steps
    def run(self, function: Any, *args: Any, **kwargs: Any) -> Steps:
        with self.entered():
            return (yield from self.machine.interpreter.call(function, *args, **kwargs))


class Asyncio:
    """asyncio: a task is a strand on the thread of its loop."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @steps
    def run(self, coroutine: Any) -> Steps:
        strand = self.create_task(coroutine).strand
        yield from self.machine.join(strand)
        return strand.outcome()

    def create_task(self, coroutine: Any) -> Future:
        machine = self.machine
        task = machine.new_task(machine.task.inherited)
        return Future(
            machine, machine.start("asyncio", machine.interpreter.awaited(coroutine), task)
        )

    def sleep(self, seconds: float) -> Awaitable:
        return Awaitable(self.turn())

    def turn(self) -> Steps:
        yield Wait()

    def gather(self, *coroutines: Any) -> Awaitable:
        return Awaitable(self.gathered([self.create_task(c) for c in coroutines]))

    def gathered(self, futures: list[Future]) -> Steps:
        results = []
        for future in futures:
            results.append((yield from future.wait()))
        return results

    def to_thread(self, function: Any, *args: Any) -> Awaitable:
        return Awaitable(self.in_thread(function, args))

    def in_thread(self, function: Any, args: tuple[Any, ...]) -> Steps:
        context = Context(self.machine, self.machine.task.inherited)
        job = Pool(self.machine, "asyncio").submit(context.run, function, *args)
        return (yield from job.wait())

    def get_running_loop(self) -> Asyncio:
        return self

    def run_in_executor(self, pool: Pool, function: Any, *args: Any) -> Future:
        return pool.submit(function, *args)


class Awaitable:
    """Something to wait for that the program did not write."""

    def __init__(self, work: Steps) -> None:
        self.work = work

    def wait(self) -> Steps:
        return (yield from self.work)
