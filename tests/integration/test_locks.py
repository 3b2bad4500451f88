"""The device's lock, a word of shared memory: it excludes, and no dead process and no damage keeps it."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from collections.abc import Iterator

import pytest

import pykcov
from integration.forks import end, start
from pykcov import namespace, registry
from pykcov._recorder import Lock
from pykcov.namespace import alive_byte
from pykcov.registry import Word

TURNS = 2_000


@pytest.fixture
def device() -> Iterator[pykcov.Device]:
    with pykcov.open() as device:
        yield device


def lock_of(device: pykcov.Device) -> Lock:
    return registry.get().device_lock(device.number)


def word_of(device: pykcov.Device) -> memoryview:
    return registry.get().slot(device.number)[Word.LOCK :]


@contextlib.contextmanager
def held_by_a_child(device: pykcov.Device) -> Iterator[None]:
    """Another process holds the lock in the block, and is killed at its end."""
    reading, writing = os.pipe()

    def hold() -> None:
        with lock_of(device):
            os.write(writing, b"x")
            signal.pause()

    child = start(hold)
    try:
        os.read(reading, 1)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_processes_take_turns(device: pykcov.Device) -> None:
    counter = memoryview(mmap.mmap(-1, 4096)).cast("Q")

    def count() -> None:
        lock = lock_of(device)
        for _ in range(TURNS):
            with lock:
                seen = counter[0]
                os.getppid()  # as long as a system call, another one may be in between
                counter[0] = seen + 1

    for child in [start(count) for _ in range(4)]:
        end(child)
    assert counter[0] == 4 * TURNS
    assert word_of(device)[0] == 0


def test_its_owner_can_take_it_twice(device: pykcov.Device) -> None:
    lock, word = lock_of(device), word_of(device)
    with lock:
        with lock:
            assert word[0] == namespace.get().alive == alive_byte(*namespace.this_process())
        assert word[0]
    assert word[0] == 0


def test_who_was_killed_keeps_nothing(device: pykcov.Device) -> None:
    with held_by_a_child(device):
        with pytest.raises(pykcov.KcovError, match="another process has kept its lock for 2 s"):
            lock_of(device).__enter__()
    assert word_of(device)[0]
    with lock_of(device):
        assert word_of(device)[0] == namespace.get().alive
    assert word_of(device)[0] == 0


def test_who_cannot_ask_whether_the_owner_lives_does_not_take_it(device: pykcov.Device) -> None:
    """The program has closed descriptors that are not its own."""
    space, word = namespace.get(), word_of(device)
    with held_by_a_child(device):
        owner, fd = word[0], space.lock_fd
        space.lock_fd = -1
        try:
            with pytest.raises(
                pykcov.KcovError, match=r"device \d+: namespace .*: this process has left it"
            ):
                lock_of(device).__enter__()
            assert word[0] == owner
        finally:
            space.lock_fd = fd


@pytest.mark.parametrize(
    "damage", [1, 2, 16, 1 << 62, alive_byte(1, 1), (1 << 63) + 5, 2**64 - 1], ids=hex
)
def test_damage_is_nobodys(device: pykcov.Device, damage: int) -> None:
    word_of(device)[0] = damage
    with lock_of(device):
        assert word_of(device)[0] == namespace.get().alive
    assert word_of(device)[0] == 0


def test_a_child_that_was_forked_in_it_does_not_give_back_its_parents(
    device: pykcov.Device,
) -> None:
    lock, word = lock_of(device), word_of(device)

    def leave() -> None:
        lock.__exit__()
        assert word[0] == parents

    with lock:
        parents = word[0]
        end(start(leave))
    assert word[0] == 0
