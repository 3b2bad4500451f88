"""What only the kernel's device has: descriptors, threads, comparisons, its own errors in words."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import pykcov
from conformance import backend, work
from conformance.marks import DEVICE, PATIENCE
from kernel.names import function
from pykcov import abi, linux

SIZE = 1 << 16
BUS_1 = pykcov.remote_handle(pykcov.SUBSYSTEM_USB, 1)

libc = ctypes.PyDLL(None)


@pytest.fixture
def device() -> Iterator[linux.Device]:
    with pykcov.open(DEVICE) as device:
        device.init_trace(SIZE)
        yield device


def refused(code: int, call: Callable[[], object]) -> str:
    """The text of the error that the call gives."""
    with pytest.raises(pykcov.KcovError) as caught:
        call()
    assert caught.value.errno == code
    assert caught.value.strerror is not None
    return caught.value.strerror


# Coverage


def test_the_trace_of_a_system_call_begins_in_its_own_function(device: linux.Device) -> None:
    area = device.mmap()
    device.enable()
    area[0] = 0
    libc.read(-1, None, 0)
    count = area[0]
    device.disable()
    functions = [function(pc) for pc in area[1 : count + 1]]
    assert "ksys_read" in functions
    assert not {"ksys_write", "sys_write"} & set(functions)


def test_comparisons_have_the_constant_first_and_the_value_second(device: linux.Device) -> None:
    area = device.mmap()
    device.enable(pykcov.TRACE_CMP)
    area[0] = 0
    libc.lseek(device.fileno(), 0, 0x5EED)  # which compares it with the last way to seek
    count = area[0]
    device.disable()
    words = area[1 : 1 + 4 * count].tolist()
    records = [tuple(words[at : at + 4]) for at in range(0, len(words), 4)]
    found = [record for record in records if record[2] == 0x5EED]
    assert found
    for kind, constant, _, pc in found:
        assert kind & 1, "one of the two is a constant"
        assert kind >> 1 == 2, "an int has 4 bytes"
        assert constant < 16
        assert function(pc)


def test_a_full_area_stops_at_size_minus_1() -> None:
    for mode, records in ((pykcov.TRACE_PC, 511), (pykcov.TRACE_CMP, 511 // 4)):
        with pykcov.open(DEVICE) as device:
            device.init_trace(512)
            area = device.mmap()
            device.enable(mode)
            for _ in range(50):
                os.listdir("/")
            assert area[0] == records == abi.capacity(512, mode)
            device.disable()


@pytest.mark.parametrize("count", [SIZE - 1, SIZE, 1 << 40, 1 << 63, (1 << 64) - 2], ids=hex)
def test_a_count_that_does_not_fit_is_a_full_area(device: linux.Device, count: int) -> None:
    area = device.mmap()
    device.enable()
    area[0] = count
    work.one()
    device.disable()
    assert area[0] == count


def test_a_count_of_all_ones_is_overwritten_by_a_pc(device: linux.Device) -> None:
    """Row "count word of 2^64 - 1" of docs/kernel-differences.md. Never with comparisons: the kernel would crash."""
    area = device.mmap()
    device.enable()
    area[0] = (1 << 64) - 1
    work.one()
    device.disable()
    assert function(area[0])
    assert SIZE < area[0] < (1 << 64) - 1


def test_the_end_of_enable_and_the_begin_of_disable_are_traced(device: linux.Device) -> None:
    """Row "own calls" of docs/kernel-differences.md."""
    area = device.mmap()
    device.enable()
    assert area[0] > 0
    area[0] = 0
    device.disable()
    assert area[0] > 0


# The area


@pytest.mark.parametrize("size", [2, 3, 511, 513, 1000])
def test_a_size_of_no_whole_pages_cannot_be_mapped_and_the_error_says_so(size: int) -> None:
    with pykcov.open(DEVICE) as device:
        device.init_trace(size)
        assert "no whole pages of 512" in refused(errno.EINVAL, device.mmap)
        assert "no whole pages" in refused(errno.EINVAL, lambda: device.mmap(8 * size))


def test_a_length_that_the_kernel_rounds_up_to_the_area_maps_all_of_it(
    device: linux.Device,
) -> None:
    """Row "`mmap` by length" of docs/kernel-differences.md."""
    assert len(device.mmap(8 * SIZE - 1)) == SIZE


def mapped() -> int:
    """How many mappings of the device this process has."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum(DEVICE in line for line in maps)


def test_the_memory_is_there_until_the_last_view_is_gone() -> None:
    before = mapped()
    device = pykcov.open(DEVICE)
    device.init_trace(SIZE)
    area = device.mmap()
    part = area[SIZE - 1 :]
    device.close()
    area.release()
    part[0] = 7
    assert part[0] == 7
    assert mapped() == before + 1
    part.release()
    del area, part
    assert mapped() == before


# Descriptors


def test_who_may_not_open_it_can_use_one_that_is_inherited() -> None:
    program = """
import os, sys, pykcov
from pykcov import linux
pykcov.open  # imports it: the other user may not be able to read this one's library
os.setuid(65534)
try:
    pykcov.open(sys.argv[1])
except pykcov.KcovError as error:
    print(error.strerror.partition(": ")[2])
with linux.Device.from_fd(int(sys.argv[2])) as device:
    device.init_trace(4096)
    area = device.mmap()
    device.enable()
    area[0] = 0
    os.getppid()
    count = area[0]
    device.disable()
    print(count > 0, device.closed)
print(device.closed)
"""
    fd = os.open(DEVICE, os.O_RDWR)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, DEVICE, str(fd)],
            pass_fds=[fd], capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.close(fd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said, *rest = done.stdout.splitlines()
    assert said.startswith("only root may open it")
    assert rest == ["True False", "True"]


def test_a_device_that_came_through_a_socket_is_the_same_device(device: linux.Device) -> None:
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(here, [b"x"], [device.fileno()])
        (fd,) = socket.recv_fds(there, 1, 1)[1]
    with linux.Device.from_fd(fd) as second:
        assert "has its size already" in refused(errno.EBUSY, lambda: second.init_trace(SIZE))
        assert "set elsewhere" in refused(errno.EINVAL, second.mmap)
        assert "there is no mode 2" in refused(errno.EINVAL, lambda: second.enable(2))
        area = second.mmap(8 * SIZE)
        second.enable()
        area[0] = 0
        work.one()
        device.disable()
        assert area[0] > 0


def test_a_descriptor_that_is_only_for_reading_cannot_be_mapped() -> None:
    with linux.Device.from_fd(os.open(DEVICE, os.O_RDONLY)) as device:
        device.init_trace(SIZE)
        assert "reading and writing" in refused(errno.EACCES, device.mmap)


# Threads


def test_another_thread_that_disables_is_told_whose_it_is(device: linux.Device) -> None:
    assert "init_trace comes first" not in repr(device)
    device.enable()
    mine = threading.get_native_id()
    said = backend.in_thread(lambda: refused(errno.EINVAL, device.disable))
    assert said == f"disable: this thread did not enable the device: it is enabled by thread {mine}"
    assert f"enabled by thread {mine}" in repr(device)
    said = backend.in_thread(lambda: refused(errno.EINVAL, device.enable))
    assert said == f"enable: it is enabled by thread {mine}"
    said = backend.in_child(lambda: refused(errno.EINVAL, device.disable))
    assert said.endswith(f"it is enabled by thread {mine} of process {os.getpid()}")
    device.disable()
    assert "it is not enabled" in refused(errno.EINVAL, device.disable)


def test_a_thread_that_ended_enabled_is_not_named(device: linux.Device) -> None:
    backend.in_thread(device.enable)
    assert refused(errno.EINVAL, device.disable).endswith("it is not enabled")
    device.enable()
    device.disable()


def test_a_second_device_of_a_thread_is_busy(device: linux.Device) -> None:
    with pykcov.open(DEVICE) as second:
        second.init_trace(SIZE)
        device.enable()
        said = refused(errno.EBUSY, second.enable)
        assert (
            said == "enable: this thread has enabled another device; one that was closed counts too"
        )
        device.disable()
        second.enable()
        second.disable()


# The kernel's errors in words


def test_the_state_is_the_cause_where_the_arguments_are_good() -> None:
    with pykcov.open(DEVICE) as device:
        assert refused(errno.EINVAL, device.enable) == "enable: init_trace comes first"
        said = refused(errno.EINVAL, lambda: device.remote_enable(area_size=64))
        assert said == "remote_enable: init_trace comes first"
        assert "init_trace comes first" in refused(errno.EINVAL, device.mmap)
        said = refused(errno.EINVAL, lambda: device.init_trace(1))
        assert said == "init_trace: 1 words: from 2 to 268435455 can be had"


@pytest.mark.parametrize(
    ("code", "said", "arguments"),
    [
        (errno.EINVAL, "257 handles: Linux takes at most 256", {"handles": range(1 << 56, (1 << 56) + 257)}),
        (errno.EINVAL, "there is no mode 2", {"trace_mode": 2}),
        (errno.EINVAL, "handle 0x42: this kernel takes remote_handle(SUBSYSTEM_USB, bus)", {"handles": [BUS_1, 0x42]}),
        (errno.EINVAL, "common handle 0x100000000: this kernel takes 1 ... 0xffffffff", {"common_handle": 1 << 32}),
        (errno.EEXIST, "a handle is in use: one of 0x100000000000001, 0x100000000000001", {"handles": [BUS_1, BUS_1]}),
    ],
)  # fmt: skip
def test_the_first_check_that_a_remote_enable_does_not_pass_is_named(
    device: linux.Device, code: int, said: str, arguments: dict[str, object]
) -> None:
    text = refused(code, lambda: device.remote_enable(area_size=64, **arguments))  # type: ignore[arg-type]
    assert text.startswith(f"remote_enable: {said}")
    device.enable()  # as if nothing had been asked
    device.disable()


def test_an_argument_that_ends_too_early_is_efault(device: linux.Device) -> None:
    arg = abi.pack_remote_arg(0, 64, [BUS_1, BUS_1 + 1])
    for length in range(len(arg)):
        said = refused(
            errno.EFAULT, lambda end=length: device.ioctl(abi.KCOV_REMOTE_ENABLE, arg[:end])
        )
        assert said == f"ioctl: {length} bytes are less than struct kcov_remote_arg and its handles"
    assert device.ioctl(abi.KCOV_REMOTE_ENABLE, arg) == 0
    device.disable()
