"""The code that is recorded: modules with one function for each hexadecimal digit, all of them different."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

BASE = 16
MODULES = 4

# A function of digit d has 2 + d % 3 statements, one on each line, below the line of its `def`.
STATEMENTS = [2 + digit % 3 for digit in range(BASE)]
# Its events: the entry, then each line.
EVENTS = [1 + count for count in STATEMENTS]


def write(folder: Path) -> None:
    """Write the modules; they differ in where their functions are."""
    for module in range(MODULES):
        lines = ["", *(f"# {n}" for n in range(module))]
        for digit, count in enumerate(STATEMENTS):
            lines.append(f"def digit_{digit}():")
            lines += [f"    a{n} = {n}" for n in range(count - 1)]
            lines.append(f"    return {digit}")
        path(folder, module).write_text("\n".join(lines) + "\n")


def path(folder: Path, module: int) -> Path:
    """Return the file of a module."""
    return folder / f"digits_{module}.py"


def load(folder: Path, module: int) -> list[Callable[[], int]]:
    """Return the functions of a module, by digit."""
    spec = importlib.util.spec_from_file_location(f"digits_{module}", path(folder, module))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return [getattr(made, f"digit_{digit}") for digit in range(BASE)]


def places(module: int) -> list[list[tuple[str, int]]]:
    """Return the events of each digit's function: (kind, line)."""
    line = module + 2
    found = []
    for count in STATEMENTS:
        found.append([("entry", line), *(("line", line + n) for n in range(1, count + 1))])
        line += 1 + count
    return found


def count(sequence: bytes) -> int:
    """Return how many events the digits of a sequence give."""
    return sum(map(EVENTS.__getitem__, sequence))


def offsets(sequence: bytes) -> list[int]:
    """Return how many events there are before each digit, and at the end."""
    return [0, *itertools.accumulate(map(EVENTS.__getitem__, sequence))]
