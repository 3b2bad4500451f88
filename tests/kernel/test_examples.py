"""The programs of the kernel's documentation, in Python, on the kernel's device."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pykcov
from conformance import backend
from conformance.marks import DEVICE, PATIENCE
from kernel.names import function
from kernel.usb import Bus

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def functions(*command: str) -> list[str]:
    """The functions of the PCs that an example prints."""
    done = subprocess.run(
        [sys.executable, *command], cwd=EXAMPLES, capture_output=True, text=True, timeout=PATIENCE, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [function(int(line.split()[0], 16)) for line in done.stdout.splitlines()]


def test_local_prints_the_system_call_that_it_makes() -> None:
    found = functions("local.py", DEVICE)
    assert "ksys_read" in found
    assert "ksys_write" not in found


def test_remote_prints_hub_event_of_the_bus_whose_handle_it_has_and_of_no_other() -> None:
    first, second = Bus(0), Bus(1)
    handle = hex(pykcov.remote_handle(pykcov.SUBSYSTEM_USB, first.number))
    with busy(second) as cycles:
        assert functions("remote.py", DEVICE, handle) == []
        backend.eventually(lambda: cycles, "nothing happened on the other bus")
    with busy(first):
        # A section arrives when it ends, and the example waits half a second: it may miss all ends.
        found = []
        backend.eventually(
            lambda: "hub_event" in found or found.extend(functions("remote.py", DEVICE, handle)),
            "no section ended while the example waited",
        )


@contextmanager
def busy(bus: Bus) -> Iterator[list[int]]:
    """Something happens on the bus all the time; a word in the list for each time."""
    stop = threading.Event()
    cycles: list[int] = []

    def body() -> None:
        while not stop.is_set():
            bus.cycle()
            cycles.append(1)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield cycles
    finally:
        stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the bus hangs"
