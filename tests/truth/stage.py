"""Runs a program for real: what it finds around it, and what is left of its collections afterwards."""

from __future__ import annotations

import queue
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykcov
from pykcov.probes import compiled

from .programs import POOLS, SCOPES, Program, branches


@dataclass(frozen=True)
class Told:
    """What a device or a collect() got, in a form that one process can tell another."""

    is_device: bool
    pcs: Sequence[int]
    dropped: int
    sections: Sequence[Any]
    lines: dict[str, set[int]]


class Stage:
    """What one run of one program leaves behind. `pykcov` is the package, or who plays it."""

    def __init__(self, pykcov: Any, program: Program, folder: Path, pools: list[Any]) -> None:
        self.pykcov = pykcov
        self.program = program
        self.paths = [folder / f"truth_{program.seed}_{n}.py" for n in ("main", "lib")]
        self.paths = self.paths[: len(program.files)]
        self.pools = pools
        self.folder = folder
        self.branch = branches(program.seed)
        self.queues: list[queue.Queue[Any]] = [queue.Queue(), queue.Queue()]
        self.devices: dict[str, Any] = {}
        self.areas: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.told: dict[str, Told] = {}
        """What other processes told."""
        self.processes: dict[int, int] = {}
        """Numbers of processes that are older than the program, by their identifiers."""

    def scope(self, files: Iterable[int]) -> dict[str, list[str]]:
        """Returns source=, include= and omit= for those of the files."""
        paths = [self.paths[i] for i in sorted(files)]
        form = self.program.seed // 1000 % 12
        if form == 0:
            return {"include": [str(path) for path in paths]}
        # The others share their scopes: a process takes 64 different ones.
        if form == 1:
            omit = [
                f"*_{path.stem.rsplit('_', 1)[1]}.py" for path in self.paths if path not in paths
            ]
            return {"source": [str(self.folder)], "omit": omit}
        return {"include": [str(self.folder / f"*_{p.stem.rsplit('_', 1)[1]}.py") for p in paths]}

    def names(self) -> dict[str, Any]:
        """What the program finds among its globals."""
        found: dict[str, Any] = {
            "pykcov": self.pykcov, "QUEUES": self.queues, "device": self.device, "keep": self.keep,
            "aside": self.aside, "aside_async": self.aside_async, "empty": self.empty,
            "BRANCH": self.branch,
        }  # fmt: skip
        if self.paths[1:]:
            found |= {name: self.scope(files) for name, files in SCOPES.items()}
        return found | {f"POOL{i}": pool for i, pool in enumerate(self.pools)}

    def device(self, key: str, size: int, *, sections: int, **scope: list[str]) -> Any:
        device = self.pykcov.open(**scope, sections=sections, branch=self.branch)
        device.init_trace(size)
        self.devices[key] = device
        self.areas[key] = device.mmap()
        return device

    def empty(self, device: Any) -> None:
        device.mmap()[0] = 0

    def keep(self, key: str, collect: Any) -> None:
        self.kept[key] = collect

    def aside(self, handle: int, function: Callable[..., Any], *args: Any) -> Any:
        self.pykcov.remote_start(handle)
        try:
            return function(*args)
        except Exception:
            return 1
        finally:
            self.pykcov.remote_stop()

    async def aside_async(self, handle: int, coroutine: Any) -> Any:
        self.pykcov.remote_start(handle)
        try:
            return await coroutine
        except Exception:
            return 1
        finally:
            self.pykcov.remote_stop()

    def write(self) -> None:
        for path, text in zip(self.paths, self.program.files, strict=True):
            path.write_text(text)

    def load(self) -> dict[str, Any]:
        """Executes the files; returns the names that all of them share."""
        names = {"__name__": "truth", **self.names()}
        for path, text in reversed(list(zip(self.paths, self.program.files, strict=True))):
            exec(compiled.code_of(str(path)) or compile(text, str(path), "exec"), names)
        return names

    def found(self) -> dict[str, Told]:
        """What the collections of this process, and those that it was told of, have got."""
        told = dict(self.told)
        for key, device in self.devices.items():
            area = self.areas[key]
            pcs = list(area[1 : 1 + area[0]])
            told[key] = Told(True, pcs, device.dropped, device.trace().sections, {})
        for key, collect in self.kept.items():
            trace = collect.trace
            told[key] = Told(False, trace.pcs, trace.dropped, trace.sections, trace.lines())
        return told

    def warm(self, names: dict[str, Any]) -> None:
        """Calls the library's functions often, for nothing: the interpreter specialises them."""
        for name, function in list(names.items()):
            if re.fullmatch(r"f\d+|thrice", name):
                for i in range(20):
                    with suppress(Exception):
                        function(i % 5, 2)

    def close(self) -> None:
        self.areas.clear()
        for device in self.devices.values():
            device.close()


def listen(problems: list[str]) -> None:
    """From now on warnings of pykcov's and threads that die are problems of the program that runs."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        problems.append(f"{category.__name__}: {message} in {threading.current_thread().name}")

    def died(args: threading.ExceptHookArgs) -> None:
        problems.append(f"a thread ended with {args.exc_value!r}")

    warnings.simplefilter("always", pykcov.KcovWarning)
    warnings.showwarning = show
    threading.excepthook = died


def start_pools(kind: Callable[[int], Any] = ThreadPoolExecutor) -> list[Any]:
    """Returns pools whose threads run already."""
    pools = [kind(4) for _ in range(POOLS)]
    for pool in pools:
        gate = threading.Barrier(4)  # each job needs a thread of its own
        for job in [pool.submit(gate.wait) for _ in range(4)]:
            job.result()
    return pools
