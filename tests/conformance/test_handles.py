"""The table's rows about handles: who is found by which, all or nothing, and the common handle."""

from __future__ import annotations

import contextvars
import os
import threading

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import Driver

ONE = work.steps(work.one)
TWO = work.steps(work.two)
HANDLE, OTHER, COMMON = 0x42, 0x43, 7

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.embedded,  # the kernel's own code has the annotations there: tests/kernel
]


def test_several_handles_of_one_device_all_lead_to_it(driver: Driver) -> None:
    handles = [HANDLE, OTHER, 1 << 56 | 3, (1 << 64) - 1]
    with driver.opened("S2") as fd:
        assert fd.remote_enable(handles, COMMON) == "ok"
        for handle in [*handles, COMMON]:
            backend.in_thread(lambda handle=handle: backend.section(handle, [work.one]))
        assert fd.steps() == ONE * 5
        assert fd.disable() == "ok"


def test_the_first_and_the_last_of_0x10000_handles_are_found(driver: Driver) -> None:
    handles = range(0x1000, 0x1000 + 0x10000)
    with driver.opened("S2") as fd, driver.opened("S1") as second:
        assert fd.remote_enable(handles, area_size=16) == "ok"
        for handle in (handles[0], handles[-1], handles[0x8000]):
            backend.in_thread(lambda handle=handle: backend.section(handle, [work.one]))
        for handle in (handles[0] - 1, handles[-1] + 1):
            backend.in_thread(lambda handle=handle: backend.section(handle, [work.two]))
        assert fd.steps() == ONE * 3
        assert fd.disable() == "ok"
        assert second.remote_enable(handles, area_size=16) == "ok", "all were given back"
        assert second.disable() == "ok"


def test_a_call_that_fails_leaves_nothing_of_itself_registered(driver: Driver, kind: str) -> None:
    """Row 10 and the row under the table: all or nothing, however late the bad handle comes."""
    with (
        backend.tasks(kind, kind) as (task, other),
        driver.opened("S2") as holder,
        driver.opened("S2") as fd,
        driver.opened("S2") as second,
    ):
        assert other(lambda: holder.remote_enable([0x77], 0x78)) == "ok"
        attempts = [
            ([1, 2, 3, 0x77], 0, "EEXIST"),
            ([1, 2, 3], 0x78, "EEXIST"),
            ([1, 2, 3, 2], 0, "EEXIST"),
            ([1, 2, 3, 0], 0, "EINVAL"),
            ([1, 2, 3], 1 << 48, "EINVAL"),
        ]
        for handles, common, errno in attempts:
            assert task(lambda h=handles, c=common: fd.remote_enable(h, c)) == errno
            assert task(pykcov.common_handle) == 0
            assert backend.in_thread(lambda: second_takes_all(second)) == "ok"
            assert task(fd.disable) == "EINVAL"
        assert task(lambda: fd.remote_enable([1, 2, 3], 4)) == "ok"
        assert task(fd.disable) == "ok"
        backend.in_thread(lambda: backend.section(0x77, [work.one]))
        assert holder.steps() == ONE, "the one that had the handle keeps it"
        assert other(holder.disable) == "ok"


def second_takes_all(second: backend.Fd) -> str:
    answer = second.remote_enable([1, 2, 3], 4)
    second.disable()
    return answer


# The common handle


def test_the_common_handle_is_the_tasks_own_while_it_collects(driver: Driver, kind: str) -> None:
    with backend.tasks(kind, kind) as (task, other), driver.opened("S1") as fd:
        assert task(pykcov.common_handle) == 0
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        assert task(pykcov.common_handle) == COMMON
        assert other(pykcov.common_handle) == 0
        assert task(fd.disable) == "ok"
        assert task(pykcov.common_handle) == 0
        assert task(lambda: fd.remote_enable([HANDLE])) == "ok"
        assert task(pykcov.common_handle) == 0, "handles[] give no common handle"
        assert task(fd.disable) == "ok"


def test_a_thread_inherits_the_common_handle_if_it_is_started_afterwards(driver: Driver) -> None:
    """Row of the real table: "new thread > 0, old thread 0"."""
    with backend.tasks("thread") as (old,), driver.opened("S2") as fd:
        assert fd.remote_enable(common=COMMON) == "ok"
        seen: list[int] = []

        def command() -> None:
            seen.append(pykcov.common_handle())
            backend.section(pykcov.common_handle(), [work.one])

        old(command)
        assert (seen, fd.count) == ([0], 0)
        thread = threading.Thread(target=command)
        thread.start()
        backend.gone(thread)
        assert seen == [0, COMMON]
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_a_copy_of_the_context_inherits_the_common_handle(driver: Driver) -> None:
    with backend.tasks("context") as (task,), driver.opened("S2") as fd:
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        child = task(contextvars.copy_context)
        grandchild = child.run(contextvars.copy_context)
        assert child.run(pykcov.common_handle) == COMMON
        assert grandchild.run(pykcov.common_handle) == COMMON
        grandchild.run(lambda: backend.section(pykcov.common_handle(), [work.one]))
        assert fd.steps() == ONE
        assert task(fd.disable) == "ok"


def test_a_stale_common_handle_matches_nothing(driver: Driver) -> None:
    """Row "parent DISABLEs remote", W1: the kernel gives the child's work to the next session."""
    with backend.tasks("context") as (task,), driver.opened("S2") as fd:
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        child = task(contextvars.copy_context)
        assert child.run(pykcov.common_handle) == COMMON
        assert task(fd.disable) == "ok"
        for again in (fd, driver.open("S2")):
            with backend.tasks("context") as (owner,), backend.silence():
                assert owner(lambda again=again: again.remote_enable(common=COMMON)) == "ok"
                child.run(lambda: backend.section(pykcov.common_handle(), [work.one]))
                assert again.count == 0
                backend.in_thread(lambda: backend.section(COMMON, [work.two]))
                assert again.steps() == TWO, "the number itself is as good as new"
                assert owner(again.disable) == "ok"
            again.close()


def test_a_common_handle_that_is_stale_in_another_process_matches_nothing(driver: Driver) -> None:
    """Row of the real table: "by a fork child after DISABLE in the parent, parent re-enables"."""
    with backend.tasks("context") as (task,), driver.opened("S2") as fd:
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        go, said = os.pipe()

        def fork() -> int:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    handle = pykcov.common_handle()
                    os.read(go, 1)
                    backend.section(handle, [work.one])
                    backend.section(pykcov.common_handle(), [work.one])
                    status = 0 if handle == COMMON else 2
                finally:
                    os._exit(status)
            return child

        child = task(fork)
        assert task(fd.disable) == "ok"
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        os.write(said, b"x")
        _, status = os.waitpid(child, 0)
        os.close(go)
        os.close(said)
        assert os.waitstatus_to_exitcode(status) == 0
        assert fd.count == 0
        assert task(fd.disable) == "ok"


def test_a_local_disable_in_a_child_keeps_the_common_handle_that_it_inherited(
    driver: Driver,
) -> None:
    """E13: in the RFC and in 6.1 a child's own DISABLE wipes it."""
    with (
        backend.tasks("context") as (task,),
        driver.opened("S2") as fd,
        driver.opened("S2") as local,
    ):
        assert task(lambda: fd.remote_enable(common=COMMON)) == "ok"
        child = backend.ContextTask(task(contextvars.copy_context))
        assert child(local.enable) == "ok"
        child(work.one)
        assert child(local.disable) == "ok"
        assert local.steps() == ONE
        assert child(pykcov.common_handle) == COMMON
        child(lambda: backend.section(pykcov.common_handle(), [work.two]))
        assert fd.steps() == TWO
        child.end()
        assert task(fd.disable) == "ok"
