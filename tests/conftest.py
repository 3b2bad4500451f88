"""Every test process has a namespace of its own, and leaves nothing behind in it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from collections.abc import Iterator
from types import ModuleType

import pytest

# Where the suite runs in the background Ctrl-C is ignored, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports pykcov: a test process never meets the user's own devices, or another's.
NAMESPACE = f"tests-{os.getpid()}"
os.environ["PYKCOV_NAMESPACE"] = NAMESPACE


@pytest.fixture(autouse=True, scope="session")
def own_namespace() -> Iterator[None]:
    """Give the test process its namespace, and remove its directory at the end."""
    owner = os.getpid()
    os.environ["PYKCOV_NAMESPACE"] = NAMESPACE
    # Thousands of tests call gc.collect() for their own garbage; what pytest collected is not that.
    gc.collect()
    gc.freeze()
    yield
    if os.getpid() == owner:  # not in a forked child that got here
        shutil.rmtree(f"/dev/shm/pykcov-{os.geteuid()}/{NAMESPACE}", ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_behind(own_namespace: None) -> Iterator[None]:
    """After each test no device is registered and no file is stale."""
    yield
    left = _left()
    end = time.monotonic() + 5
    while left and time.monotonic() < end:  # the end of a thread may take a moment
        gc.collect()
        time.sleep(0.01)
        left = _left()
    _known.extend(left)  # one test's fault, not that of all which follow
    assert not left, f"the test left behind: {left}"


_known: list[object] = []


def _left() -> list[object]:
    inventory = getattr(_registry_module(), "inventory", None)
    if inventory is None:
        return []
    found = inventory()
    # A child that a test killed cannot clean up: its areas go with the namespace.
    stale = [name for name in found.stale if not name.startswith("section.")]
    devices = [device for device in found.devices if device.alive]
    return [left for left in (*devices, *stale) if left not in _known]


def _registry_module() -> ModuleType | None:
    try:
        from pykcov import registry
    except ImportError:  # tests of the build and of the repository run without it
        return None
    return registry
