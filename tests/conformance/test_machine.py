"""Random programs of verbs, tasks, sections and work, compared with the model after every step."""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pykcov
from conformance import backend, model, work
from conformance.backend import ContextTask, Driver, Fd, Task, ThreadTask

HANDLES = [1, 2, 0x42, 1 << 56 | 1]
COMMONS = [0, 1, 7, 1 << 48]
WORKS: dict[str, tuple[Callable[[], Any], list[work.Step]]] = {
    "one": (work.one, work.steps(work.one)),
    "two": (work.two, work.steps(work.two)),
    "three": (work.three, work.steps(work.three)),
    "nested": (work.nested, work.steps(work.nested)),
    "fails": (work.fails, work.steps(work.fails)),
    "loop": (lambda: work.loop(9), work.steps_of(work.loop, 9)),
}

index = st.integers(0, 5)  # of a device, a task or a thread; taken modulo how many there are
handle = st.sampled_from(HANDLES)


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to pykcov and to the model; `pairs` and `actors` tie the two."""

    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        self.model = model.System()
        self.pairs: list[tuple[Fd, model.Device]] = []
        self.actors: list[tuple[Task, model.Task]] = []
        # Contexts run on either of these, or on the test's own thread.
        self.threads: list[Task | None] = [None, ThreadTask(), ThreadTask()]
        self.expected_warnings = 0
        self.catcher = warnings.catch_warnings(record=True)
        self.seen = self.catcher.__enter__()
        warnings.simplefilter("always")

    def pair(self, number: int) -> tuple[Fd, model.Device]:
        return self.pairs[number % len(self.pairs)]

    def actor(self, number: int) -> tuple[Task, model.Task]:
        return self.actors[number % len(self.actors)]

    def adopt(self, task: Task, parent: model.Task | None = None) -> None:
        self.actors.append((task, self.model.begin(parent)))

    @initialize()
    def first(self) -> None:
        self.open_device(64, True)
        self.adopt(ThreadTask())
        self.adopt(ContextTask())

    # Devices

    @precondition(lambda self: len(self.pairs) < 4)
    @rule(size=st.sampled_from([2, 8, 24, 64, 512]), sized=st.booleans())
    def open_device(self, size: int, sized: bool) -> None:
        fd, device = self.driver.open(), self.model.open()
        self.pairs.append((fd, device))
        if sized:
            assert fd.init_trace(size) == self.model.init_trace(device, size) == "ok"
            assert fd.mmap() == "ok"

    @rule(which=index, size=st.sampled_from([0, 1, 2, 24, 64, 1 << 28]))
    def init_trace(self, which: int, size: int) -> None:
        fd, device = self.pair(which)
        answer = self.model.init_trace(device, size)
        assert fd.init_trace(size) == answer
        if answer == "ok":
            assert fd.mmap() == "ok"

    @rule(which=index, who=index, mode=st.sampled_from([0, 0, 0, 0, 2]))
    def enable(self, which: int, who: int, mode: int) -> None:
        (fd, device), (task, mine) = self.pair(which), self.actor(who)
        assert task(lambda: fd.enable(mode)) == self.model.enable(mine, device, mode)

    @rule(
        which=index,
        who=index,
        handles=st.lists(st.sampled_from([*HANDLES, 0]), max_size=3),
        common=st.sampled_from(COMMONS),
        area_size=st.sampled_from([1, 2, 5, 16, 64, 64]),
    )
    def remote_enable(
        self, which: int, who: int, handles: list[int], common: int, area_size: int
    ) -> None:
        (fd, device), (task, mine) = self.pair(which), self.actor(who)
        answer = self.model.remote_enable(mine, device, handles, common, area_size)
        assert task(lambda: fd.remote_enable(handles, common, area_size=area_size)) == answer

    @rule(which=index, who=index, handle=handle, common=st.sampled_from([0, 7]))
    def remote_enable_well(self, which: int, who: int, handle: int, common: int) -> None:
        self.remote_enable(which, who, [handle], common, 64)

    @rule(which=index, who=index, arg=st.sampled_from([0, 0, 0, 1]))
    def disable(self, which: int, who: int, arg: int) -> None:
        (fd, device), (task, mine) = self.pair(which), self.actor(who)
        assert task(lambda: fd.disable(arg)) == self.model.disable(mine, device, arg)

    @rule(which=index)
    def disable_by_its_owner(self, which: int) -> None:
        fd, device = self.pair(which)
        for task, mine in self.actors:
            if device.owner is mine:
                assert task(fd.disable) == self.model.disable(mine, device, 0)
                return

    @precondition(lambda self: sum(not device.closed for _, device in self.pairs) > 2)
    @rule(which=index)
    def close(self, which: int) -> None:
        fd, device = self.pair(which)
        assert fd.close() == "ok"
        self.model.close(device)

    @rule(which=index)
    def sync(self, which: int) -> None:
        fd, device = self.pair(which)
        assert backend.answer(fd.device.sync) == self.model.sync(device)

    @rule(which=index)
    def start_afresh(self, which: int) -> None:
        fd, device = self.pair(which)
        if device.size:
            fd.area[0] = 0
            device.area = []

    # Tasks

    @precondition(lambda self: len(self.actors) < 6)
    @rule(how=st.sampled_from(["thread", "empty", "copy"]), who=index, on=index)
    def begin(self, how: str, who: int, on: int) -> None:
        parent, mine = self.actor(who)
        if how == "thread":
            self.adopt(parent(ThreadTask), mine)
        elif how == "copy":
            self.adopt(ContextTask(parent(contextvars.copy_context), self.thread(on)), mine)
        else:
            self.adopt(ContextTask(on=self.thread(on)))

    def thread(self, number: int) -> Task | None:
        return self.threads[number % len(self.threads)]

    @precondition(lambda self: backend.CONTEXTS_MOVE)
    @rule(who=index, on=index)
    def move(self, who: int, on: int) -> None:
        """A Context is the same task on whatever thread it runs."""
        task, _ = self.actor(who)
        if isinstance(task, ContextTask):
            task.on = self.thread(on)

    @precondition(lambda self: len(self.actors) > 2)
    @rule(who=index)
    def end(self, who: int) -> None:
        task, mine = self.actors.pop(who % len(self.actors))
        self.expected_warnings += self.model.end(mine)
        task.end()

    # Sections and work

    @rule(who=index, handle=st.sampled_from([*HANDLES, 0, 3]))
    def start(self, who: int, handle: int) -> None:
        task, mine = self.actor(who)
        self.model.start(mine, handle)
        task(lambda: pykcov.remote_start(handle))

    @rule(who=index)
    def start_of_the_common_handle(self, who: int) -> None:
        task, mine = self.actor(who)
        self.model.start(mine, self.model.common_handle(mine))
        task(lambda: pykcov.remote_start(pykcov.common_handle()))

    @rule(who=index)
    def stop(self, who: int) -> None:
        task, mine = self.actor(who)
        self.expected_warnings += self.model.stop(mine)
        task(pykcov.remote_stop)

    @rule(who=index, name=st.sampled_from(sorted(WORKS)))
    def work(self, who: int, name: str) -> None:
        task, mine = self.actor(who)
        function, steps = WORKS[name]
        self.model.work(mine, steps)
        task(function)

    @rule(who=index, handle=st.sampled_from([*HANDLES, 3]), name=st.sampled_from(sorted(WORKS)))
    def work_in_a_section(self, who: int, handle: int, name: str) -> None:
        task, mine = self.actor(who)
        function, steps = WORKS[name]
        self.model.start(mine, handle)
        self.model.work(mine, steps)
        self.model.stop(mine)
        task(lambda: backend.section(handle, [function]))

    # What must hold after every step

    @invariant()
    def areas_are_equal(self) -> None:
        for fd, device in self.pairs:
            if device.size:
                assert fd.steps() == device.area

    @invariant()
    def dropped_is_equal(self) -> None:
        for fd, device in self.pairs:
            if not device.closed:
                assert fd.device.dropped == device.dropped

    @invariant()
    def common_handles_are_equal(self) -> None:
        for task, mine in self.actors:
            assert task(pykcov.common_handle) == self.model.common_handle(mine)

    @invariant()
    def warnings_are_equal(self) -> None:
        texts = [str(w.message) for w in self.seen if issubclass(w.category, pykcov.KcovWarning)]
        assert len(texts) == self.expected_warnings, texts

    def teardown(self) -> None:
        for task, _ in self.actors:
            task.end()
        for thread in self.threads:
            if thread is not None:
                thread.end()
        for fd, _ in self.pairs:
            fd.close()
        self.catcher.__exit__(None, None, None)


class MethodsMachine(Machine):
    driver = backend.METHODS


class IoctlMachine(Machine):
    driver = backend.IOCTL


BOUNDS = settings(
    max_examples=50,  # for each of the two drivers
    stateful_step_count=40,
    deadline=None,  # no clocks: a step may wait for a thread
    suppress_health_check=[HealthCheck.too_slow],
)
TestByMethods = pytest.mark.embedded(MethodsMachine.TestCase)  # the kernel's: tests/kernel
TestByMethods.settings = BOUNDS
TestByIoctl = pytest.mark.embedded(IoctlMachine.TestCase)
TestByIoctl.settings = BOUNDS
