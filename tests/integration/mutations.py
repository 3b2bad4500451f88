"""The program of test_mutations.py: shared files are spoilt while processes use them.

`python mutations.py storm SEED COUNT` runs rounds. In each, processes that use pykcov go on in steps while this one
mutates their files: bytes flipped, words replaced, files made longer, removed, renamed, cut short. A process has
to come to the end of each of its steps, having met nothing but KcovError from verbs and KcovWarning from
annotations. Between the two halves of a round a worker is killed, all others end, and files are cut short that
nobody has mapped. Cutting a file that is mapped is a SIGBUS for who touches it: `cut KIND` shows that.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import random
import select
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn

import forks
import victim
from victim import BASE

import pykcov
from pykcov import inventory

pykcov.Device, pykcov.collect, pykcov.symbolize  # noqa: B018 - imported here, not in each process

HANDLES = (5, 6)
COMMON = 7
PATIENCE = 40  # seconds for one step, with many waits for locks in it
VALUES = [0, 1, 2, 255, 2**12, 2**31, 2**48, 2**63 - 1, 2**63, 2**64 - 1]
# Cut short at any time: they are read and written, not mapped.
UNMAPPED = ("lock", "codemap")


# Without a file: reading this one anew in each process would be most of the time.
INCLUDE = ["*/no such file *"]
RECORD = "def record():\n    total = 0\n    for number in range(3):\n        total += number\n    return total\n"


def compiled(text: str, number: float = 0) -> dict[str, Any]:
    """Return what a text defines."""
    names: dict[str, Any] = {}
    exec(compile(text, f"/no such file {number}", "exec"), names)
    return names


record: Callable[[], int] = compiled(RECORD)["record"]


def functions() -> list[Callable[[], object]]:
    """Return functions that no process has seen before: their PCs are not in the code map yet."""
    text = f"def f():\n    return {os.getpid()}\ndef g(x=0):\n    return x and {random.random()}\n"
    names = compiled(text, random.random())
    return [names["f"], names["g"]]


# What the processes do. Each function is one step.


def work() -> None:
    """Annotations."""
    for handle in HANDLES:
        with pykcov.remote(handle):
            record()
            for function in functions():
                function()
        pykcov.remote_start(handle)
        for _ in range(40):  # more than an area holds
            record()
        pykcov.remote_stop()
    with pykcov.remote(COMMON):
        record()


def listen() -> None:
    """A device through its life, with a section of its own."""
    with pykcov.open(include=INCLUDE, sections=8) as device:
        device.init_trace(256)
        device.enable()
        record()
        device.disable()
        device.remote_enable(area_size=32, handles=[HANDLES[0]], common_handle=COMMON)
        with pykcov.remote(COMMON):
            record()
        device.sync()
        for pc in device.trace().pcs[:20]:
            pykcov.symbolize(pc)
        device.disable()


def gather() -> None:
    """A collect() block."""
    with pykcov.collect([HANDLES[1]], include=INCLUDE, area_size=64) as collection:
        record()
        len(collection.trace)
    collection.trace.lines()


def inspect() -> None:
    """What `pykcov doctor` does."""
    inventory.read()
    if random.random() < 0.2:
        inventory.clean()


def newcomer() -> None:
    """A process that opens the namespace as it is now, and leaves it."""
    child = os.fork()
    if child == 0:
        finish(lambda: step(random.choice([work, listen, gather, inspect]), PATIENCE - 20))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"a newcomer ended with {status}"


def leave_files() -> None:
    """A process that dies with a device, its handles and an open section."""
    child = os.fork()
    if child == 0:
        finish(_die)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -signal.SIGKILL, f"it ended with {status}"


def _die() -> None:
    device = pykcov.open(include=INCLUDE)
    device.init_trace(256)
    device.remote_enable(area_size=32, handles=HANDLES)
    with pykcov.remote(HANDLES[0]):
        record()
        os.kill(os.getpid(), signal.SIGKILL)


def step(function: Callable[[], object], seconds: int = PATIENCE - 5) -> None:
    """Do a step; what it may meet is KcovError and KcovWarning, and nothing else."""
    signal.alarm(seconds)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with contextlib.suppress(pykcov.KcovError):
            function()
    for warning in seen:
        if not issubclass(warning.category, ResourceWarning):
            assert issubclass(warning.category, pykcov.KcovWarning), warning
            assert "an error of pykcov's" not in str(warning.message), warning
    signal.alarm(0)


ROLES: dict[str, list[Callable[[], None]]] = {
    "worker": [work],
    "collector": [listen, gather, inspect],
    "newcomer": [newcomer],
}


def finish(body: Callable[[], object]) -> NoReturn:
    """Run the body, as a program that ends with it."""

    def limited() -> None:
        body()
        signal.alarm(PATIENCE - 5)
        forks.exit_as_a_program()

    forks.finish(limited)


class Process:
    """One forked process that does a step each time it is told to."""

    open: ClassVar[set[int]] = set()  # descriptors of all processes, here

    def __init__(self, role: str, seed: int) -> None:
        self.role = role
        here, theirs = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for fd in (here[1], theirs[0], *Process.open):
                os.close(fd)  # else nobody would see it closed
            random.seed(seed)
            finish(lambda: self._steps(here[0], theirs[1]))
        os.close(here[0])
        os.close(theirs[1])
        self._tell, self._hear = here[1], theirs[0]
        Process.open |= {self._tell, self._hear}

    def _steps(self, hear: int, tell: int) -> None:
        while os.read(hear, 1):
            step(random.choice(ROLES[self.role]))
            os.write(tell, b".")

    def go(self) -> None:
        """Begin a step."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._tell, b".")

    def wait(self) -> bool:
        """Wait for the end of the step; tell whether it came."""
        ready, _, _ = select.select([self._hear], [], [], PATIENCE)
        return bool(ready and os.read(self._hear, 1))

    def end(self, *, kill: bool = False) -> int:
        """Let it end, or kill it; return its exit status."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._tell)
        select.select([self._hear], [], [], PATIENCE)  # it is closed when the process has ended
        os.close(self._hear)
        Process.open -= {self._tell, self._hear}
        _, status = os.waitpid(self.pid, 0)
        return 0 if kill else os.waitstatus_to_exitcode(status)


# What is done to the files.


def _opened(path: Path) -> BinaryIO:
    """Open a file to spoil it; never what a link leads to (OSError ELOOP)."""
    return open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b", buffering=0)


def _flip(path: Path, random_: random.Random) -> None:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(random_.choice([1, 4, 64])):
            file.seek(random_.randrange(max(1, min(size, random_.choice([208, 4096, size])))))
            file.write(random_.randbytes(1))


def _words(path: Path, random_: random.Random) -> None:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(random_.choice([1, 2, 8])):
            end = min(size, random_.choice([208, 4096, 4096 + 32 * 8 * 4, size]))
            file.seek(random_.randrange(max(8, end)) // 8 * 8)
            file.write(random_.choice(VALUES).to_bytes(8, sys.byteorder))


def _longer(path: Path, random_: random.Random) -> None:
    with _opened(path) as file:
        file.seek(0, os.SEEK_END)
        file.write(random_.randbytes(random_.choice([1, 8, 5000])))


def _rename(path: Path, random_: random.Random) -> None:
    names = [
        "parked.0.1.1.1.1",
        "section.1.1.1",
        "parked.x",
        "section.9.9.9.9",
        "area.0",
        "handles.1",
        "Ω",
    ]
    path.rename(path.with_name(random_.choice(names)))


def _remove(path: Path, random_: random.Random) -> None:
    path.unlink()


def _replace(path: Path, random_: random.Random) -> None:
    path.unlink()
    kind = random_.randrange(4)
    if kind == 0:
        path.symlink_to(victim.PATH)
    elif kind == 1:
        os.mkfifo(path, 0o600)
    elif kind == 2:
        path.mkdir(0o700)
    else:
        path.touch(0o600)


def _cut(path: Path, random_: random.Random) -> None:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.truncate(random_.choice([0, 1, size // 2, 4096]))


def files(directory: Path) -> list[Path]:
    """Return the files that are there, one for each kind first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            path for path in directory.iterdir() if path.is_file() and not path.is_symlink()
        )
    return []


def mutate(directory: Path, random_: random.Random, *, is_quiet: bool) -> str:
    """Spoil one file; return what was done. Not every kind has the same chance, but every kind has one."""
    by_kind: dict[str, list[Path]] = {}
    for path in files(directory):
        by_kind.setdefault(path.name.partition(".")[0], []).append(path)
    if not by_kind:
        return ""
    kind = random_.choice(sorted(by_kind))
    path = random_.choice(by_kind[kind])
    ways = [_flip, _flip, _flip, _words, _words, _words, _longer]
    if is_quiet:
        ways = [_cut, _cut, _flip, _words]
    elif random_.random() < 0.03:
        ways = [_rename, _remove, _replace]
    elif kind in UNMAPPED:
        ways.append(_cut)
    way = random_.choice(ways)
    try:
        way(path, random_)
    except (FileNotFoundError, FileExistsError, IsADirectoryError):
        return ""  # a process was faster
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return ""  # it is a link by now
    return f"{way.__name__[1:]} {kind}"


# The storm.

STEPS, BATCH, CUTS = 6, 50, 10  # of a round, of a step, of the break


def one_round(number: int, seed: int, done: dict[str, int]) -> list[str]:
    """Do one round; count mutations in ``done`` by kind; return what was wrong."""
    random_ = random.Random(f"{seed}-{number}")
    name = os.environ["PYKCOV_NAMESPACE"] = f"storm-{os.getpid()}-{number}"
    wrong: list[str] = []

    def spoil(count: int, *, is_quiet: bool) -> None:
        for _ in range(count):
            if what := mutate(BASE / name, random_, is_quiet=is_quiet):
                done[what] = done.get(what, 0) + 1

    def half(*, mutated: bool) -> None:
        processes = [
            Process(role, random_.getrandbits(32))
            for role in ("collector", "worker", "worker", "newcomer")
        ]
        for at in range(STEPS if mutated else 2):
            for process in processes:
                process.go()
            if mutated and at:  # in the first step they make the files
                spoil(BATCH, is_quiet=False)
            for process in processes[:]:
                if not process.wait():
                    processes.remove(process)
                    wrong.append(f"round {number}: a {process.role} ended with {process.end()}")
        killed = processes[1] if len(processes) > 1 else None
        for process in processes:
            process.go()  # who is killed, is at work
        for process in processes:
            # Who leaves last removes the files; in every other round nobody does.
            if status := process.end(kill=process is killed or (mutated and number % 2 == 0)):
                wrong.append(f"round {number}: a {process.role} ended at last with {status}")

    half(mutated=True)
    if number % 2:  # what is left by then is chance; a new casualty leaves a file of each kind
        shutil.rmtree(BASE / name, ignore_errors=True)
        leave_files()
    spoil(CUTS, is_quiet=True)
    half(mutated=False)
    shutil.rmtree(BASE / name, ignore_errors=True)
    return wrong


def storm(seed: str, count: str) -> None:
    """Rounds until ``count`` mutations have been made."""
    done: dict[str, int] = {}
    wrong: list[str] = []
    print(f"seed {seed}", file=sys.stderr)
    with victim.made():
        for number in _until(lambda: sum(done.values()) >= int(count)):
            wrong += one_round(number, int(seed), done)
            assert not wrong, f"seed {seed}: {wrong}"
            assert victim.is_untouched(), f"seed {seed}: written through a link"
    kinds = {what.split()[1] for what in done}
    for kind in ("registry", "handles", "codemap", "area", "section", "lock"):
        assert f"cut {kind}" in done, f"no {kind} was ever cut: {done}"
    print(f"{sum(done.values())} mutations of {sorted(kinds)} in {number + 1} rounds: {done}")


def _until(is_done: Callable[[], bool]) -> Iterator[int]:
    number = 0
    while not is_done():
        yield number
        number += 1


def cut(kind: str) -> None:
    """Cut short a file that this process has mapped, and go on."""
    with pykcov.open(include=INCLUDE) as device:
        device.init_trace(1 << 14)
        device.remote_enable(area_size=1 << 13, handles=[HANDLES[0]])
        pykcov.remote_start(HANDLES[0])
        directory = BASE / os.environ["PYKCOV_NAMESPACE"]
        for path in directory.glob(f"{kind}*"):
            os.truncate(path, 0)
        step(record)
        step(pykcov.remote_stop)
        step(work)
        step(device.disable)
        step(device.close)


if __name__ == "__main__":
    # Who hangs shows where, and ends. (Not dump_traceback_later(): a fork while it is pending hangs itself.)
    faulthandler.register(signal.SIGALRM, chain=True)
    globals()[sys.argv[1]](*sys.argv[2:])
