"""The table's rows about remote sections: which count, merge, overflow, nesting, misuse."""

from __future__ import annotations

import contextvars
import warnings

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import AREA, SIZE, Driver

ONE = work.steps(work.one)
TWO = work.steps(work.two)
THREE = work.steps(work.three)
HANDLE, OTHER = 0x42, 0x43

pytestmark = pytest.mark.embedded  # the kernel's own code has the annotations there: tests/kernel


# Which sections count


def test_a_handle_that_nobody_registered_is_silent_and_so_is_its_stop(
    driver: Driver, kind: str
) -> None:
    """Row "remote_start: handle not found": "the matching stop must be a no-op too"."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, backend.silence():
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: backend.section(OTHER, [work.one]))
        task(lambda: backend.section(0, [work.one]))
        assert fd.count == 0
        assert fd.disable() == "ok"
        task(lambda: backend.section(HANDLE, [work.one]))
        assert fd.count == 0


def test_a_section_that_started_before_its_handle_was_registered_is_not_collected(
    driver: Driver, kind: str
) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, backend.silence():
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: (work.two(), pykcov.remote_stop()))
        assert fd.count == 0
        task(lambda: backend.section(HANDLE, [work.three]))
        assert fd.steps() == THREE
        assert fd.disable() == "ok"


def test_the_trace_begins_at_the_start_and_ends_at_the_stop(driver: Driver, kind: str) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"

        def command() -> None:
            work.three()
            pykcov.remote_start(HANDLE)
            work.one()
            work.nested()
            pykcov.remote_stop()
            work.three()

        task(command)
        assert fd.steps() == ONE + work.steps(work.nested)
        assert fd.disable() == "ok"


def test_a_section_may_span_several_runs_of_its_task(driver: Driver, kind: str) -> None:
    """A task is a Context, not a stretch of a thread's time: others run in between."""
    with backend.tasks(kind, kind) as (task, other), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: pykcov.remote_start(HANDLE))
        other(work.three)
        task(work.one)
        other(work.three)
        task(work.two)
        task(pykcov.remote_stop)
        other(work.three)
        assert fd.steps() == ONE + TWO
        assert fd.disable() == "ok"


# Merge


def test_a_section_arrives_when_it_stops_and_not_before(driver: Driver, kind: str) -> None:
    """Row "merge": "only at stop"."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        assert fd.count == 0
        task(pykcov.remote_stop)
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_sections_arrive_in_the_order_of_their_stops(driver: Driver, kind: str) -> None:
    with backend.tasks(kind, kind) as (first, second), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        first(lambda: (pykcov.remote_start(HANDLE), work.one()))
        second(lambda: (pykcov.remote_start(HANDLE), work.two()))
        first(work.three)
        second(pykcov.remote_stop)
        first(pykcov.remote_stop)
        assert fd.steps() == TWO + ONE + THREE
        assert fd.disable() == "ok"


def test_sync_brings_open_sections_in_and_they_go_on(driver: Driver, kind: str) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        fd.device.sync()
        assert fd.steps() == ONE
        fd.device.sync()
        assert fd.steps() == ONE, "nothing comes twice"
        task(work.two)
        fd.device.sync()
        assert fd.steps() == ONE + TWO
        task(lambda: (work.three(), pykcov.remote_stop()))
        assert fd.steps() == ONE + TWO + THREE
        assert fd.disable() == "ok"


def test_a_section_that_straddles_disable_is_dropped_whole(driver: Driver, kind: str) -> None:
    """Row "section that straddles DISABLE, or DISABLE + re-enable": the sequence differs."""
    with backend.tasks(kind, kind) as (owner, task), driver.opened("S2") as fd, backend.silence():
        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        assert owner(fd.disable) == "ok"
        task(lambda: (work.two(), pykcov.remote_stop()))
        assert fd.count == 0

        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        assert owner(fd.disable) == "ok"
        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"
        task(lambda: (work.two(), pykcov.remote_stop()))
        assert fd.count == 0
        task(lambda: backend.section(HANDLE, [work.three]))
        assert fd.steps() == THREE
        assert owner(fd.disable) == "ok"


def test_a_section_that_outlives_its_device_does_no_harm(driver: Driver, kind: str) -> None:
    with backend.tasks(kind) as (task,), backend.silence():
        fd = driver.open("S1")
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        assert fd.disable() == "ok"
        assert fd.close() == "ok"
        with driver.opened("S2") as fresh:  # it may get the number and the words of the first
            assert fresh.remote_enable([HANDLE]) == "ok"
            task(lambda: (work.two(), pykcov.remote_stop()))
            assert fresh.count == 0
            assert fresh.disable() == "ok"


# Overflow


@pytest.mark.parametrize("area_size", [2, 3, 8, AREA])
def test_area_size_bounds_each_section_and_the_rest_is_counted(
    driver: Driver, area_size: int
) -> None:
    """Row of the real table: "area_size N: at most N - 1 PCs each"; here the rest is counted."""
    wanted = ONE * 8
    kept = wanted[: area_size - 1]
    with driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE], area_size=area_size) == "ok"
        for round in range(1, 3):
            backend.in_thread(lambda: backend.section(HANDLE, [work.one] * 8))
            assert fd.steps() == kept * round
            assert fd.device.dropped == (len(wanted) - len(kept)) * round
        assert fd.disable() == "ok"


def test_a_section_is_cut_to_the_room_in_the_area_and_the_rest_is_counted(driver: Driver) -> None:
    """Row "merge": "truncated silently to the free space"; here the rest is in `dropped`."""
    with driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        fd.area[0] = SIZE - 3
        backend.in_thread(lambda: backend.section(HANDLE, [work.nested]))
        assert fd.count == SIZE - 1
        wanted = work.steps(work.nested)
        assert [backend.step(pc) for pc in fd.area[SIZE - 2 :]] == wanted[:2]
        assert fd.device.dropped == len(wanted) - 2
        assert fd.disable() == "ok"


def test_storing_0_between_sections_starts_afresh(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        backend.in_thread(lambda: backend.section(HANDLE, [work.one]))
        fd.area[0] = 0
        backend.in_thread(lambda: backend.section(HANDLE, [work.two]))
        assert fd.steps() == TWO
        assert fd.disable() == "ok"


# Nesting


def test_sections_of_one_device_nest_and_record_each_event_once(driver: Driver, kind: str) -> None:
    """Row "remote_start twice": the kernel WARNs; here an event belongs to every open section."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, backend.silence():
        assert fd.remote_enable([HANDLE, OTHER]) == "ok"

        def command(outer: int, inner: int) -> None:
            with pykcov.remote(outer):
                work.one()
                with pykcov.remote(inner):
                    work.two()
                work.three()

        task(lambda: command(HANDLE, HANDLE))
        assert fd.steps() == ONE + TWO + THREE
        fd.area[0] = 0
        task(lambda: command(HANDLE, OTHER))
        assert fd.steps() == ONE + TWO + THREE
        assert fd.disable() == "ok"


def test_sections_of_two_devices_nest_and_an_event_belongs_to_both(
    driver: Driver, kind: str
) -> None:
    with (
        backend.tasks(kind, kind) as (task, second_owner),
        driver.opened("S2") as fd,
        driver.opened("S2") as second,
        backend.silence(),
    ):
        assert fd.remote_enable([HANDLE]) == "ok"
        assert second_owner(lambda: second.remote_enable([OTHER])) == "ok"

        def command() -> None:
            with pykcov.remote(HANDLE):
                work.one()
                with pykcov.remote(OTHER):
                    work.two()
                work.three()

        task(command)
        assert fd.steps() == ONE + TWO + THREE
        assert second.steps() == TWO
        assert fd.disable() == "ok"
        assert second_owner(second.disable) == "ok"


def test_a_section_inside_local_collection_belongs_to_both(driver: Driver, kind: str) -> None:
    """Rows "a task with kcov" and 7.2's "local + remote in one task: allowed with two fds"."""
    with (
        backend.tasks(kind) as (task,),
        driver.opened("S2") as local,
        driver.opened("S2") as fd,
        backend.silence(),
    ):
        assert task(local.enable) == "ok"
        assert task(lambda: fd.remote_enable([HANDLE])) == "ok"
        task(lambda: (work.one(), backend.section(HANDLE, [work.two]), work.three()))
        assert local.steps() == ONE + TWO + THREE
        assert fd.steps() == TWO
        assert task(local.disable) == "ok"
        task(lambda: backend.section(HANDLE, [work.one]))
        assert local.steps() == ONE + TWO + THREE
        assert fd.steps() == TWO + ONE
        assert task(fd.disable) == "ok"


def test_an_unregistered_section_inside_a_registered_one_is_transparent(
    driver: Driver, kind: str
) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, backend.silence():
        assert fd.remote_enable([HANDLE]) == "ok"

        def command() -> None:
            pykcov.remote_start(HANDLE)
            work.one()
            pykcov.remote_start(OTHER)
            work.two()
            pykcov.remote_stop()
            work.three()
            pykcov.remote_stop()

        task(command)
        assert fd.steps() == ONE + TWO + THREE
        assert fd.disable() == "ok"


# Misuse


def test_stop_without_start_warns_and_does_nothing(driver: Driver, kind: str) -> None:
    """W2: in the kernel this can hand the user's own area to the pool."""
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd:
        with backend.one_warning("remote_stop"):
            task(pykcov.remote_stop)
        assert task(fd.enable) == "ok"
        with backend.one_warning("remote_stop"):
            task(pykcov.remote_stop)
        task(work.one)
        assert task(fd.disable) == "ok"
        assert fd.steps() == ONE
        assert task(lambda: fd.remote_enable([HANDLE])) == "ok"
        with backend.one_warning("remote_stop"):
            task(pykcov.remote_stop)
        task(lambda: backend.section(HANDLE, [work.two]))
        assert fd.steps() == ONE + TWO
        assert task(fd.disable) == "ok"


def test_stop_in_another_task_warns_and_the_section_goes_on(driver: Driver, kind: str) -> None:
    with backend.tasks(kind, kind) as (task, other), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        task(lambda: (pykcov.remote_start(HANDLE), work.one()))
        with backend.one_warning("remote_stop"):
            other(pykcov.remote_stop)
        assert fd.count == 0
        with backend.silence():
            task(lambda: (work.two(), pykcov.remote_stop()))
        assert fd.steps() == ONE + TWO
        assert fd.disable() == "ok"


def test_a_with_block_that_ends_in_another_task_warns_and_ends_its_section(
    driver: Driver, kind: str
) -> None:
    with backend.tasks(kind, kind) as (task, other), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        block = pykcov.remote(HANDLE)
        task(block.__enter__)
        task(work.one)
        with backend.one_warning("remote"):
            other(lambda: block.__exit__(None, None, None))
        assert fd.steps() == ONE
        task(work.two)
        other(work.two)
        assert fd.steps() == ONE
        with backend.silence(), block:  # it can be used again
            work.three()
        assert fd.steps() == ONE + THREE
        assert fd.disable() == "ok"


def test_a_copy_of_a_context_does_not_inherit_its_open_sections(driver: Driver) -> None:
    with backend.tasks("context") as (task,), driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        child = task(
            lambda: (pykcov.remote_start(HANDLE), work.one(), contextvars.copy_context())[2]
        )
        child.run(work.three)
        with backend.one_warning("remote_stop"):
            child.run(pykcov.remote_stop)
        task(lambda: (work.two(), pykcov.remote_stop()))
        assert fd.steps() == ONE + TWO
        assert fd.disable() == "ok"


def test_a_misused_annotation_does_not_raise_where_warnings_are_errors(driver: Driver) -> None:
    """An annotation never raises into the code that it annotates: `-W error` is no exception."""
    with driver.opened("S2") as fd, warnings.catch_warnings():
        warnings.simplefilter("error")
        pykcov.remote_stop()
        assert fd.remote_enable([HANDLE]) == "ok"
        with pykcov.remote(HANDLE):
            work.one()
        pykcov.remote_stop()
        assert fd.steps() == ONE
        assert fd.disable() == "ok"


def test_an_exception_passes_through_a_section_unchanged(driver: Driver, kind: str) -> None:
    with backend.tasks(kind) as (task,), driver.opened("S2") as fd, backend.silence():
        assert fd.remote_enable([HANDLE]) == "ok"

        def raiser() -> None:
            work.two()
            raise LookupError("mine")

        with pytest.raises(LookupError, match=r"^mine$"):
            task(lambda: backend.section(HANDLE, [raiser]))
        assert fd.steps() == TWO
        assert fd.disable() == "ok"
