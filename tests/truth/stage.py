"""Runs a program for real: what it finds around it, and what is left of its collections afterwards."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .programs import POOLS, SCOPES, Program


class Stage:
    """What one run of one program leaves behind. `pykcov` is the package, or who plays it."""

    def __init__(self, pykcov: Any, program: Program, folder: Path, pools: list[Any]) -> None:
        self.pykcov = pykcov
        self.program = program
        self.paths = [folder / f"truth_{program.seed}_{n}.py" for n in ("main", "lib")]
        self.paths = self.paths[: len(program.files)]
        self.pools = pools
        self.queues: list[queue.Queue[Any]] = [queue.Queue(), queue.Queue()]
        self.devices: dict[str, Any] = {}
        self.areas: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}

    def include(self, files: Iterable[int]) -> list[str]:
        """Returns patterns for include=. Most programs share theirs: a process has 64 scopes at most."""
        paths = [self.paths[i] for i in sorted(files)]
        if self.program.seed // 1000 % 10:
            paths = [path.with_name("truth_*_" + path.name.rsplit("_", 1)[1]) for path in paths]
        return [str(path) for path in paths]

    def names(self) -> dict[str, Any]:
        """What the program finds among its globals."""
        found: dict[str, Any] = {
            "pykcov": self.pykcov, "QUEUES": self.queues, "device": self.device, "keep": self.keep,
            "aside": self.aside, "aside_async": self.aside_async,
        }  # fmt: skip
        found |= {name: self.include(files) for name, files in SCOPES.items() if self.paths[1:]}
        return found | {f"POOL{i}": pool for i, pool in enumerate(self.pools)}

    def device(self, key: str, size: int, include: list[str], sections: int) -> Any:
        device = self.pykcov.open(include=include, sections=sections)
        device.init_trace(size)
        self.devices[key] = device
        self.areas[key] = device.mmap()
        return device

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

    def load(self) -> dict[str, Any]:
        """Writes and executes the files; returns the names that all of them share."""
        names = {"__name__": "truth", **self.names()}
        for path, text in reversed(list(zip(self.paths, self.program.files, strict=True))):
            path.write_text(text)
            exec(compile(text, str(path), "exec"), names)
        return names

    def close(self) -> None:
        self.areas.clear()
        for device in self.devices.values():
            device.close()


def start_pools(kind: Callable[[int], Any] = ThreadPoolExecutor) -> list[Any]:
    """Returns pools whose threads run already."""
    pools = [kind(4) for _ in range(POOLS)]
    for pool in pools:
        gate = threading.Barrier(4)  # each job needs a thread of its own
        for job in [pool.submit(gate.wait) for _ in range(4)]:
            job.result()
    return pools
