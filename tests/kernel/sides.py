"""The two devices under one roof: each call goes to both, and what they hold is read as the same events.

An event is a piece of work.py, "one", "two" or "three", or a job of a background thread, "receive" or "send". pykcov records
their functions; the kernel records the system calls that they make, and what the worker of vhost does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pykcov
from conformance import backend, marks, model, work
from conformance.backend import Fd
from kernel import jobs
from kernel.names import function
from kernel.vhost import RECEIVE, SEND, Vhost

EVENTS = {1: "one", 2: "two", 3: "three"}
WORKS: dict[str, Callable[[], Any]] = {"one": work.one, "two": work.two, "three": work.three}
JOBS: dict[str, Callable[[], Any]] = {"receive": jobs.receive, "send": jobs.send}
QUEUES = {"receive": RECEIVE, "send": SEND}
SERVES = {"handle_rx_kick": "receive", "handle_tx_kick": "send"}


@dataclass(frozen=True)
class Side:
    """One of the two: how it is opened, and what an event is to it."""

    driver: backend.Driver
    files: list[str]  # what it records
    event: Callable[[int], str | None]  # that a PC begins

    def open(self) -> Fd:
        if self.driver.path is not None:
            return self.driver.fd(pykcov.open(self.driver.path))
        return self.driver.fd(pykcov.open(include=self.files))

    def events(self, fd: Fd, start: int = 0) -> list[str]:
        """What the area holds from record `start` on."""
        words = fd.area[1 + start : 1 + fd.count]
        return [event for event in map(self.event, words) if event]


@functools.cache
def own_event(pc: int) -> str | None:
    place = pykcov.symbolize(pc)
    known = place.function in WORKS or place.function in JOBS
    return place.function if known and place.kind == "entry" else None


def kernel_event(pc: int) -> str | None:
    return kernel_events().get(pc)


@functools.cache
def kernel_events() -> dict[int, str]:
    """The PCs that stand for an event: those of the marks, and of the functions that serve a queue."""
    found = {pc: EVENTS[number] for pc, number in marks.pcs().items()}
    with pykcov.open(marks.DEVICE) as device:
        device.init_trace(1 << 12)
        area = device.mmap()
        device.remote_enable(area_size=1 << 10, common_handle=1)
        with closing(Vhost()) as vhost:
            for queue in QUEUES.values():
                area[0] = 0
                vhost.kick(queue)
                first = min(pc for pc in area[1 : area[0] + 1] if function(pc) in SERVES)
                found[first] = SERVES[function(first)]
        device.disable()
    return found


OWN = Side(backend.METHODS, [work.FILE, jobs.FILE], own_event)
KERNEL = Side(backend.LINUX_METHODS, [], kernel_event)
SIDES = (OWN, KERNEL)


def systems() -> tuple[model.System, model.System]:
    """The contract of each."""
    return tuple(model.System(side.driver.rules) for side in SIDES)  # type: ignore[return-value]
