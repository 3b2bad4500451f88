"""The program of kcov's documentation that collects from its own thread, in Python.

The kernel's program prints what the kernel executed for `read(-1, NULL, 0)`. So does this one if its argument is
the kernel's device, /sys/kernel/debug/kcov. Without an argument it prints what Python code executed for it.
"""

import os
import sys

import pykcov
from pykcov.abi import KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE

COVER_SIZE = 64 << 10  # words


def target(fd: int) -> int:
    try:
        return len(os.read(fd, 0))
    except OSError:
        return -1


def main() -> None:
    # One device collects from one task at a time.
    kcov = pykcov.open(*sys.argv[1:])
    # The size of the area, in words of 64 bits.
    kcov.ioctl(KCOV_INIT_TRACE, COVER_SIZE)
    # The area: word 0 is the count, the PCs follow.
    cover = kcov.mmap()
    # From here on this thread's execution is recorded.
    kcov.ioctl(KCOV_ENABLE, pykcov.TRACE_PC)
    # Start afresh: what the call above has left is of no interest.
    cover[0] = 0
    # What we want to see.
    target(-1)
    # The number of PCs. This very line is Python code too, so its PC is the last one.
    n = cover[0]
    for i in range(n):
        print(f"{cover[i + 1]:#x}  {where(cover[i + 1])}")
    # The thread collects no more, and the device may be enabled by another.
    kcov.ioctl(KCOV_DISABLE, 0)
    # Give back the area and the device.
    cover.release()
    kcov.close()


def where(pc: int) -> str:
    location = pykcov.symbolize(pc)
    return f"{location.kind:<5} {location.function}, line {location.line}"


if __name__ == "__main__":
    main()
