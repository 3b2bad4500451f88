"""Other processes for real: what starts them, what runs in them, and what they tell.

A process that ends tells in a file what its own collections have got; a worker tells it with each answer.
Workers are older than any program and stay: to start one takes longer than to check a program.
"""

from __future__ import annotations

import atexit
import contextvars
import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pykcov

from .kindred import OLD, POOL
from .machine import GONE
from .programs import Program
from .scenario import POOLS
from .stage import Stage, Told, listen

PR_SET_PDEATHSIG = 1
HANGS = 60  # seconds that no piece of work takes
Answer = tuple[int, Any, dict[str, Told], list[str]]
"""Who answers (a pid), what the function gave, what was collected there, what was wrong there."""


class Home(Stage):
    """A stage with other processes. Each of them has one of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.globals: dict[str, Any] = {}
        self.before: list[object] = []
        self.children: dict[int, Forked] = {}

    def names(self) -> dict[str, Any]:
        return super().names() | {
            "fork": self.fork, "process": self.process, "job": self.job, "ask": self.ask,
            "gate": Gate, "meet": meet, "die": self.die, "kill": kill,
        }  # fmt: skip

    def load(self) -> dict[str, Any]:
        self.globals = super().load()
        return self.globals

    # ---------------------------------------------------------------- in the process that starts others

    def fork(self, function: Callable[..., Any], *args: Any) -> Forked:
        pid = os.fork()
        if not pid:
            try:
                self.live(function, *args)
            finally:
                os._exit(1 if self.warnings else 0)
        return Forked(self, pid)

    def process(self, method: str, function: Callable[..., Any], *args: Any) -> Started:
        context: Any = multiprocessing.get_context(method)
        if method == "fork":
            process = context.Process(target=self.live, args=(function, *args))
        else:
            home = (self.program, self.folder, function.__name__, args)
            process = context.Process(target=begin, args=home)
        process.start()
        return Started(self, process)

    def job(self, function: Callable[..., Any], *args: Any) -> Job:
        return Job(
            self, family().pool.submit(do, self.program, self.folder, function.__name__, args)
        )

    def ask(self, number: int, handle: int, function: Callable[..., Any], *args: Any) -> Question:
        what = (self.program, self.folder, handle, function.__name__, args)
        return Question(self, number, family().old[number].ask(what))

    def hear(self, number: int, answer: Answer) -> Any:
        """Notes what a worker tells, and returns what its function gave."""
        pid, value, told, problems = answer
        self.processes[pid] = number
        self.told |= told
        self.warnings += problems
        return value

    def read(self, pid: int) -> Any:
        """Notes what a process told that has ended, and returns what its function gave."""
        path = self.letter(pid)
        value, told, problems = pickle.loads(path.read_bytes())
        path.unlink()
        self.told |= told
        self.warnings += problems
        return value

    def close(self) -> None:
        for child in list(self.children.values()):  # the program was broken off
            kill(child)
            child.wait()
        super().close()

    def letter(self, pid: int) -> Path:
        return self.folder / f"told_{pid}"

    # ---------------------------------------------------------------- in the others

    def live(self, function: Callable[..., Any], *args: Any) -> None:
        """What a forked process does."""
        # What was the parent's stays referenced: its end is not this process's affair.
        self.before += [self.devices, self.areas, self.kept, self.pools]
        self.devices, self.areas, self.kept, self.told = {}, {}, {}, {}
        self.pools, self.children = fresh_pools(), {}
        self.globals.update({f"POOL{i}": pool for i, pool in enumerate(self.pools)})
        self.warnings.clear()
        self.work(function, *args)

    def work(self, function: Callable[..., Any], *args: Any) -> None:
        value = None
        # Not dump_traceback_later(): its thread is not there after a fork.
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(HANGS)
        try:
            value = function(*args)
        except BaseException:
            self.warnings.append(traceback.format_exc())
        self.tell(value)

    def tell(self, value: Any) -> None:
        content = pickle.dumps((value, self.found(), self.warnings))
        self.letter(os.getpid()).write_bytes(content)

    def answer(self, value: Any) -> Answer:
        """Returns what a worker tells, and forgets it."""
        found = os.getpid(), value, self.found(), self.warnings[:]
        self.close()
        self.devices, self.kept, self.told = {}, {}, {}
        self.warnings.clear()
        return found

    def die(self, how: str) -> None:
        self.tell(GONE)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)


def fresh_pools() -> list[Any]:
    return [ThreadPoolExecutor(4) for _ in range(POOLS)]


# ------------------------------------------------------------------ where other processes begin

problems: list[str] = []
"""Of this process, if it is a worker or was not forked."""
here: Home | None = None
"""Of this process, if it is a worker."""


def begin(program: Program, folder: Path, name: str, args: tuple[Any, ...]) -> None:
    """Is what a spawned process does: it executes the program's files, and one call."""
    home = Home(pykcov, program, folder, fresh_pools())
    home.warnings = problems
    listen(problems)
    names = home.load()
    home.work(names[name], *args)


def settle(program: Program, folder: Path) -> Home:
    """Returns a worker's stage for the program."""
    global here
    if here is None:
        listen(problems)
    if here is None or here.program.seed != program.seed:
        here = Home(pykcov, program, folder, fresh_pools())
        here.warnings = problems
        here.load()
    return here


def die_with_parent() -> None:
    """A run that is broken off leaves nobody behind who waits for work."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def do(program: Program, folder: Path, name: str, args: tuple[Any, ...]) -> Answer:
    """A job in the pool: collected for who submitted it, but for the loading."""
    home = contextvars.Context().run(settle, program, folder)
    return home.answer(home.globals[name](*args))


def serve(line: Connection) -> None:
    """An old process: it waits for work all its life, and each piece is a section."""
    die_with_parent()
    while True:
        try:
            number, program, folder, handle, name, args = line.recv()
        except EOFError:
            return
        home = settle(program, folder)
        value = home.aside(handle, home.globals[name], *args)
        line.send((number, home.answer(value)))


class Old:
    """A process that is older than any program."""

    def __init__(self, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.sending, self.receiving = threading.Lock(), threading.Lock()
        self.asked = 0
        self.answers: dict[int, Answer] = {}

    def ask(self, what: tuple[Any, ...]) -> Callable[[], Answer]:
        """Sends it; returns what waits for the answer."""
        with self.sending:
            self.asked += 1
            number = self.asked
            self.line.send((number, *what))

        def answer() -> Answer:
            with self.receiving:
                while number not in self.answers:
                    found, given = self.line.recv()
                    self.answers[found] = given
                return self.answers.pop(number)

        return answer


class Family:
    """The workers."""

    def __init__(self) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.old = [Old("forkserver"), Old("spawn")]
        self.pool = ProcessPoolExecutor(2, mp_context=context, initializer=die_with_parent)
        atexit.register(self.pool.shutdown)

    def stop(self) -> None:
        """Ends them now, whatever they do."""
        for process in (*(old.process for old in self.old), *self.pool._processes.values()):
            process.kill()


the_family: Family | None = None


def family() -> Family:
    global the_family
    if the_family is None:
        the_family = Family()
    return the_family


def stop() -> None:
    if the_family is not None:
        the_family.stop()


# ------------------------------------------------------------------ what the program holds of them


class Forked:
    """A process that os.fork() made."""

    def __init__(self, home: Home, pid: int) -> None:
        self.home = home
        self.pid = pid
        self.killed = False
        home.children[pid] = self

    def wait(self) -> int:
        del self.home.children[self.pid]
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def result(self) -> Any:
        status = self.wait()
        if self.killed:
            return GONE
        if self.home.letter(self.pid).exists():
            return self.home.read(self.pid)
        self.home.warnings.append(f"process {self.pid} ended with {status} and told nothing")
        return None


class Started(Forked):
    """A multiprocessing.Process."""

    def __init__(self, home: Home, process: BaseProcess) -> None:
        assert process.pid is not None
        super().__init__(home, process.pid)
        self.process = process

    def wait(self) -> int:
        del self.home.children[self.pid]
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


class Job:
    """A job in the pool."""

    def __init__(self, home: Home, future: Future[Answer]) -> None:
        self.home = home
        self.future = future

    def result(self) -> Any:
        return self.home.hear(POOL, self.future.result())


class Question:
    """Work for an old process."""

    def __init__(self, home: Home, number: int, answer: Callable[[], Answer]) -> None:
        self.home = home
        self.number = number
        self.answer = answer

    def result(self) -> Any:
        return self.home.hear(OLD - self.number, self.answer())


class Gate:
    """An event that two processes share."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()

    def set(self) -> None:
        os.write(self.into, b".")

    def wait(self) -> None:
        os.read(self.out, 1)

    def __del__(self) -> None:
        os.close(self.out)
        os.close(self.into)


def meet(here: Gate, go: Gate) -> None:
    here.set()
    go.wait()


def kill(child: Forked) -> None:
    """Kills it, and waits until it is gone: a signal takes its time."""
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.killed = True
