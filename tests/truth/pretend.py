"""pykcov as an interpreted program sees it: the model of collecting.py behind the public names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .collecting import UNLIMITED, Collection, Common, Inherited, Run, Task
from .machine import Machine
from .values import Steps, steps
from .world import Awaitable


class Pykcov:
    """The names that programs use: annotations, common_handle() and collect()."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.collects = 0

    def remote_start(self, handle: int) -> None:
        self.machine.mark("start")
        task = self.machine.task
        to = self.machine.registry.find(handle)
        task.sections.append(None if to is None else task.open_run(to, handle))

    def remote_stop(self) -> None:
        self.machine.mark("stop")
        run = self.machine.task.sections.pop()
        if run is not None:
            run.finish()

    def remote(self, handle: int) -> Remote:
        return Remote(self, handle)

    def common_handle(self) -> int:
        found = next(self.machine.task.chain(), None)
        if found is None:
            return 0
        handle = Common(found.handle)
        handle.session = (found.to, found.session)
        return handle

    def collect(
        self, handles: Iterable[int] = (), *, include: frozenset[int], area_size: int = 0,
        branch: bool = False,
    ) -> Collect:  # fmt: skip
        return Collect(self.machine, tuple(handles), include)


class Remote:
    """with pykcov.remote(handle)"""

    def __init__(self, pykcov: Pykcov, handle: int) -> None:
        self.pykcov = pykcov
        self.handle = handle

    def __enter__(self) -> Remote:
        self.pykcov.remote_start(self.handle)
        return self

    def __exit__(self, *error: object) -> None:
        self.pykcov.remote_stop()


class Collect:
    """with pykcov.collect() as c"""

    def __init__(self, machine: Machine, handles: tuple[int, ...], files: frozenset[int]) -> None:
        self.machine = machine
        self.handles = handles
        self.to = Collection("", files, UNLIMITED)
        self.handle = 0
        self.before: Inherited | None = None
        self.run: Run | None = None

    def __enter__(self) -> Collect:
        self.machine.mark("collect")
        machine, task = self.machine, self.machine.task
        machine.collections.append(self.to)
        self.handle = (1 << 46) + len(machine.collections)
        machine.registry.enable(self.to, (*self.handles, self.handle), task.process)
        self.before = task.inherited
        task.inherited = Inherited(self.handle, self.to, self.to.session, True, self.before)
        self.run = task.follow(task.inherited)
        return self

    def __exit__(self, *error: object) -> None:
        self.machine.mark("collected")
        task = self.machine.task
        task.inherited = self.before
        self.machine.registry.disable(self.to)


class Device:
    """A device that the program enables and disables."""

    def __init__(self, machine: Machine, to: Collection) -> None:
        self.machine = machine
        self.to = to
        self.owner: Task | None = None
        self.local: Run | None = None
        self.before: Inherited | None = None

    def enable(self) -> None:
        self.machine.mark("enable")
        task = self.owner = self.machine.task
        if task.local is not None:
            raise AssertionError("the scenario enables two local devices in one task")
        self.machine.registry.enable(self.to, (), task.process)
        task.local = self.local = task.open_run(self.to, 0)
        self.local.room = UNLIMITED
        self.local.nested = False

    def remote_enable(
        self, *, area_size: int, handles: Iterable[int] = (), common_handle: int = 0
    ) -> None:
        self.machine.mark("remote_enable")
        task = self.owner = self.machine.task
        own = (common_handle,) if common_handle else ()
        self.to.section_room = area_size - 1
        self.machine.registry.enable(self.to, (*handles, *own), task.process)
        if common_handle:
            task.inherited = Inherited(
                common_handle, self.to, self.to.session, False, task.inherited
            )

    def disable(self) -> None:
        self.machine.mark("disable")
        task = self.machine.task
        if task is not self.owner:
            raise AssertionError("the scenario disables a device of another task")
        if self.local is not None:
            self.local.finish()
            self.local = task.local = None
        self.machine.registry.disable(self.to)


class Helpers:
    """What the driver gives to a program besides pykcov. The driver's code is in no scope."""

    def __init__(self, machine: Machine, pykcov: Pykcov) -> None:
        self.machine = machine
        self.pykcov = pykcov

    def device(self, key: str, size: int, include: frozenset[int], sections: int) -> Device:
        to = Collection(key, include, size - 1)
        self.machine.collections.append(to)
        return Device(self.machine, to)

    def empty(self, device: Device) -> None:
        """The user stores 0 in the count word."""
        to, local = device.to, device.local
        if local is not None:
            to.runs.append(replace(local))
        to.lost, to.runs = to.dropped(), []
        if local is not None:
            local.events.clear()

    def keep(self, key: str, collect: Collect) -> None:
        """The program is done with a collect(): the driver compares it afterwards."""
        collect.to.key = key

    @steps
    def aside(self, handle: int, function: Any, *args: Any) -> Steps:
        """A call inside a section that code out of scope opens."""
        self.pykcov.remote_start(handle)
        try:
            return (yield from self.machine.interpreter.call(function, *args))
        except Exception:
            return 1
        finally:
            self.pykcov.remote_stop()

    def aside_async(self, handle: int, coroutine: Any) -> Awaitable:
        return Awaitable(self.aside_awaited(handle, coroutine))

    def aside_awaited(self, handle: int, coroutine: Any) -> Steps:
        self.pykcov.remote_start(handle)
        try:
            return (yield from self.machine.interpreter.awaited(coroutine))
        except Exception:
            return 1
        finally:
            self.pykcov.remote_stop()
