"""A system call for each piece of work, by which the kernel's device can be asked what was done.

With PYKCOV_TEST_DEVICE set to its path the suite runs on the kernel's device. A trace of the kernel has all
that it did for a thread, and never twice the same. But each of these calls has a PC that nothing else has, and has it
once: it stands for the call.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections import Counter

import pykcov

DEVICE = os.environ.get("PYKCOV_TEST_DEVICE", "")
# For what does not end: nothing is measured, and an emulated machine may be a hundred times slower.
PATIENCE = 600 if DEVICE else 60  # seconds

# System calls of x86-64 that Python makes for nothing else: getsid, getpgid and getpriority.
CALLS = {1: 124, 2: 121, 3: 140}

_libc = ctypes.PyDLL(None)


def mark(number: int) -> int:
    """Return the number; on the kernel's device, make its call first."""
    if DEVICE:
        _libc.syscall(CALLS[number], 0, 0)
    return number


@functools.cache
def pcs() -> dict[int, int]:
    """The number that each of the PCs stands for."""
    rounds = 5
    seen: dict[int, list[Counter[int]]] = {number: [] for number in CALLS}
    with pykcov.open(DEVICE) as device:
        device.init_trace(1 << 16)
        area = device.mmap()
        device.enable()
        for number in sorted(CALLS) * rounds:
            area[0] = 0
            mark(number)
            seen[number].append(Counter(area[1 : 1 + area[0]]))
        device.disable()
    found = {}
    for number, traces in seen.items():
        others = {pc for other in CALLS if other != number for trace in seen[other] for pc in trace}
        own = [pc for pc in traces[0] if all(trace[pc] == 1 for trace in traces)]
        (pc, *_) = [pc for pc in own if pc not in others]
        found[pc] = number
    return found
