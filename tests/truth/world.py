"""What a program finds around it while it is interpreted: builtins, threads, asyncio, contexts."""

from __future__ import annotations

import asyncio as real_asyncio
import builtins
from typing import Any

from .machine import Machine
from .values import SimStop, Steps, Suspendable, Wait, steps

ERRORS = (
    "Exception", "BaseException", "ValueError", "KeyError", "IndexError", "ZeroDivisionError",
    "StopIteration", "AssertionError", "RuntimeError", "GeneratorExit",
)  # fmt: skip


class Builtins:
    """The builtins that call the program: generators, and functions as keys."""

    def __init__(self, machine: Machine) -> None:
        self.interpreter = machine.interpreter

    def names(self) -> dict[str, Any]:
        found = {name: getattr(builtins, name) for name in ERRORS}
        for name in ("list", "sum", "next", "sorted", "any"):
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
        return sum((yield from self.list(over)))

    @steps
    def any(self, over: Any) -> Steps:
        step = self.interpreter.items((yield from self.interpreter.iterator(over)))
        while True:
            more, item = yield from step()
            if not more or item:
                return bool(more)

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
        return [item for _, item in sorted(items, key=lambda pair: pair[0])]


class Asyncio:
    """asyncio: a task is a strand on the thread of the loop."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @steps
    def run(self, coroutine: Suspendable) -> Steps:
        machine = self.machine
        task = machine.new_task(machine.task)
        strand = machine.start("asyncio.run", machine.interpreter.awaited(coroutine), task)
        yield from machine.join(strand)
        return strand.outcome()

    def sleep(self, seconds: float) -> Sleep:
        return Sleep()


class Sleep:
    """asyncio.sleep(0): the other tasks have their turn."""

    def wait(self) -> Steps:
        yield Wait()


del real_asyncio
