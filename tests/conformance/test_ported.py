"""The cases of other kcov test suites that make sense in user space, in their own steps.

gVisor, FreeBSD (of which NetBSD's are a part), OpenBSD, and the selftests proposed for Linux.
Left out: what tests a kernel only (passing a descriptor through a socket, comparisons until they
are built, KCOV_UNIQUE, RESET_TRACE).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import SIZE, Driver

ONE = work.steps(work.one)
TWO = work.steps(work.two)
COMMON = 7

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


# gVisor, test/syscalls/linux/kcov.cc


def test_gvisor_ten_more_enables_are_einval_and_every_pc_is_where_code_is(driver: Driver) -> None:
    """gVisor, Kcov."""
    with driver.opened("S2", 4096) as fd:
        assert fd.enable() == "ok"
        for _ in range(10):
            assert fd.enable() == "EINVAL"
        work.nested()
        assert fd.count > 0
        for pc in fd.area[1 : 1 + fd.count]:
            is_python = pc >> 48 == 0x7079  # no user or kernel address looks like that
            assert is_python is not backend.KERNEL
        assert fd.disable() == "ok"


def test_gvisor_a_premature_mmap_fails(driver: Driver) -> None:
    """gVisor, PrematureMmap; StarryOS, pre-init-reject."""
    with driver.opened() as fd:
        assert fd.mmap() == "EINVAL"
        assert fd.mmap(SIZE * 8) == "EINVAL"
        assert fd.enable() == "EINVAL"


def test_gvisor_two_devices_in_two_threads_collect_at_once_and_need_no_disable(
    driver: Driver,
) -> None:
    """gVisor, MultipleFds; StarryOS, threading: "two threads two fds"."""
    both = threading.Barrier(2)

    def body() -> list[work.Step]:
        fd = driver.open("S2")
        assert fd.enable() == "ok"
        both.wait(30)
        work.nested()
        both.wait(30)
        fd.close()
        return fd.steps()

    with backend.tasks("thread") as (task,):
        seen: list[list[work.Step]] = []
        thread = threading.Thread(target=lambda: seen.append(backend.in_thread(body)))
        thread.start()
        seen.append(task(body))
        backend.gone(thread)
    assert seen == [work.steps(work.nested)] * 2


def test_gvisor_threads_hand_one_device_on_without_a_new_mmap(driver: Driver) -> None:
    """gVisor, MultipleThreads."""
    with backend.tasks("thread", "thread") as (first, second), driver.opened() as fd:
        assert first(fd.init_trace) == "ok"
        assert first(fd.mmap) == "ok"
        assert first(fd.enable) == "ok"
        assert second(fd.enable) == "EINVAL"
        assert first(fd.disable) == "ok"
        assert second(fd.mmap) == "ok"
        assert second(fd.enable) == "ok"
        second(work.one)
        second.end()
        backend.settles(lambda: first(fd.enable))
        first(work.two)
        assert first(fd.disable) == "ok"
        assert fd.steps() == ONE + TWO


# FreeBSD, tests/sys/kern/kcov.c


def test_freebsd_bufsize(driver: Driver) -> None:
    """FreeBSD, kcov_bufsize: 0 and 1 fail, 2 is good, a second size fails."""
    with driver.opened() as fd:
        assert fd.init_trace(0) == "EINVAL"
        assert fd.init_trace(1) == "EINVAL"
        assert fd.init_trace(2) == "ok"
        assert fd.init_trace(2) == "EBUSY"


def test_freebsd_mmap(driver: Driver) -> None:
    """FreeBSD, kcov_mmap: two pages, one or three fail, two mappings see each other's words."""
    with driver.opened() as fd:
        assert fd.mmap(8192) == "EINVAL"
        assert fd.init_trace(2 * 4096 // 8) == "ok"
        assert fd.mmap(4096) == "EINVAL"
        assert fd.mmap(3 * 4096) == "EINVAL"
        assert fd.mmap(2 * 4096) == "ok"
        first = fd.area
        assert fd.mmap(2 * 4096) == "ok"
        first[0], first[1] = 0x11, 0x22
        assert list(fd.area[:2]) == [0x11, 0x22]
        fd.area[0], fd.area[1023] = 0x33, 0x44
        assert (first[0], first[1023]) == (0x33, 0x44)


def test_freebsd_enable(driver: Driver) -> None:
    """FreeBSD, kcov_enable."""
    with driver.opened() as fd:
        assert fd.enable() == "EINVAL"
        assert fd.init_trace() == "ok"
        assert fd.disable() == "EINVAL"
        assert fd.mmap() == "ok"
        assert fd.disable() == "EINVAL"
        assert fd.enable(-1) == "EINVAL"
        assert fd.enable() == "ok"
        assert fd.enable(0) == "EINVAL"
        assert fd.enable(1) == "EINVAL"
        assert fd.disable() == "ok"
        assert fd.disable() == "EINVAL"
        assert fd.enable(1) == "ok"
        assert fd.disable() == "ok"


PROGRAM = """
import sys, threading
import pykcov
from conformance import work

def enabled():
    device = pykcov.open(include=[work.FILE])
    device.init_trace(512)
    area = device.mmap()
    device.enable()
    work.one()
    assert area[0] == 2, area[0]
    return device, area

def mapped():
    device = pykcov.open(include=[work.FILE])
    device.init_trace(512)
    return device, device.mmap()

def closed_by_main():
    ready, closed = threading.Event(), threading.Event()
    kept = []
    def body():
        kept.extend(enabled())
        ready.set()
        closed.wait()
    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    kept[0].close()
    closed.set()
    thread.join()

def in_section():
    device, area = mapped()
    device.remote_enable(area_size=64, handles=[1])
    pykcov.remote_start(1)
    work.one()
"""


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("origin", "lines"),
    [
        ("kcov_mmap_no_munmap", "device, area = mapped(); device.close()"),
        ("kcov_mmap_no_munmap_no_close", "kept = mapped()"),
        ("kcov_mmap_enable_thread_close", "closed_by_main()"),
        ("kcov_enable_no_disable", "device, area = enabled(); device.close()"),
        ("kcov_enable_no_disable_no_close", "kept = enabled()"),
        ("kcov_enable_no_mapping", "enabled()[1].release()"),
        ("in a section", "in_section()"),
    ],
)
def test_freebsd_a_program_may_end_in_any_state(origin: str, lines: str) -> None:
    """FreeBSD, kcov_mmap_no_*, kcov_enable_no_* and kcov_mmap_enable_thread_close: no crash."""
    tests = os.path.dirname(os.path.dirname(work.FILE))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + lines + "\nprint('end')"],
        cwd=tests, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "end\n"
    assert "Traceback" not in done.stderr


def test_freebsd_basic_pc(driver: Driver) -> None:
    """FreeBSD, kcov_basic_pc."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        fd.area[0] = 0
        work.one()
        assert fd.count != 0
        assert fd.disable() == "ok"
        assert fd.steps() == ONE


def test_freebsd_a_thread_beside_the_enabled_one_adds_nothing(driver: Driver) -> None:
    """FreeBSD, kcov_thread_pc."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"

        def other() -> None:
            fd.area[0] = 0
            work.one()

        backend.in_thread(other)
        assert fd.steps() == []
        assert fd.disable() == "ok"


def test_freebsd_a_second_thread_takes_over_from_one_that_ended_enabled(driver: Driver) -> None:
    """FreeBSD, kcov_enable_multi_thread; StarryOS, threading."""
    with driver.opened("S2") as fd:

        def body() -> str:
            answer = fd.enable()
            work.one()
            return answer

        assert backend.in_thread(body) == "ok"
        backend.settles(lambda: backend.in_thread(body))
        assert fd.steps() == ONE * 2
        backend.settles(fd.enable)
        assert fd.disable() == "ok"


# OpenBSD, regress/sys/dev/kcov. Sizes there: the whole and the half of 256K words.

SIZES = pytest.mark.parametrize("size", [256 << 10, 128 << 10])


@SIZES
def test_openbsd_closing_another_device_gives_the_first_no_coverage(
    driver: Driver, size: int
) -> None:
    """OpenBSD, close."""
    with driver.opened("S2", size) as fd:
        other = driver.open("S2", size)
        assert other.close() == "ok"
        work.one()
        assert fd.count == 0


@SIZES
def test_openbsd_coverage(driver: Driver, size: int) -> None:
    """OpenBSD, coverage."""
    with driver.opened("S2", size) as fd:
        assert fd.enable() == "ok"
        work.nested()
        assert fd.disable() == "ok"
        assert fd.steps() == work.steps(work.nested)


def test_openbsd_a_device_that_another_thread_closed_is_ebadf_here(driver: Driver) -> None:
    """OpenBSD, dying."""

    def dying() -> None:
        fd = driver.open("S2")
        assert fd.enable() == "ok"
        assert backend.in_thread(fd.close) == "ok"
        work.one()
        assert fd.disable() == "EBADF"
        assert fd.steps() == ONE

    backend.in_thread(dying)


def test_openbsd_exec_in_an_enabled_child_frees_the_device(driver: Driver) -> None:
    """OpenBSD, exec: the parent can enable it again. The new program is another task."""
    with driver.opened("S2") as fd:
        child = os.fork()
        if child == 0:
            try:
                if fd.enable() == "ok":
                    work.one()
                    os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(0)"])
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert fd.steps() == ONE
        backend.settles(fd.enable)
        assert fd.disable() == "ok"


def test_openbsd_fork_a_child_enables_the_inherited_device_and_exits(driver: Driver) -> None:
    """OpenBSD, fork."""
    with driver.opened("S2") as fd:

        def child() -> None:
            assert fd.enable() == "ok"
            work.one()

        backend.in_child(child)
        assert fd.steps() == ONE
        backend.settles(fd.enable)
        assert fd.disable() == "ok"


def test_openbsd_a_second_device_beside_the_first_has_the_coverage_alone(driver: Driver) -> None:
    """OpenBSD, open."""
    with driver.opened("S2") as first, driver.opened("S2") as second:
        assert second.enable() == "ok"
        work.one()
        assert second.disable() == "ok"
        assert second.steps() == ONE
        assert first.count == 0


@pytest.mark.embedded
def test_openbsd_remote_work_of_an_older_thread_is_collected(driver: Driver) -> None:
    """OpenBSD, remote: the work queue was there before the device."""
    with backend.tasks("thread") as (queue,), driver.opened("S2") as fd:
        assert fd.remote_enable(common=COMMON) == "ok"
        handle = pykcov.common_handle()
        queue(lambda: backend.section(handle, [work.one]))
        assert fd.disable() == "ok"
        assert fd.steps() == ONE


def test_openbsd_closing_while_remote_enabled_and_opening_again_is_harmless(driver: Driver) -> None:
    """OpenBSD, remote-close."""

    def body() -> None:
        fd = driver.open("S2")
        assert fd.remote_enable(common=COMMON) == "ok"
        assert fd.close() == "ok"
        with driver.opened("S2") as again:
            work.one()
            assert again.count == 0

    backend.in_thread(body)


def test_openbsd_state(driver: Driver) -> None:
    """OpenBSD, state."""
    with driver.opened() as fd:
        assert [fd.init_trace(), fd.enable(), fd.disable()] == ["ok", "ok", "ok"]
        assert fd.init_trace() == "EBUSY"
        assert fd.disable() == "EINVAL"
        assert fd.enable() == "ok"
        assert fd.enable() == "EINVAL"
        assert fd.init_trace() == "EBUSY"
        assert fd.disable() == "ok"


# Selftests proposed for Linux


@pytest.mark.embedded
def test_linux_reading_twice_adds_alike_until_the_area_is_full_and_a_reset_frees_it(
    driver: Driver,
) -> None:
    """KCOV_UNIQUE's selftest, fixture kcov, mode_trace_pc: here both increments are equal."""
    with driver.opened("S2", 64) as fd:
        assert fd.enable() == "ok"
        work.two()
        first = fd.count
        work.two()
        assert fd.count == 2 * first > 0
        fd.area[0] = 0
        work.two()
        assert fd.count == first
        for _ in range(100):
            before = fd.count
            work.two()
            if fd.count == before:
                break
        assert fd.count == 63, "the increment is 0 where the area is full"
        fd.area[0] = 0
        work.two()
        assert fd.count == first
        assert fd.disable() == "ok"


def test_linux_user_ioctl_cases(driver: Driver) -> None:
    """kcov_dataflow's selftest, its cases that do not look at records."""
    with driver.opened() as fd, driver.opened("S2") as second:
        assert fd.mmap(SIZE * 8) == "EINVAL"
        assert fd.init_trace(1) == "EINVAL"
        assert fd.init_trace() == "ok"
        assert fd.init_trace() == "EBUSY"
        assert fd.disable() == "EINVAL"
        assert fd.enable() == "ok"
        assert second.enable() == "EBUSY"
        assert fd.disable() == "ok"
        assert second.enable() == "ok"
        assert second.disable() == "ok"
