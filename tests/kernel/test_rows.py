"""Each row of docs/kernel-differences.md that a call can show: seen on both devices, where it is still a difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import Fd
from conformance.rules import LINUX, PYKCOV, Rules
from kernel import jobs
from kernel.sides import KERNEL, OWN, Side
from kernel.vhost import SEND, Vhost

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernel-differences.md"
SIZE = 1 << 14
BUS = pykcov.remote_handle(pykcov.SUBSYSTEM_USB, 0x1000)


@contextmanager
def sized(side: Side, size: int = SIZE) -> Iterator[Fd]:
    fd = side.open()
    try:
        assert fd.init_trace(size) == "ok"
        if size % 512 == 0:
            assert fd.mmap() == "ok"
        yield fd
    finally:
        fd.disable()
        fd.close()


def remote_enabled(**arguments: object) -> Callable[[Side], object]:
    def seen(side: Side) -> object:
        with sized(side) as fd:
            return fd.remote_enable(**{"area_size": 64, **arguments})  # type: ignore[arg-type]

    return seen


def local_beside_remote(side: Side) -> object:
    with sized(side) as first, sized(side) as second:
        return [first.remote_enable(), second.enable()]


def mapped(size: int, length: int) -> Callable[[Side], object]:
    def seen(side: Side) -> object:
        with sized(side, size) as fd:
            return fd.mmap(length)

    return seen


def passed_on(side: Side) -> Callable[[], None]:
    """The common handle of this task, handed to a background thread: what makes that do a job for it."""
    if side is KERNEL:
        vhost = Vhost()

        def job() -> None:
            vhost.kick(SEND)
            vhost.close()

    else:
        handle = pykcov.common_handle()

        def job() -> None:
            backend.in_thread(lambda: backend.section(handle, [jobs.send]))

    return job


def stale_handle(side: Side) -> object:
    """The work of one session lands in the next one that uses its number, or does not."""
    with sized(side) as fd:
        assert fd.remote_enable(common=7) == "ok"
        job = passed_on(side)
        assert fd.disable() == "ok"
        assert fd.remote_enable(common=7) == "ok"
        job()
        return side.events(fd)


def inherited_handle(side: Side) -> object:
    """A thread that inherits a common handle disables its own local device, and has the handle still, or not."""
    with sized(side) as fd, sized(side) as own:

        def child() -> None:
            assert own.enable() == "ok"
            assert own.disable() == "ok"
            passed_on(side)()

        assert fd.remote_enable(common=7) == "ok"
        backend.in_thread(child)
        return side.events(fd)


def own_calls(side: Side) -> object:
    with sized(side) as fd:
        assert fd.enable() == "ok"
        after_enable = fd.count > 0
        fd.area[0] = 0
        assert fd.disable() == "ok"
        return [after_enable, fd.count > 0]


def count_of_all_ones(side: Side) -> object:
    with sized(side) as fd:
        assert fd.enable() == "ok"
        fd.area[0] = (1 << 64) - 1
        work.one()
        assert fd.disable() == "ok"
        return fd.count == (1 << 64) - 1


MANY = range(BUS, BUS + 0x101)
# Field of Rules: the first cell of its row, what is seen, pykcov's answer and the kernel's.
ROWS: dict[str, tuple[str, Callable[[Side], object], object, object]] = {
    "max_handles": ("number of handles", remote_enabled(handles=MANY), "ok", "EINVAL"),
    "any_value_in_handles": ("`handles[]`", remote_enabled(handles=[0x42]), "ok", "EINVAL"),
    "common_handle_bits": ("`common_handle`", remote_enabled(common=1 << 32), "ok", "EINVAL"),
    "section_area": (
        "`area_size` that holds no record", remote_enabled(common=7, area_size=1), "EINVAL", "ok",
    ),
    "local_beside_remote": (
        "local and remote device in one task", local_beside_remote, ["ok", "ok"], ["ok", "EBUSY"],
    ),
    "any_size_can_be_mapped": (
        "a size that is not a whole number of pages", mapped(1000, 8000), "ok", "EINVAL",
    ),
    "length_is_exact": ("`mmap` by length", mapped(SIZE, 8 * SIZE - 1), "EINVAL", "ok"),
    "stale_handles_match_nothing": ("a stale common handle", stale_handle, [], ["send"]),
    "inherited_handle_is_kept": ("an inherited common handle", inherited_handle, ["send"], []),
    "own_calls_are_left_out": ("own calls", own_calls, [False, False], [True, True]),
    "every_count_is_safe": ("count word of 2^64 − 1", count_of_all_ones, True, False),
}  # fmt: skip


@pytest.mark.parametrize("rule", ROWS)
def test_a_row_that_says_they_differ_is_a_difference_and_this_one(rule: str) -> None:
    row, seen, own, kernel = ROWS[rule]
    assert own != kernel
    assert (backend.in_thread(lambda: seen(OWN)), backend.in_thread(lambda: seen(KERNEL))) == (
        own,
        kernel,
    )
    assert any(line.startswith(f"| {row} |") for line in PAGE.read_text("utf-8").splitlines()), row


def test_every_rule_in_which_they_differ_has_its_row() -> None:
    fields = {field.name for field in dataclasses.fields(Rules)}
    assert set(ROWS) == fields
    assert all(getattr(PYKCOV, name) != getattr(LINUX, name) for name in fields)
