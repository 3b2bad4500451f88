"""Sections of the kernel's own background threads: a vhost worker by common handle, hub_event by USB bus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

import pykcov
from conformance import backend
from conformance.marks import DEVICE
from kernel.names import function
from kernel.usb import Bus, settled
from kernel.vhost import RECEIVE, SEND, Vhost
from pykcov import linux

SIZE, AREA = 1 << 18, 1 << 17
COMMON = 0x42
SERVES = {RECEIVE: "handle_rx_kick", SEND: "handle_tx_kick"}


@pytest.fixture
def device() -> Iterator[linux.Device]:
    with pykcov.open(DEVICE) as device:
        device.init_trace(SIZE)
        yield device


def functions(area: memoryview) -> set[str]:
    return {function(pc) for pc in area[1 : area[0] + 1]}


# A common handle


def test_the_worker_that_this_thread_owns_is_collected_by_its_common_handle(
    device: linux.Device,
) -> None:
    area = device.mmap()
    device.remote_enable(area_size=AREA, common_handle=COMMON)
    with closing(Vhost()) as vhost:
        for queue, name in SERVES.items():
            area[0] = 0
            vhost.kick(queue)
            assert name in functions(area)
            assert not set(SERVES.values()) - {name} & functions(area)
        device.disable()
        area[0] = 0
        vhost.kick(SEND)
        assert area[0] == 0, "nothing after disable"


def test_without_a_common_handle_the_worker_is_not_collected(device: linux.Device) -> None:
    area = device.mmap()
    device.remote_enable(area_size=AREA)
    with closing(Vhost()) as vhost:
        vhost.kick(SEND)
    device.disable()
    assert area[0] == 0


def test_a_worker_that_was_there_before_is_not_collected(device: linux.Device) -> None:
    area = device.mmap()
    with closing(Vhost()) as vhost:
        device.remote_enable(area_size=AREA, common_handle=COMMON)
        vhost.kick(SEND)
        device.disable()
    assert area[0] == 0


def test_the_work_of_one_common_handle_does_not_show_under_another(device: linux.Device) -> None:
    with backend.tasks("thread") as (other,), pykcov.open(DEVICE) as second:
        second.init_trace(SIZE)
        mine, others = device.mmap(), second.mmap()
        device.remote_enable(area_size=AREA, common_handle=COMMON)
        other(lambda: second.remote_enable(area_size=AREA, common_handle=COMMON + 1))
        with closing(Vhost()) as vhost, closing(other(Vhost)) as others_vhost:
            vhost.kick(SEND)
            others_vhost.kick(RECEIVE)
        device.disable()
        other(second.disable)
        assert {SERVES[SEND]} == set(SERVES.values()) & functions(mine)
        assert {SERVES[RECEIVE]} == set(SERVES.values()) & functions(others)


# A USB bus


@pytest.fixture(scope="module")
def buses() -> tuple[Bus, Bus]:
    """Two buses, with nothing plugged in."""
    return Bus(0), Bus(1)


def handle(bus: Bus) -> int:
    return pykcov.remote_handle(pykcov.SUBSYSTEM_USB, bus.number)


def test_what_is_plugged_into_a_bus_is_seen_by_its_handle_and_by_no_other(
    buses: tuple[Bus, Bus], device: linux.Device
) -> None:
    first, second = buses
    assert first.number != second.number
    with backend.tasks("thread") as (other,), pykcov.open(DEVICE) as beside:
        beside.init_trace(SIZE)
        seen, unseen = device.mmap(), beside.mmap()
        device.remote_enable(area_size=AREA, handles=[handle(first)])
        other(lambda: beside.remote_enable(area_size=AREA, handles=[handle(second)]))
        # A hub_event that is at an unplug takes a plug that it meets, too; and its section began before the handle was
        # enabled.
        before = settled(lambda: seen[0])
        first.plug()
        plugged = settled(lambda: seen[0])
        first.unplug()
        unplugged = settled(lambda: seen[0])
        assert before + 1000 < plugged < unplugged < SIZE - 1
        assert {"hub_event", "hub_port_init", "usb_new_device", "usb_disconnect"} <= functions(seen)
        assert unseen[0] == 0
        # And the other way round: what happens on bus 2 does not show under the handle of bus 1.
        second.plug()
        assert settled(lambda: unseen[0]) > 1000
        second.unplug()
        settled(lambda: unseen[0])
        assert {"hub_event", "usb_new_device"} <= functions(unseen)
        assert seen[0] == unplugged
        device.disable()
        other(beside.disable)


def test_after_disable_a_bus_is_not_collected(buses: tuple[Bus, Bus], device: linux.Device) -> None:
    area = device.mmap()
    device.remote_enable(area_size=AREA, handles=[handle(buses[0])])
    buses[0].cycle()
    assert settled(lambda: area[0]) > 0
    device.disable()
    area[0] = 0
    buses[0].cycle()
    assert settled(lambda: area[0]) == 0


def test_comparisons_of_a_bus_are_collected_too(
    buses: tuple[Bus, Bus], device: linux.Device
) -> None:
    area = device.mmap()
    device.remote_enable(trace_mode=pykcov.TRACE_CMP, area_size=AREA, handles=[handle(buses[0])])
    buses[0].cycle()
    count = settled(lambda: area[0])
    device.disable()
    assert count > 0
    assert "hub_event" in {function(pc) for pc in area[4 : 4 * count + 1 : 4]}


def test_one_device_takes_both_kinds_of_handles(
    buses: tuple[Bus, Bus], device: linux.Device
) -> None:
    area = device.mmap()
    device.remote_enable(
        area_size=AREA, handles=[handle(bus) for bus in buses], common_handle=COMMON
    )
    for bus in buses:
        before = area[0]
        bus.cycle()
        assert settled(lambda: area[0]) > before
    with closing(Vhost()) as vhost:
        vhost.kick(SEND)
    device.disable()
    assert {"hub_event", SERVES[SEND]} <= functions(area)
