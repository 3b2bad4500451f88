"""A process that has collections: it enables and disables their handles, and keeps what they collected."""

from __future__ import annotations

import contextvars
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pykcov

from . import digits, doom, plans, threads
from .journal import Journal, Kind
from .worker import Settings

THREADS = 4
EACH = 4  # collections of a thread
AT_ONCE = THREADS * EACH
RECORDS = 4096  # of sections, that a device has room for at the most


@dataclass(slots=True)
class Window:
    """One time in which handles were enabled. Times are ns of time.monotonic_ns(), 0 for never."""

    handles: tuple[int, ...]
    enable: int = 0  # when it was called
    enabled: int = 0  # when it had returned
    reads: list[int] = field(
        default_factory=list
    )  # when reads of open sections were called that succeeded
    disable: int = 0
    disabled: int = 0


@dataclass(slots=True)
class Failure:
    """A verb that raised."""

    call: str
    began: int
    ended: int
    errno: int
    text: str


@dataclass(slots=True)
class Result:
    """What one device or collect() gave."""

    collection: int
    kind: str
    pid: int
    sizes: tuple[int, int] = (0, 0)
    windows: list[Window] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    pcs: bytes = b""
    places: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    sections: list[tuple[int, int, int, str, int, int, int, int, int]] = field(default_factory=list)
    dropped: int = 0
    is_whole: bool = False  # it came to its end, and the trace was read

    @contextmanager
    def trying(self, call: str) -> Iterator[None]:
        """Note a KcovError; raise Failed for it."""
        began = time.monotonic_ns()
        try:
            yield
        except OSError as error:
            self.failures.append(
                Failure(call, began, time.monotonic_ns(), error.errno or 0, str(error))
            )
            raise Failed from error

    def take(self, trace: pykcov.Trace) -> None:
        """Keep what is in a trace."""
        self.pcs = trace.pcs.tobytes()
        self.places = {pc: (p.kind, p.file, p.line) for pc, p in trace.places.items()}
        self.sections = [tuple(section) for section in trace.sections]
        self.dropped = trace.dropped
        self.is_whole = True


class Failed(Exception):
    """A verb raised; it is in the result's failures."""


class Collection:
    """One of the 64: a device that is enabled up to three times, or a collect()."""

    def __init__(self, number: int, rng: random.Random, include: list[str]) -> None:
        self.number = number
        self.rng = rng
        self.include = include
        self.context = contextvars.copy_context()
        self.device: pykcov.Device | None = None
        self.block: pykcov.collect | None = None
        self.result: Result | None = None

    def step(self, *, is_last: bool = False) -> Result | None:
        """Enable, read or disable, as it comes; return a result when there is one."""
        try:
            if self.result is None:
                self._open(is_last)
            elif self.device is not None:
                return self._step_device(self.device, self.result, is_last)
            elif self.block is not None:
                return self._step_block(self.block, self.result, is_last)
        except Failed:
            return self._give_up()
        return None

    def _open(self, is_last: bool) -> None:
        if is_last:
            return
        size = self.rng.choice((128, 2048, 16384, 1 << 16))
        area_size = self.rng.choice((32, 256, 4096, 1 << 15))
        if self.rng.random() < 0.5:
            self.result = Result(self.number, "device", os.getpid(), (size, area_size))
            with self.result.trying("open"):
                self.device = pykcov.open(include=self.include, sections=min(size, RECORDS))
                self.device.init_trace(size)
            self._enable(self.device, self.result, area_size)
        else:
            # In a small one long sections would be thousands of files.
            size = 256 if self.rng.random() < 0.1 else max(size, 2048)
            self.result = Result(self.number, "collect", os.getpid(), (size, size))
            window = Window(self._handles())
            self.result.windows.append(window)
            with self.result.trying("collect"):
                self.block = pykcov.collect(window.handles, include=self.include, area_size=size)
                window.enable = time.monotonic_ns()
                self.block.__enter__()
                window.enabled = time.monotonic_ns()

    def _handles(self) -> tuple[int, ...]:
        which = self.rng.sample(range(plans.HANDLES), self.rng.randrange(1, plans.HANDLES + 1))
        return tuple(plans.handle(self.number, n) for n in which)

    def _enable(self, device: pykcov.Device, result: Result, area_size: int) -> None:
        window = Window(self._handles(), time.monotonic_ns())
        result.windows.append(window)
        *handles, common = window.handles
        with result.trying("remote_enable"):
            device.remote_enable(area_size=area_size, handles=handles, common_handle=common)
        window.enabled = time.monotonic_ns()

    def _step_device(self, device: pykcov.Device, result: Result, is_last: bool) -> Result | None:
        window, choice = result.windows[-1], self.rng.random()
        if window.disabled:
            if not is_last and choice < 0.5 and len(result.windows) < 3:
                self._enable(device, result, result.sizes[1])
                return None
            with result.trying("trace"):
                result.take(device.trace())
            device.close()
            self.device = self.result = None
            return result
        if is_last or choice < 0.2:
            window.disable = window.disable or time.monotonic_ns()
            with result.trying("disable"):
                device.disable()
            window.disabled = time.monotonic_ns()
        elif choice < 0.4:
            now = time.monotonic_ns()
            with result.trying("sync"):
                device.sync()
            window.reads.append(now)
        elif choice < 0.5:
            with result.trying("trace"):
                device.trace()
        return None

    def _step_block(self, block: pykcov.collect, result: Result, is_last: bool) -> Result | None:
        window, choice = result.windows[-1], self.rng.random()
        if is_last or choice < 0.2:
            window.disable = window.disable or time.monotonic_ns()
            with result.trying("collect's end"):
                block.__exit__(None, None, None)
            window.disabled = time.monotonic_ns()
            window.reads.append(window.disable)
            result.take(block.trace)
            self.block = self.result = None
            return result
        if choice < 0.35:
            now = time.monotonic_ns()
            with result.trying("collect's trace"):
                _ = block.trace
            window.reads.append(now)
        return None

    def _give_up(self) -> Result | None:
        """After an error: what is enabled goes on, and is tried again; what is not is closed."""
        result = self.result
        assert result is not None
        window = result.windows[-1] if result.windows else None
        if window is not None and window.enabled and not window.disabled:
            return None
        if window is not None and window.disabled:
            return None
        if self.device is not None:
            self.device.close()
        self.device = self.block = self.result = None
        return result


class Collector:
    """One process's collections: ``first`` and those that follow."""

    def __init__(
        self, number: int, first: int, settings: Settings, is_over: Callable[[], bool]
    ) -> None:
        seed, folder = settings.seed, settings.folder
        self.first = first
        self.mortal = settings.mortal
        self.rng = random.Random(seed << 32 | 1 << 31 | number)
        self.is_over = is_over
        self.include = [str(digits.path(folder, module)) for module in range(digits.MODULES)]
        self.journal = Journal(folder / f"collector.{number}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.results = os.open(folder / f"results.{number}", flags, 0o600)

    def run(self) -> int:
        """Enable and disable until it is over; return the exit status."""
        return threads.run_all(
            [partial(self._thread, n, random.Random(self.rng.random())) for n in range(THREADS)]
        )

    def _thread(self, thread: int, rng: random.Random) -> None:
        mine = range(self.first + thread * EACH, self.first + (thread + 1) * EACH)
        collections = [Collection(number, rng, self.include) for number in mine]
        while not self.is_over():
            chosen = rng.choice(collections)
            if self.mortal and rng.random() < 1 / 500:
                doom.arm(rng.randrange(1, 4000))
            self._keep(chosen.context.run(chosen.step))
            self.journal.write(Kind.ALIVE, thread)
            time.sleep(rng.expovariate(40))
        while any(c.result is not None for c in collections):
            for chosen in collections:
                self._keep(chosen.context.run(chosen.step, is_last=True))

    def _keep(self, result: Result | None) -> None:
        if result is not None:
            data = pickle.dumps(result)
            os.write(self.results, len(data).to_bytes(8, "little") + data)


def read(path: Path) -> Iterator[Result]:
    """Yield the results that a collector has kept; one that it was killed while writing is not there."""
    data = path.read_bytes() if path.exists() else b""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        if at + 8 + size > len(data):
            break
        yield pickle.loads(data[at + 8 : at + 8 + size])
        at += 8 + size
