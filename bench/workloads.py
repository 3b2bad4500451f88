"""The workloads: copies of programs.py and of the standard library's parsers, for one directory of their own.

A copy is loaded twice, as files of different names: one stays plain and one is traced, in the same process.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import sysconfig
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from types import ModuleType
from typing import NamedTuple, Protocol

ANNOTATION = "with pykcov.remote(HANDLE):"

# Without these the private copies would use C, or each other's originals.
_REPLACED = {
    "json/decoder.py": {"from json import": "from . import", "from _json import": "from ._no_c import"},
    "json/scanner.py": {"from _json import": "from ._no_c import"},
    "html/parser.py": {"import _markupbase": "from . import _markupbase", "from html import": "from . import"},
}  # fmt: skip


class Workload(NamedTuple):
    """One row of the tables: ``function(items)`` of programs.py, ``repeat`` times for a measurement."""

    title: str
    function: str
    items: int
    repeat: int


WORKLOADS = {
    "loop": Workload("a branchy loop", "loop", 2, 4),
    "calls": Workload("recursive calls, small methods", "calls", 5, 4),
    "json": Workload("json decoding in pure Python", "json", 1, 4),
    "html": Workload("html.parser", "html_", 1, 4),
    "toml": Workload("tomllib", "toml", 1, 4),
    "asyncio": Workload("100 interleaving asyncio tasks", "tasks", 8, 1),
    "threads": Workload("4 threads of which one collects", "mixed", 1, 3),
}


class Copy:
    """One copy of the programs, imported."""

    def __init__(self, directory: Path, name: str, *, annotated: bool = False) -> None:
        self.directory = directory / name
        here = Path(__file__).parent
        library = Path(sysconfig.get_path("stdlib"))
        self.directory.mkdir()
        (self.directory / "__init__.py").touch()
        for package in ("json", "html", "tomllib"):
            shutil.copytree(
                library / package,
                self.directory / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        shutil.copy(library / "_markupbase.py", self.directory / "html")
        for file, replaced in _REPLACED.items():
            _rewrite(self.directory / file, replaced)
        shutil.copy(here / "programs.py", self.directory)
        if not annotated:
            _rewrite(
                self.directory / "programs.py",
                {ANNOTATION: "if True:", "import pykcov\n": ""},
            )
        sys.path.insert(0, str(directory))
        self.programs = importlib.import_module(f"{name}.programs")
        sys.path.remove(str(directory))
        self.modules: list[ModuleType] = [
            module for key, module in sys.modules.items() if key.startswith(f"{name}.")
        ]

    def chunk(self, workload: Workload) -> Callable[[], int]:
        """Return a function that does the workload's work once and returns its number."""
        function, items = getattr(self.programs, workload.function), workload.items
        return lambda: int(function(items))


def _rewrite(path: Path, replaced: dict[str, str]) -> None:
    text = path.read_text("utf-8")
    for old, new in replaced.items():
        assert old in text, (
            f"{path.name} has no {old!r}: the benchmark has to be brought up to date"
        )
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


class Tool(Protocol):
    """What is switched on around a measurement."""

    words: memoryview

    def on(self) -> None:
        """Begin."""

    def off(self) -> None:
        """End."""


def no_words() -> memoryview:
    """Return words that nobody records into: resetting them is part of every measurement."""
    return memoryview(array("Q", [0]))


def timed(chunk: Callable[[], int], repeat: int, words: memoryview) -> int:
    """Return the CPU time of this thread, in ns, for ``repeat`` pieces of work."""
    began = thread_time_ns()
    for _ in range(repeat):
        words[0] = 0
        chunk()
    return thread_time_ns() - began


def four_threads(
    chunk: Callable[[], int], repeat: int, words: memoryview, tool: Tool | None
) -> list[int]:
    """Return the CPU times of four threads that do the same; the tool is on in the first of them."""
    times = [0] * 4
    barrier = threading.Barrier(4)

    def thread(number: int) -> None:
        mine = words if number == 0 else no_words()
        if tool is not None and number == 0:
            tool.on()
        chunk()
        barrier.wait()
        times[number] = timed(chunk, repeat, mine)
        barrier.wait()
        if tool is not None and number == 0:
            tool.off()

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    for started in threads:
        started.start()
    for started in threads:
        started.join()
    return times
