"""The storm: starts the processes, kills, stops and replaces them, and fills the file system once."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import mmap
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import collector, digits, plans, worker
from .history import NEVER, Process

WORKERS = 8
COLLECTORS = plans.COLLECTIONS // collector.AT_ONCE
# Of each role, these are stopped but not killed: a hang of theirs cannot go unseen.
IMMORTAL = {"worker": 2, "collector": 1}
FILLER = Path("/dev/shm/filler")
PATIENCE = 60.0  # seconds that nobody needs to come to an end


@dataclass(frozen=True)
class Options:
    """What was asked."""

    seed: int
    seconds: float
    kills: float  # a second
    folder: Path
    is_private: bool  # /dev/shm is a file system of our own


class Become(Exception):
    """In a forked child: be that process, from a stack that has nothing of the storm's in it."""

    def __init__(self, role: str, number: int, place: int) -> None:
        super().__init__(role)
        self.role, self.number, self.place = role, number, place


def be(role: str, number: int, place: int, options: Options) -> int:
    """Be a worker or a collector until it is over; return the exit status."""
    # Not an orphan, whatever becomes of the storm.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log = os.open(options.folder / f"stderr.{role}.{number}", flags, 0o600)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    state = _state(options.folder)
    mortal = bool(options.kills) and place >= IMMORTAL[role]
    settings = worker.Settings(options.seed, options.folder, mortal)
    if role == "worker":
        return worker.Worker(number, settings, lambda: state[0] != 0).run()
    first = place * collector.AT_ONCE
    return collector.Collector(number, first, settings, lambda: state[1] != 0).run()


def _state(folder: Path) -> mmap.mmap:
    """What the storm tells the others: byte 0, workers come to an end; byte 1, collectors do."""
    with (folder / "state").open("a+b") as file:
        os.ftruncate(file.fileno(), mmap.PAGESIZE)
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)


class Storm:
    """One run; afterwards ``processes`` is what became of whom, ``problems`` what was wrong."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        self.processes: list[Process] = []
        self.problems: list[str] = []
        self.fill = (NEVER, NEVER)
        self.stale = 0  # the most files that a process left that had been dead for seconds
        self.files = 0
        self._live: dict[int, Process] = {}
        self._places: dict[int, int] = {}
        self._stopped: dict[int, float] = {}  # pid -> when it goes on
        self._numbers = {"worker": 0, "collector": 0}
        self._state = _state(options.folder)
        self._shared = Path(f"/dev/shm/pykcov-{os.geteuid()}/{os.environ['PYKCOV_NAMESPACE']}")

    def run(self) -> None:
        """Let it rage, and come to an end."""
        digits.write(self.options.folder)
        for role, count in (("collector", COLLECTORS), ("worker", WORKERS)):
            for place in range(count):
                self._start(role, place)
        try:
            self._rage()
            self._calm()
        except Become:
            raise
        except BaseException:
            self._end()
            raise
        self._end()
        if self._shared.exists():
            left = sorted(path.name for path in self._shared.iterdir())
            self.problems.append(f"left behind in the namespace: {left}")

    # -- processes

    def _end(self) -> None:
        for pid in self._live:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        FILLER.unlink(missing_ok=True)

    def _start(self, role: str, place: int) -> None:
        number = self._numbers[role]
        self._numbers[role] += 1
        if self.rng.random() < 0.2:
            options = self.options
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", __package__, "--be", f"{role},{number},{place}",
                 "--seed", str(options.seed), "--kills", str(options.kills), "--folder", str(options.folder)],
                os.environ,
            )  # fmt: skip
        else:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                raise Become(role, number, place)
        process = Process(role, number, pid, place >= IMMORTAL[role])
        self.processes.append(process)
        self._live[pid] = process
        self._places[pid] = place

    def _reap(self, *, replace: bool) -> None:
        while self._live:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            process = self._live.pop(pid)
            self._go_on(process)
            process.gone = time.monotonic_ns()
            process.status = os.waitstatus_to_exitcode(status)
            self._ended(process)
            if replace:
                self._start(process.role, self._places[pid])

    def _ended(self, process: Process) -> None:
        """Say so if a process has not ended as it may."""
        text = self._stderr(process)
        by_itself = process.mortal and process.status in worker.DEAD
        is_over = self._state[0 if process.role == "worker" else 1] and process.status == 0
        if not (is_over or by_itself or (process.killed and process.status == -signal.SIGKILL)):
            self.problems.append(
                f"{process.name} (pid {process.pid}) ended with {process.status}: {text[-3000:]}"
            )
        elif any(word in text for word in ("Traceback", "Exception ignored", "Fatal Python")):
            self.problems.append(f"{process.name} (pid {process.pid}): {text[-3000:]}")

    def _stderr(self, process: Process) -> str:
        path = self.options.folder / f"stderr.{process.name}"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- what is done to them

    def _rage(self) -> None:
        begin = time.monotonic()
        end = begin + self.options.seconds
        due: list[tuple[float, Callable[[], float]]] = [(begin + 1.0, self._look)]
        if self.options.kills:
            due += [(begin + 0.5, self._kill), (begin + 0.5, self._stop)]
        if self.options.is_private:
            due.append((begin + self.options.seconds * self.rng.uniform(0.3, 0.6), self._fill))
        while (now := time.monotonic()) < end:
            self._reap(replace=True)
            for pid in [pid for pid, until in self._stopped.items() if until <= now]:
                self._go_on(self._live[pid])
            for at, do in [entry for entry in due if entry[0] <= now]:
                due.remove((at, do))
                due.append((now + do(), do))
            time.sleep(0.002)

    def _calm(self) -> None:
        """No more deaths: workers and collectors come to an end, in one order or the other."""
        for pid in list(self._stopped):
            self._go_on(self._live[pid])
        if self.fill[0] != NEVER and self.fill[1] == NEVER:
            self._fill()
        order = self.rng.choice([(b"\1\0", b"\1\1"), (b"\0\1", b"\1\1"), (b"\1\1",)])
        for step in order:
            self._state[:2] = step
            wait = time.monotonic() + PATIENCE
            while any(step[p.role == "collector"] for p in self._live.values()):
                self._reap(replace=False)
                if time.monotonic() > wait:
                    self._dump()
                    return
                time.sleep(0.002)

    def _dump(self) -> None:
        """Somebody hangs: show where."""
        for pid, process in self._live.items():
            os.kill(pid, signal.SIGUSR1)
            time.sleep(1.0)  # for it to write
            self.problems.append(
                f"{process.name} (pid {pid}) does not end: {self._stderr(process)[-6000:]}"
            )

    def _kill(self) -> float:
        victims = 3 if self.rng.random() < 0.1 else 1
        for _ in range(victims):
            role = "collector" if self.rng.random() < 0.2 else "worker"
            mortal = [
                p for p in self._live.values() if p.mortal and p.role == role and not p.killed
            ]
            if mortal:
                process = self.rng.choice(mortal)
                process.killed = True
                os.kill(process.pid, signal.SIGKILL)
        return self.rng.expovariate(self.options.kills / 1.2)

    def _stop(self) -> float:
        running = [p for p in self._live.values() if p.pid not in self._stopped]
        if running:
            process = self.rng.choice(running)
            # Now and then for longer than anybody waits for a lock, where there is time for it.
            is_long = self.options.seconds >= 30 and self.rng.random() < 0.05
            seconds = 2.5 if is_long else min(1.0, self.rng.expovariate(8))
            process.stops.append((time.monotonic_ns(), NEVER))
            self._stopped[process.pid] = time.monotonic() + seconds
            os.kill(process.pid, signal.SIGSTOP)
        return self.rng.expovariate(4)

    def _go_on(self, process: Process) -> None:
        """Continue a stopped process; it may be dead."""
        if self._stopped.pop(process.pid, None) is not None:
            if process.pid in self._live:
                os.kill(process.pid, signal.SIGCONT)
            process.stops[-1] = (process.stops[-1][0], time.monotonic_ns())

    def _fill(self) -> float:
        """Take all space; the second time, give it back."""
        if self.fill[0] != NEVER:
            if self.fill[1] == NEVER:
                FILLER.unlink()
                self.fill = (self.fill[0], time.monotonic_ns())
            return float("inf")
        self.fill = (time.monotonic_ns(), NEVER)
        size, step = 0, 1 << 24
        with FILLER.open("wb") as file:
            while step:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 4 if step > mmap.PAGESIZE else step + 1
        return 1.5

    def _look(self) -> float:
        """Count the namespace's files, and those of processes that have been dead for long."""
        with contextlib.suppress(FileNotFoundError):
            names = [path.name.split(".") for path in self._shared.iterdir()]
            old = time.monotonic_ns() - 5_000_000_000
            dead = {str(p.pid) for p in self.processes if p.gone < old}
            stale = [n for n in names if n[0] in ("section", "parked") and n[-3] in dead]
            self.files = max(self.files, len(names))
            self.stale = max(self.stale, len(stale))
        return 1.0
