"""What all cells share: the setting that they are given, and how a single call is measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from typing import Any, NamedTuple

import pykcov

Round = Callable[[], dict[str, float]]

AREA = 1 << 18  # words: room for what one piece of any workload records
HANDLE = 0x42


class Setting(NamedTuple):
    """What all cells are given."""

    directory: Path
    floor: Path
    quick: bool

    def times(self, count: int) -> int:
        """Return how often to do something that is done ``count`` times in a real run."""
        return max(1, count // 50) if self.quick else count


def as_installed() -> dict[str, str]:
    """Return an environment in which a program has its bytecode, whether the user's own writes any or not."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def per_call(function: Callable[[int], None], times: int) -> float:
    """Return ns for each of ``times`` turns of the loop in ``function``, less those of an empty loop."""
    began = thread_time_ns()
    function(times)
    between = thread_time_ns()
    _empty(times)
    return (2 * between - began - thread_time_ns()) / times


def _empty(times: int) -> None:
    for _ in range(times):
        pass


def with_remote(times: int) -> None:
    """Open and end a section of HANDLE, as a block."""
    for _ in range(times):
        with pykcov.remote(HANDLE):
            pass


def start_stop(times: int) -> None:
    """The same, by its two calls."""
    for _ in range(times):
        pykcov.remote_start(HANDLE)
        pykcov.remote_stop()


def empty_function(directory: Path) -> Callable[[], None]:
    """Return a function of a file in the directory; calling it gives two events, its entry and its line."""
    path = directory / "body.py"
    path.write_text("def body():\n    pass\n", "utf-8")
    names: dict[str, Any] = {}
    exec(compile(path.read_text("utf-8"), path, "exec"), names)
    function: Callable[[], None] = names["body"]
    return function
