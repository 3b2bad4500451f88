"""The table's rows about time: close, the end of a task, who is traced, and fork."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
import weakref
from typing import Any

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import Driver

ONE = work.steps(work.one)
TWO = work.steps(work.two)
THREE = work.steps(work.three)
HANDLE, COMMON = backend.handle(0x42), 7

# Children are forked from a process that has threads, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


# Close


def test_close_while_enabled_leaves_the_task_collecting_into_the_mapping(
    driver: Driver, kind: str
) -> None:
    """Row "close(fd) while enabled, mapping alive": the mapping holds the device."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, driver.opened("S2") as fresh:
        assert task(fd.enable) == "ok"
        assert fd.close() == "ok"
        task(work.one)
        assert fd.steps() == ONE
        assert task(fd.disable) == "EBADF", "nothing is left to disable it by"
        assert task(fresh.enable) == "EBUSY"
        assert task(fresh.disable) == "EINVAL"
        task(work.two)
        assert fd.steps() == ONE + TWO
        task.end()
        assert fd.steps() == ONE + TWO, "the mapping outlives the task"
        assert fresh.enable() == "ok", "another task was never busy"
        assert fresh.disable() == "ok"


def test_close_and_unmap_while_enabled_leaves_the_task_busy_until_it_ends(
    driver: Driver, kind: str
) -> None:
    """Row "close + munmap while enabled"."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, driver.opened("S2") as fresh:
        assert task(fd.enable) == "ok"
        fd.area.release()
        assert fd.close() == "ok"
        task(work.one)
        assert task(fresh.enable) == "EBUSY"
        task.end()


def test_close_while_remote_enabled_keeps_the_handles_until_the_owner_ends(
    driver: Driver, kind: str
) -> None:
    """Row "close": "remote handles stay registered: others get EEXIST"."""
    with backend.tasks(kind, kind) as (task, other), driver.opened("S1") as fresh:
        with driver.opened("S2") as fd:
            assert task(lambda: fd.remote_enable([HANDLE], COMMON)) == "ok"
            assert fd.close() == "ok"
            if not backend.KERNEL:
                other(lambda: backend.section(HANDLE, [work.one]))
                assert fd.steps() == ONE
            assert other(lambda: fresh.remote_enable([HANDLE])) == "EEXIST"
            assert other(lambda: fresh.remote_enable(common=COMMON)) == "EEXIST"
            task.end()
            backend.settles(lambda: other(lambda: fresh.remote_enable([HANDLE], COMMON)))
            assert other(fresh.disable) == "ok"


def test_close_while_not_enabled_leaves_the_mapping_usable(driver: Driver) -> None:
    fd = driver.open("S2")
    assert fd.enable() == "ok"
    work.one()
    assert fd.disable() == "ok"
    assert fd.close() == "ok"
    work.two()
    assert fd.steps() == ONE
    fd.area[0] = 0
    assert fd.count == 0


def test_close_twice_is_one_close(driver: Driver) -> None:
    fd = driver.open("S2")
    assert fd.close() == "ok"
    assert fd.device.closed
    assert fd.close() == "ok"


def test_a_with_block_closes_the_device(driver: Driver) -> None:
    with driver.open("S1").device as device:
        assert not device.closed
    assert device.closed


# The end of a task


def test_a_task_that_ends_while_enabled_frees_the_device(driver: Driver, kind: str) -> None:
    """Row "thread exit while enabled": back to INIT, the content stays, anyone can enable it."""
    with backend.tasks(kind, kind) as (task, other), driver.opened("S2") as fd:
        assert task(fd.enable) == "ok"
        task(work.one)
        assert other(fd.enable) == "EINVAL"
        task.end()
        assert other(fd.disable) == "EINVAL"
        backend.settles(lambda: other(fd.enable))
        other(work.two)
        assert other(fd.disable) == "ok"
        assert fd.steps() == ONE + TWO


def test_a_task_that_ends_while_remote_enabled_frees_device_and_handles(
    driver: Driver, kind: str
) -> None:
    with (
        backend.tasks(kind, kind) as (task, other),
        driver.opened("S2") as fd,
        driver.opened("S2") as second,
    ):
        assert task(lambda: fd.remote_enable([HANDLE, HANDLE + 1], COMMON)) == "ok"
        assert other(lambda: second.remote_enable([HANDLE])) == "EEXIST"
        task.end()
        backend.settles(lambda: other(lambda: second.remote_enable([HANDLE, HANDLE + 1], COMMON)))
        assert fd.enable() == "ok"
        assert fd.disable() == "ok"
        assert other(second.disable) == "ok"


@pytest.mark.embedded
def test_a_task_that_ends_inside_a_section_warns_and_leaks_nothing(
    driver: Driver, kind: str
) -> None:
    """Row "task exits inside a remote section": the kernel WARNs and leaks the device for ever."""
    with backend.tasks(kind) as (owner,), driver.opened("S2") as fd:
        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
        with backend.one_warning("section"), backend.tasks(kind) as (task,):
            task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        kept = fd.steps()
        assert kept == ONE[: len(kept)]
        assert len(kept) + fd.device.dropped == len(ONE), "what is not kept is counted"
        fd.area[0] = 0
        backend.in_thread(lambda: backend.section(HANDLE, [work.two]))
        assert fd.steps() == TWO
        assert owner(fd.disable) == "ok"
        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
        assert owner(fd.disable) == "ok"


@pytest.mark.embedded
@pytest.mark.parametrize("filter_", ["error", "ignore"])
def test_such_a_task_leaks_nothing_whatever_is_done_with_warnings(
    driver: Driver, kind: str, filter_: Any
) -> None:
    with driver.opened("S2") as fd, driver.opened("S2") as local, warnings.catch_warnings():
        warnings.simplefilter(filter_)
        threads = threading.enumerate()
        with backend.tasks(kind) as (owner,):
            assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
            assert owner(local.enable) == "ok"
            owner(lambda: pykcov.remote_start(HANDLE))
        backend.settles(lambda: fd.remote_enable([HANDLE]))
        backend.settles(local.enable)
        assert local.disable() == "ok"
        assert fd.disable() == "ok"
        left = [thread for thread in threading.enumerate() if thread not in threads]
        assert left == [], "no dummy for the thread that ended"


# Who is traced


def test_a_task_that_is_born_while_its_parent_collects_is_not_traced(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        backend.in_thread(work.one)
        if not backend.KERNEL:  # whose task is the thread
            backend.in_context(work.one)
            backend.ContextTask(backend.contextvars.copy_context())(work.one)
        thread = threading.Thread(target=work.one)
        thread.start()
        backend.gone(thread)
        assert fd.disable() == "ok"
        assert fd.steps() == []


@pytest.mark.embedded
def test_two_contexts_that_alternate_on_one_thread_are_two_tasks(driver: Driver) -> None:
    first, second = backend.ContextTask(), backend.ContextTask()
    with driver.opened("S2") as a, driver.opened("S2") as b:
        assert first(a.enable) == "ok"
        assert second(b.enable) == "ok"
        first(work.one)
        second(work.two)
        work.three()
        first(work.three)
        second(work.one)
        assert first(a.disable) == "ok"
        assert second(b.disable) == "ok"
        assert a.steps() == ONE + THREE
        assert b.steps() == TWO + ONE


@pytest.mark.embedded
@pytest.mark.skipif(
    not backend.CONTEXTS_MOVE, reason="3.11 traces threads (docs/kernel-differences.md)"
)
def test_a_context_is_the_same_task_on_whatever_thread_it_runs(driver: Driver) -> None:
    task = backend.ContextTask()
    with (
        backend.tasks("thread", "thread") as (here, there),
        driver.opened("S2") as fd,
        driver.opened("S2") as remote,
    ):
        assert remote.remote_enable([HANDLE]) == "ok"
        task.on = here
        assert task(fd.enable) == "ok"
        task(work.one)
        task(lambda: pykcov.remote_start(HANDLE))
        task.on = there
        task(work.two)
        there(work.three)
        task.on = None
        task(work.three)
        work.two()
        task.on = here
        task(work.one)
        task(pykcov.remote_stop)
        assert task(fd.disable) == "ok"
        assert fd.steps() == ONE + TWO + THREE + ONE
        assert remote.steps() == TWO + THREE + ONE
        assert remote.disable() == "ok"


def test_enable_keeps_no_object_of_its_callers_alive(driver: Driver) -> None:
    """It once kept the frames of all its callers until the next garbage collection."""

    class Local:
        pass

    def caller(fd: backend.Fd) -> weakref.ref[Local]:
        local = Local()
        fd.enable()
        work.one()
        fd.disable()
        return weakref.ref(local)

    gc.disable()
    try:
        with driver.opened("S2") as fd:
            assert caller(fd)() is None
    finally:
        gc.enable()


def test_the_owner_of_a_remote_device_collects_nothing_outside_sections(
    driver: Driver, kind: str
) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd:
        assert task(lambda: fd.remote_enable([HANDLE], COMMON)) == "ok"
        task(work.one)
        assert fd.count == 0
        if not backend.KERNEL:
            task(lambda: backend.section(HANDLE, [work.two]))
            assert fd.steps() == TWO, "a section in the owner's own task is one like any other"
        assert task(fd.disable) == "ok"


def test_a_device_that_one_task_sized_can_be_enabled_by_another(driver: Driver, kind: str) -> None:
    """Row of the real table: "INIT_TRACE by another thread, then ENABLE here"."""
    with backend.tasks(kind, kind) as (task, other), driver.opened() as fd:
        assert task(fd.init_trace) == "ok"
        assert task(fd.mmap) == "ok"
        assert other(fd.enable) == "ok"
        assert other(fd.disable) == "ok"


# Fork


def test_a_forked_child_is_not_traced_and_owns_nothing(driver: Driver) -> None:
    """Row "fork/clone": mode, area and device are cleared in the child."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"

        def child() -> list[str]:
            work.three()
            with driver.opened("S2") as own:
                answers = [fd.disable(), fd.enable(), own.enable()]
                work.two()
                answers += [own.disable(), str(own.steps() == TWO)]
            return answers

        assert backend.in_child(child) == ["EINVAL", "EINVAL", "ok", "ok", "True"]
        assert fd.steps() == []
        fd.area[0] = 0  # the kernel's is full of the fork
        work.one()
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_a_forked_child_may_enable_a_device_that_nobody_has_enabled(driver: Driver) -> None:
    with driver.opened("S2") as fd:

        def child() -> str:
            answer = fd.enable()
            work.one()
            return answer

        assert backend.in_child(child) == "ok"
        assert fd.steps() == ONE, "the area is shared"
        backend.settles(fd.enable)
        work.two()
        assert fd.disable() == "ok"
        assert fd.steps() == ONE + TWO


def test_what_a_forked_child_writes_into_the_mapping_is_seen_here(driver: Driver) -> None:
    with driver.opened("S2") as fd:

        def child() -> None:
            fd.area[5] = 0x5EED

        backend.in_child(child)
        assert fd.area[5] == 0x5EED


@pytest.mark.embedded
def test_a_forked_child_inherits_the_common_handle(driver: Driver) -> None:
    """Row "fork/clone": "kcov_handle inherited"; its sections land in the parent's area."""
    with driver.opened("S2") as fd:
        assert fd.remote_enable(common=COMMON) == "ok"

        def child() -> int:
            handle = pykcov.common_handle()
            backend.section(handle, [work.one])
            return handle

        assert backend.in_child(child) == COMMON
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_a_device_that_a_forked_child_sized_can_be_mapped_and_enabled_here(driver: Driver) -> None:
    """A descriptor is one device for all who inherited it, whoever sized it."""
    with driver.opened() as fd:
        assert backend.in_child(fd.init_trace) == "ok"
        assert fd.init_trace() == "EBUSY"
        assert fd.mmap(8 * backend.SIZE) == "ok"
        assert fd.enable() == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert fd.steps() == ONE


def test_a_child_that_is_killed_while_enabled_frees_the_device(driver: Driver) -> None:
    """Row of the real table: "child killed by SIGKILL; parent ENABLE"."""
    with driver.opened("S2") as fd:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, fd.enable().encode())
                signal.pause()
            finally:
                os._exit(1)
        try:
            assert os.read(reading, 10) == b"ok"
            assert fd.enable() == "EINVAL"
            assert fd.disable() == "EINVAL"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)
        backend.settles(fd.enable)
        assert fd.disable() == "ok"
