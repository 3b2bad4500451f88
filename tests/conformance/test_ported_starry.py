"""StarryOS's kcov programs, the largest suite of the interface that there is, as far as they apply.

Left out: RESET_TRACE (an ioctl that was never merged) and the ranges of kernel addresses.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import Driver, Fd

ONE = work.steps(work.one)
TWO = work.steps(work.two)
SMALL = backend.SIZE if backend.KERNEL else 64  # words

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_starry_init_trace(driver: Driver) -> None:
    """StarryOS, init-trace: 0 and MAX + 1 are EINVAL, 64 is good, a second call is EBUSY."""
    with driver.opened() as fd:
        assert fd.init_trace(0) == "EINVAL"
        assert fd.init_trace((1 << 31) // 8) == "EINVAL"
        assert fd.init_trace(64) == "ok"
        assert fd.init_trace(64) == "EBUSY"


def test_starry_the_buffer_starts_empty_and_stays_writable(driver: Driver) -> None:
    """StarryOS, mmap-buffer, pc-values, basic-easy."""
    with driver.opened("S2") as fd:
        assert fd.count == 0
        assert fd.enable() == "ok"
        work.nested()
        assert fd.disable() == "ok"
        assert 1 <= fd.count < len(fd.area)
        pcs = fd.area[1 : 1 + fd.count].tolist()
        assert all(pcs)
        assert len(set(pcs)) > 1
        fd.area[0] = 0
        fd.area[100] = 0x5EED
        assert (fd.area[0], fd.area[100]) == (0, 0x5EED)


def test_starry_three_cycles_accumulate_and_the_count_rests_between(driver: Driver) -> None:
    """StarryOS, enable-disable."""
    with driver.opened("S2") as fd:
        assert fd.disable() == "EINVAL"
        for cycle in range(1, 4):
            assert fd.enable() == "ok"
            work.one()
            assert fd.disable() == "ok"
            work.two()
            assert fd.steps() == ONE * cycle


@pytest.mark.embedded
def test_starry_a_heavy_load_fills_512_words_to_exactly_511(driver: Driver) -> None:
    """StarryOS, buffer-boundary: the last slot holds a PC and nothing is written past it."""
    with driver.opened("S2", 512) as fd:
        assert fd.enable() == "ok"
        work.loop(5000)
        assert fd.disable() == "ok"
        assert fd.count == 511
        wanted = work.steps_of(work.loop, 5000)
        assert fd.steps() == wanted[:511]
        assert fd.device.dropped == len(wanted) - 511


def test_starry_integrity(driver: Driver) -> None:
    """StarryOS, integrity: close while active, open again; overflow; DISABLE(1) changes nothing."""

    def closed_while_active() -> None:
        fd = driver.open("S2")
        assert fd.enable() == "ok"
        assert fd.close() == "ok"

    backend.in_thread(closed_while_active)
    with driver.opened("S2", SMALL) as fd:
        assert fd.enable() == "ok"
        work.loop(1000)
        assert fd.count <= SMALL
        fd.area[0] = 0
        assert fd.disable(1) == "EINVAL"
        work.one()
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_starry_per_fd_state(driver: Driver) -> None:
    """StarryOS, per-fd-state."""
    with driver.opened("S2") as fd, driver.opened("S2") as second:
        assert fd.enable() == "ok"
        assert second.enable() == "EBUSY"
        work.one()
        assert fd.disable() == "ok"
        assert second.enable() == "ok"
        work.two()
        assert fd.enable() == "EBUSY"
        assert backend.in_child(lambda: [second.disable(), fd.enable()]) == ["EINVAL", "ok"]
        assert second.disable() == "ok"
        assert (fd.steps(), second.steps()) == (ONE, TWO)


def test_starry_a_child_can_neither_disable_nor_stop_its_parents_session(driver: Driver) -> None:
    """StarryOS, disable-thread-check: also the child's closing of its copy stops nothing."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        assert backend.in_child(lambda: [fd.disable(), fd.close()]) == ["EINVAL", "ok"]
        assert backend.in_thread(fd.disable) == "EINVAL"
        fd.area[0] = 0
        work.one()
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


@pytest.mark.embedded
def test_starry_no_guard_stays_set_the_count_grows_at_every_step(driver: Driver) -> None:
    """StarryOS, guard-test: a recursion guard that is not released would stop the second step."""
    with driver.opened("S2", 4096) as fd:
        for step in range(1, 101):
            assert fd.enable() == "ok"
            work.fails()
            assert fd.disable() == "ok"
            assert fd.count == step * len(work.steps(work.fails))


def test_starry_a_short_lived_thread_exits_enabled_and_main_goes_on(driver: Driver) -> None:
    """StarryOS, threading."""
    with driver.opened("S2") as fd, driver.opened("S2") as second:
        assert fd.enable() == "ok"

        def short_lived() -> str:
            answer = second.enable()
            work.two()
            return answer

        assert backend.in_thread(short_lived) == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert (fd.steps(), second.steps()) == (ONE, TWO)


def test_starry_stress_100_devices_opened_and_closed(driver: Driver) -> None:
    """StarryOS, stress: 100 open/close, 100 full lifecycles."""
    for _ in range(100):
        assert driver.open().close() == "ok"
    for _ in range(100):
        assert lifecycle(driver) == ONE


def lifecycle(driver: Driver) -> list[work.Step]:
    with driver.opened("S2", SMALL) as fd:
        assert fd.enable() == "ok"
        work.one()
        assert fd.disable() == "ok"
        return fd.steps()


def test_starry_stress_8_threads_of_50_cycles(driver: Driver) -> None:
    """StarryOS, stress; qemu-kcov-smp, concurrent: no thread may lose a PC to the others."""
    start = threading.Barrier(8)

    def body(number: int) -> bool:
        start.wait(30)
        with driver.opened("S2", SMALL) as fd:
            for _ in range(50):
                assert fd.enable() == "ok"
                fd.area[0] = 0
                (work.one if number % 2 else work.two)()
                if fd.steps() != (ONE if number % 2 else TWO):
                    return False
                assert fd.disable() == "ok"
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(body, range(8)))


def reset_and_collect(fd: Fd, handle: int) -> list[work.Step]:
    """One call of syzkaller's executor: store 0, do the call, read the count and copy."""
    fd.area[0] = 0
    if handle:
        backend.section(handle, [work.nested])
    else:
        work.nested()
    # Its own test of overflow: data + (count + 2) * 8 > end.
    assert not (fd.count + 2) * 8 > fd.area.nbytes
    return fd.steps()


def test_starry_syzkaller_emulation(driver: Driver) -> None:
    """StarryOS, syzkaller-emulation: 512K words, many calls in a session, reuse, fork worker."""
    with driver.opened("S2", 512 << 10) as fd:
        assert fd.enable() == "ok"
        for _ in range(200):
            assert reset_and_collect(fd, 0) == work.steps(work.nested)
        assert fd.disable() == "ok"
        assert fd.enable() == "ok"
        assert reset_and_collect(fd, 0) == work.steps(work.nested)
        assert fd.disable() == "ok"

        def worker() -> str:
            fd.area[0] = 0
            answer = fd.enable()
            work.two()
            return answer

        assert backend.in_child(worker) == "ok"
        assert fd.steps() == TWO


@pytest.mark.embedded
def test_starry_syzkallers_extra_device_collects_what_its_worker_leaves_behind(
    driver: Driver,
) -> None:
    """syzkaller's "extra" device: common handle procid + 1, handles[0] = USB | procid + 1."""
    usb = pykcov.remote_handle(pykcov.SUBSYSTEM_USB, 1)
    with backend.tasks("thread") as (worker,), driver.opened("S2", 1 << 20) as extra:
        assert extra.remote_enable([usb], 1, area_size=512) == "ok"
        for handle in (1, usb):
            assert worker(lambda h=handle: reset_and_collect(extra, h)) == work.steps(work.nested)
        assert extra.disable() == "ok"


@pytest.mark.embedded
def test_a_full_area_is_told_by_syzkallers_formula(driver: Driver) -> None:
    """The overflow formula of the same suite holds at 511 of 512 words and not at 510."""
    with driver.opened("S2", 512) as fd:
        assert fd.enable() == "ok"
        fd.area[0] = 508
        work.one()
        assert fd.count == 510
        assert not (fd.count + 2) * 8 > fd.area.nbytes
        work.one()
        assert fd.count == 511
        assert (fd.count + 2) * 8 > fd.area.nbytes
        assert fd.disable() == "ok"
