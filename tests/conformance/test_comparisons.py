"""The mode TRACE_CMP: [n, (type, arg1, arg2, pc) ...], and where it is full."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import AREA, SIZE, Driver
from pykcov import TRACE_CMP, TRACE_PC

pytestmark = pytest.mark.embedded  # what Python code compares: the kernel's own are in tests/kernel

HANDLE = 0x42
LONG = "something longer"  # what compares() has as a constant: 16 bytes


def const(size: int, constant: int, value: int) -> tuple[int, int, int]:
    """A record as the kernel makes it: bit 0 for a constant, which is arg1, and log2 of the size."""
    return 1 | size << 1, constant, value % 2**64


def kept(fd: backend.Fd) -> list[tuple[int, ...]]:
    return [record[:3] for record in fd.records()]


def test_records_of_ints_are_the_kernels(driver: Driver) -> None:
    values = [0, 5, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, -1, -128, -129, -(2**63)]
    sizes = [0, 0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 3]
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_CMP) == "ok"
        for value in values:
            work.equal(value)
        assert fd.disable() == "ok"
        assert kept(fd) == [
            const(size, 5, value) for size, value in zip(sizes, values, strict=True)
        ]
        (pc,) = {record[3] for record in fd.records()}
        place = pykcov.symbolize(pc)
        line = work.equal.__code__.co_firstlineno + 1
        assert (place.kind, place.file, place.line) == ("cmp", work.FILE, line)
        assert (place.function, place.arm) == ("equal", "== const")


def test_a_comparison_is_no_pc_and_a_line_no_comparison(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_PC) == "ok"
        work.equal(7)
        assert fd.disable() == "ok"
        assert fd.steps() == work.steps_of(work.equal)
        fd.area[0] = 0
        assert fd.enable(TRACE_CMP) == "ok"
        work.one()
        assert fd.disable() == "ok"
        assert fd.count == 0


@pytest.mark.parametrize("size", [2, 4, 5, 8, 9, 10, 512, 513])
def test_a_full_area_has_size_minus_1_by_4_records_and_the_rest_is_counted(
    driver: Driver, size: int
) -> None:
    """Rows "area full (512 words, CMP)" and "(size-1)//4" of the real table."""
    with driver.opened("S2", size) as fd:
        assert fd.enable(TRACE_CMP) == "ok"
        for value in range(200):
            work.equal(value)
        assert fd.disable() == "ok"
        room = (size - 1) // 4
        assert kept(fd) == [const(0, 5, value) for value in range(min(room, 200))]
        assert fd.device.dropped == max(0, 200 - room)
        assert not any(fd.area[1 + 4 * room :])


@pytest.mark.parametrize("count", [(SIZE - 1) // 4, 1 << 40, 1 << 62, (1 << 64) - 1], ids=hex)
def test_a_count_that_does_not_fit_is_a_full_area_and_is_never_written(
    driver: Driver, count: int
) -> None:
    """2^62 wraps in the kernel, and 2^64-1 makes it write before the area."""
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_CMP) == "ok"
        fd.area[0] = count
        work.compares(6)
        assert fd.count == count
        assert not any(fd.area[1:])
        assert fd.device.dropped == 2
        assert fd.disable() == "ok"


def test_a_count_of_pcs_is_kept_as_one_of_records_and_grows(driver: Driver) -> None:
    """Row "ENABLE(CMP) after a PC run without zeroing"."""
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_PC) == "ok"
        work.one()
        assert fd.disable() == "ok"
        count = fd.count
        assert count == len(work.steps(work.one))
        assert fd.enable(TRACE_CMP) == "ok"
        work.equal(7)
        assert fd.disable() == "ok"
        assert fd.count == count + 1
        assert kept(fd)[count] == const(0, 5, 7)


def test_storing_0_in_the_count_word_starts_afresh_with_all_room_for_operands(
    driver: Driver,
) -> None:
    """A table of operands has room for some 30 records of the longest ones; it is emptied too."""
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_CMP) == "ok"
        for _ in range(20):
            fd.area[0] = 0
            for _ in range(10):
                work.compares(6, "x" * 300)
        assert fd.disable() == "ok"
        assert fd.count == 20
        assert fd.device.dropped == 0
        texts = {(c.left, c.right, c.cut) for c in fd.device.trace().comparisons[1::2]}
        assert texts == {("x" * 256, LONG, "left")}


def test_operands_without_room_are_counted(driver: Driver) -> None:
    with driver.opened("S2") as fd:  # its table has 4096 bytes, less 16
        assert fd.enable(TRACE_CMP) == "ok"
        for _ in range(20):
            work.differ("x" * 256)
        work.equal(7)
        assert fd.disable() == "ok"
        room = (4096 - 16) // (256 + len(LONG))
        assert fd.device.dropped == 20 - room
        assert fd.count == room + 1
        assert kept(fd)[room] == const(0, 5, 7)


def test_short_texts_are_in_the_record_and_long_ones_beside_it(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.enable(TRACE_CMP) == "ok"
        work.differ("abc")
        assert fd.disable() == "ok"
        ((kind, place, value),) = kept(fd)
        assert value == struct.unpack("=Q", b"abc\0\0\0\0\0")[0]
        # both are str, the constant is in the table, 16 bytes and 3
        assert kind == 1 | 3 << 1 | 5 << 8 | 5 << 12 | 1 << 16 | 16 << 32 | 3 << 48
        assert place == 0
        (comparison,) = fd.device.trace().comparisons
        assert comparison[:4] == ("!=", "abc", LONG, "right")


def test_sections_bring_their_records_and_operands_in(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.remote_enable([HANDLE], mode=TRACE_CMP, area_size=AREA) == "ok"
        for text in ("a" * 20, "b" * 30, "c"):
            backend.in_thread(
                lambda text=text: backend.section(HANDLE, [lambda: work.compares(6, text)])
            )
        found = fd.device.trace().comparisons
        assert fd.disable() == "ok"
        assert [c.left for c in found] == [6, "a" * 20, 6, "b" * 30, 6, "c"]
        assert {c.right for c in found[1::2]} == {LONG}
        assert fd.device.dropped == 0


def test_a_section_and_its_device_count_what_has_no_room(driver: Driver) -> None:
    """Row "remote CMP with count nearly full": the device stops at (size - 1) // 4."""
    with driver.opened("S2", 25) as fd:
        assert fd.remote_enable([HANDLE], mode=TRACE_CMP, area_size=18) == "ok"
        for first in (0, 10):
            backend.in_thread(
                lambda first=first: backend.section(
                    HANDLE, [lambda n=n: work.equal(first + n) for n in range(7)]
                )
            )
        assert fd.disable() == "ok"
        assert [record[2] for record in kept(fd)] == [0, 1, 2, 3, 10, 11]
        assert fd.device.dropped == 8
        assert len(fd.area) == 25


def test_sections_of_both_modes_nest_and_each_gets_its_own(driver: Driver) -> None:
    with driver.opened("S2") as pcs, driver.opened("S2") as cmps, driver.opened("S2") as local:
        with backend.tasks("thread", "thread") as (one, other):
            assert one(lambda: pcs.remote_enable([0x50])) == "ok"
            assert other(lambda: cmps.remote_enable([0x51], mode=TRACE_CMP)) == "ok"
            assert local.enable(TRACE_CMP) == "ok"
            with pykcov.remote(0x50):
                work.equal(1)
                with pykcov.remote(0x51):
                    work.equal(2)
            work.equal(3)
            assert local.disable() == "ok"
            assert (one(pcs.disable), other(cmps.disable)) == ("ok", "ok")
        assert pcs.steps() == work.steps_of(work.equal) * 2
        assert kept(cmps) == [const(0, 5, 2)]
        assert kept(local) == [const(0, 5, value) for value in (1, 2, 3)]


def collected(body: Callable[[pykcov.collect], object], **options: int) -> pykcov.Trace:
    with pykcov.collect(include=[work.FILE], mode=TRACE_CMP, **options) as c:
        body(c)
    return c.trace


def test_a_collection_of_comparisons_drops_nothing_however_many_they_are() -> None:
    """The table of operands is emptied as often as the words are."""
    texts = [f"{'é' * (n % 100)}{n}" for n in range(6000)]
    trace = collected(lambda c: [work.differ(text) for text in texts], area_size=64)
    assert trace.dropped == 0
    assert [c.left for c in trace.comparisons] == texts


def in_another_process(handle: int) -> None:
    backend.in_child(
        lambda: backend.section(handle, [lambda n=n: work.differ("y" * n) for n in range(400)])
    )


def test_full_areas_of_another_process_wait_for_the_collector_with_their_operands() -> None:
    trace = collected(lambda c: in_another_process(c.handle), area_size=64)
    assert trace.dropped == 0
    found = [c.left for c in trace.comparisons if c.location.function == "differ"]
    assert found == ["y" * min(n, 256) for n in range(400)]


def test_what_a_killed_process_compared_is_recovered() -> None:
    def dies(handle: int) -> None:
        pykcov.remote_start(handle)
        work.differ("z" * 40)
        work.equal(9)
        __import__("os").kill(__import__("os").getpid(), 9)

    def killed(c: pykcov.collect) -> None:
        with pytest.raises(AssertionError, match="ended with 0x9"):
            backend.in_child(lambda: dies(c.handle))

    found = collected(killed).comparisons
    assert [c.left for c in found] == ["z" * 40, 9]


def test_both_modes_in_one_collection_are_refused_and_two_nest() -> None:
    with pytest.raises(pykcov.KcovError, match="nest two"):
        pykcov.collect(mode=(TRACE_PC, TRACE_CMP))  # type: ignore[arg-type]
    with pykcov.collect(include=[work.FILE]) as lines:
        trace = collected(lambda c: work.equal(4))
    assert [backend.step(pc) for pc in lines.trace] == work.steps_of(work.equal)
    assert [c[:4] for c in trace.comparisons] == [("==", 4, 5, "right")]
    assert len(trace) == 1
    assert list(lines.trace.comparisons) == []
