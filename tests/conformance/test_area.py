"""The table's rows about the area: its mappings, its count word, where it is full."""

from __future__ import annotations

import pytest

from conformance import backend, work
from conformance.backend import SIZE, Driver

ONE = work.steps(work.one)
TWO = work.steps(work.two)
THREE = work.steps(work.three)
HANDLE = 0x42


def test_mappings_alias_the_same_words(driver: Driver) -> None:
    """Row "S2 again": 6.1 aliases the same pages."""
    with driver.opened("S2") as fd:
        first = fd.area
        assert fd.mmap() == "ok"
        second = fd.area
        first[7] = 0x1234
        assert second[7] == 0x1234
        second[7] = 0x4321
        assert first[7] == 0x4321
        first.release()
        assert fd.enable() == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert fd.steps() == ONE


def test_a_mapping_is_a_writable_buffer_of_64_bit_words_all_zero(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        area = fd.area
        assert isinstance(area, memoryview)
        assert (area.format, area.itemsize, area.readonly) == ("Q", 8, False)
        assert len(area) == SIZE
        assert not any(area)


def test_the_coverage_outlives_its_mappings(driver: Driver) -> None:
    """Row of the real table: "munmap while enabled, mmap again, coverage still there"."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        work.one()
        fd.area.release()
        work.two()
        assert fd.mmap() == "ok"
        assert fd.steps() == ONE + TWO
        assert fd.disable() == "ok"


def test_what_was_collected_before_the_first_mapping_is_there(driver: Driver) -> None:
    with driver.opened("S1") as fd:
        assert fd.enable() == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert fd.mmap() == "ok"
        assert fd.steps() == ONE


def test_enable_and_disable_leave_count_and_words_alone(driver: Driver) -> None:
    """Row ENABLE: "does not clear the buffer"; DISABLE: "buffer untouched"."""
    with driver.opened("S2") as fd:
        for round in range(1, 4):
            assert fd.enable() == "ok"
            work.one()
            assert fd.disable() == "ok"
            work.two()
            assert fd.steps() == ONE * round


def test_storing_0_in_the_count_word_starts_afresh(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        work.one()
        fd.area[0] = 0
        work.two()
        assert fd.steps() == TWO
        fd.area[0] = 0
        assert fd.disable() == "ok"
        assert fd.steps() == []
        assert fd.enable() == "ok"
        work.three()
        assert fd.disable() == "ok"
        assert fd.steps() == THREE


def test_words_beyond_the_count_are_left_alone(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        for at in range(1, SIZE):
            fd.area[at] = 0xAAAA_AAAA_AAAA_AAAA
        assert fd.enable() == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert fd.steps() == ONE
        assert set(fd.area[fd.count + 1 :]) == {0xAAAA_AAAA_AAAA_AAAA}


@pytest.mark.embedded
def test_a_full_area_stops_at_size_minus_1_and_the_rest_is_counted(driver: Driver) -> None:
    with driver.opened("S2", 16) as fd:
        assert fd.enable() == "ok"
        for _ in range(20):
            work.one()
        assert fd.disable() == "ok"
        assert fd.steps() == (ONE * 20)[:15]
        assert fd.device.dropped == len(ONE) * 20 - 15


FULL = (SIZE - 1, SIZE, 1 << 40, 1 << 63, (1 << 64) - 2, (1 << 64) - 1)


@pytest.mark.embedded
@pytest.mark.parametrize("count", FULL, ids=hex)
def test_a_count_that_does_not_fit_is_a_full_area_and_is_never_written(
    driver: Driver, count: int
) -> None:
    """Row "user writes the count"; 2^64-1 makes the kernel write over the count word."""
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        before = fd.area.tobytes()
        fd.area[0] = count
        work.one()
        assert fd.count == count
        assert fd.device.dropped == len(ONE)
        assert fd.disable() == "ok"
        assert fd.count == count
        fd.area[0] = 0
        assert fd.area.tobytes() == before, "no word was written anywhere"


@pytest.mark.embedded
@pytest.mark.parametrize("count", FULL, ids=hex)
def test_a_section_whose_device_has_such_a_count_is_counted_as_dropped(
    driver: Driver, count: int
) -> None:
    """Row "merge": "dropped whole if the count word > capacity", and W8: silently."""
    with driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE]) == "ok"
        fd.area[0] = count
        backend.in_thread(lambda: backend.section(HANDLE, [work.one]))
        assert fd.count == count
        assert not any(fd.area[1:])
        assert fd.device.dropped == len(ONE)
        assert fd.disable() == "ok"


@pytest.mark.embedded
def test_a_count_of_size_minus_2_leaves_room_for_one(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.enable() == "ok"
        fd.area[0] = SIZE - 2
        work.one()
        assert fd.disable() == "ok"
        assert fd.count == SIZE - 1
        assert backend.step(fd.area[SIZE - 1]) == ONE[0]
        assert fd.device.dropped == len(ONE) - 1


def test_a_thousand_cycles_leave_the_device_as_good_as_new(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        for _ in range(1000):
            assert fd.enable() == "ok"
            assert fd.disable() == "ok"
        assert fd.steps() == []
