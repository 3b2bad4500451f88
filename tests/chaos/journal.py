"""What a process says of itself: a file that only grows, in records that no SIGKILL can tear.

A record is 32 bytes, one write() each: a kill comes before or after it, and no page has half of one.
"""

from __future__ import annotations

import enum
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("=4Q")


class Kind(enum.IntEnum):
    """What a record says; the number is a section's unless it says otherwise."""

    LANE = 1  # number: the lane; value: its thread's id
    BEGIN = 2  # it is about to begin; value: the module of its digits
    END = 3  # it has ended
    DONE = 4  # value: so many digits of its root have been executed
    DIE = 5  # the process dies now, after so many digits of the root
    WARNED = 6  # a warning was given while it began, ran or ended
    ALIVE = 7  # of a thread of a collector: it is there


class Record(NamedTuple):
    """One record."""

    kind: int
    number: int
    time: int  # ns of time.monotonic_ns()
    value: int


class Journal:
    """The journal of this process, for all of its threads."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, kind: Kind, number: int, value: int = 0) -> None:
        """Append one record."""
        os.write(self._fd, _RECORD.pack(kind, number, time.monotonic_ns(), value))


def read(path: Path) -> Iterator[Record]:
    """Yield what a process has said; nothing if it had no time to."""
    if path.exists():
        data = path.read_bytes()
        yield from map(Record._make, _RECORD.iter_unpack(data[: len(data) // 32 * 32]))
