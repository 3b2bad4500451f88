"""One way to say a case, several things to say it to.

A case opens a `Fd` through a driver and looks at the answers: `'ok'` or the name of the errno.
Two drivers reach pykcov's own device: `Methods` by the named methods, `Ioctl` by the kernel's
numbers. Two more reach the kernel's device, where PYKCOV_TEST_DEVICE says so. `Rules` are the
places where the two contracts knowingly differ.
"""

from __future__ import annotations

import contextvars
import errno
import functools
import gc
import itertools
import json
import os
import queue
import struct
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pykcov
from conformance import marks, work
from conformance.rules import LINUX, PYKCOV, Rules
from pykcov import linux

T = TypeVar("T")

KERNEL = bool(marks.DEVICE)

# Words of a device's area: whole pages, which the kernel can map too. It has much to say of a fork.
SIZE = 1 << 16 if KERNEL else 1 << 9
AREA = 128  # words of a section's area

# 3.11's trace function is a thread's: a Context that collects is not followed to another thread.
CONTEXTS_MOVE = sys.version_info >= (3, 12)

INIT_TRACE, ENABLE, DISABLE, REMOTE_ENABLE = 0x80086301, 0x6364, 0x6365, 0x40186366


def answer(call: Callable[[], object]) -> str:
    """'ok', or the name of the errno of the KcovError that the call raised."""
    try:
        call()
    except pykcov.KcovError as error:
        assert error.errno is not None, f"a KcovError without errno: {error}"
        return "ENOTSUPP" if error.errno == 524 else errno.errorcode[error.errno]
    return "ok"


class Fd:
    """One open device. Every verb answers 'ok' or the name of an errno."""

    def __init__(self, device: Any) -> None:
        self.device = device  # pykcov's or the kernel's
        self.area: memoryview = memoryview(b"")

    def init_trace(self, size: int = SIZE) -> str:
        return answer(lambda: self.device.init_trace(size))

    def enable(self, mode: int = 0) -> str:
        return answer(lambda: self.device.enable(mode))

    def disable(self, arg: int = 0) -> str:
        return answer(lambda: self.device.disable(arg))

    def remote_enable(
        self, handles: Sequence[int] = (), common: int = 0, *, area_size: int = AREA, mode: int = 0
    ) -> str:
        return answer(
            lambda: self.device.remote_enable(
                trace_mode=mode, area_size=area_size, handles=handles, common_handle=common
            )
        )

    def ioctl(self, request: int, arg: Any = 0) -> str:
        return answer(lambda: self.device.ioctl(request, arg))

    def mmap(self, length: int | None = None, offset: int = 0) -> str:
        """Map the area; the newest mapping is `self.area`."""

        def call() -> None:
            self.area = self.device.mmap(length, offset)

        return answer(call)

    def close(self) -> str:
        return answer(self.device.close)

    @property
    def count(self) -> int:
        return int(self.area[0])

    def records(self) -> list[tuple[int, ...]]:
        """What the area holds of comparisons: type, arg1, arg2, pc."""
        return [tuple(self.area[at : at + 4]) for at in range(1, 1 + 4 * self.count, 4)]

    def steps(self) -> list[work.Step]:
        """What the area holds, as steps of work.py."""
        words = self.area[1 : 1 + self.count]
        if isinstance(self.device, linux.Device):
            return [work.call(marks.pcs()[pc]) for pc in words if pc in marks.pcs()]
        return [step(pc) for pc in words]


class IoctlFd(Fd):
    """The same verbs by the kernel's numbers."""

    def init_trace(self, size: int = SIZE) -> str:
        return self.ioctl(INIT_TRACE, size)

    def enable(self, mode: int = 0) -> str:
        return self.ioctl(ENABLE, mode)

    def disable(self, arg: int = 0) -> str:
        return self.ioctl(DISABLE, arg)

    def remote_enable(
        self, handles: Sequence[int] = (), common: int = 0, *, area_size: int = AREA, mode: int = 0
    ) -> str:
        return self.ioctl(REMOTE_ENABLE, remote_arg(handles, common, area_size, mode))


def remote_arg(
    handles: Sequence[int] = (), common: int = 0, area_size: int = AREA, mode: int = 0
) -> bytes:
    """struct kcov_remote_arg, packed here a second time and not by the package that is tested."""
    head = struct.pack("<IIIIQ", mode, area_size, len(handles), 0, common)
    return head + struct.pack(f"<{len(handles)}Q", *handles)


@dataclass(frozen=True)
class Driver:
    """How a case gets at a device."""

    name: str
    fd: type[Fd]
    rules: Rules = PYKCOV
    path: str | None = None

    def open(self, state: str = "S0", size: int = SIZE, **scope: Any) -> Fd:
        """A fresh device in S0, S1 (sized) or S2 (sized and mapped) that records work.py only."""
        if self.path is not None:
            fd = self.fd(pykcov.open(self.path, **scope))
        else:
            fd = self.fd(pykcov.open(include=[work.FILE], **scope))
        if state in ("S1", "S2"):
            assert fd.init_trace(size) == "ok"
        if state == "S2":
            assert fd.mmap() == "ok"
        return fd

    @contextmanager
    def opened(self, state: str = "S0", size: int = SIZE, **scope: Any) -> Iterator[Fd]:
        """The same, closed at the end."""
        fd = self.open(state, size, **scope)
        try:
            yield fd
        finally:
            fd.disable()  # a case that failed must not leave the test's own task busy
            fd.close()


METHODS = Driver("methods", Fd)
IOCTL = Driver("ioctl", IoctlFd)
LINUX_METHODS = Driver("kernel methods", Fd, LINUX, marks.DEVICE)
LINUX_IOCTL = Driver("kernel ioctl", IoctlFd, LINUX, marks.DEVICE)
# Over there a call takes its time: the ioctl numbers have rows of their own in the table, and the examples.
DRIVERS = [LINUX_METHODS] if KERNEL else [METHODS, IOCTL]
BY_NUMBER = LINUX_IOCTL if KERNEL else IOCTL


def handle(instance: int) -> int:
    """A handle for handles[]; the kernel takes those of a subsystem only."""
    return pykcov.remote_handle(pykcov.SUBSYSTEM_USB, instance) if KERNEL else instance


@functools.cache
def step(pc: int) -> work.Step:
    """A PC of work.py as a step; the file is checked, so a foreign PC cannot pass for a step."""
    place = pykcov.symbolize(pc)
    assert place.file == work.FILE, f"{pc:#x} is {place}, not a place of work.py"
    return work.Step(place.kind, place.function, place.line)


# Tasks


class Task(Protocol):
    """Somebody who runs commands, one at a time, always as the same task."""

    def __call__(self, command: Callable[[], T]) -> T:
        """Run the command as this task and give back what it returns or raises."""

    def end(self) -> None:
        """End the task; when this returns, its end has been noticed."""


class ThreadTask:
    """The base context of a thread of its own."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        # A daemon: a case that hangs in here must not keep the test process alive.
        self.thread = threading.Thread(target=self._run, name="task", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            try:
                self._answers.put((command(), None))
            except BaseException as error:
                self._answers.put((None, error))
            del command

    def __call__(self, command: Callable[[], T]) -> T:
        self._commands.put(command)
        value, error = self._answers.get(timeout=marks.PATIENCE)
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def end(self) -> None:
        if self.thread.is_alive():
            self._commands.put(None)
            gone(self.thread)


class ContextTask:
    """A contextvars.Context that runs on the calling thread, or on another task's thread."""

    def __init__(self, context: contextvars.Context | None = None, on: Task | None = None) -> None:
        self.context = contextvars.Context() if context is None else context
        self.on = on

    def __call__(self, command: Callable[[], T]) -> T:
        context = self.context
        if self.on is not None:
            return self.on(lambda: context.run(command))
        return context.run(command)

    def end(self) -> None:
        context = self.__dict__.pop("context", None)
        alive = weakref.ref(context) if context is not None else lambda: None
        del context
        if alive() is not None:  # an exception's traceback may hold it, in a cycle
            gc.collect()
            assert alive() is None, "somebody keeps the Context alive"


TASKS: dict[str, Callable[[], Task]] = {"thread": ThreadTask, "context": ContextTask}


@contextmanager
def tasks(*kinds: str) -> Iterator[list[Task]]:
    """One task of each kind, ended at the end."""
    made = [TASKS[kind]() for kind in kinds]
    try:
        yield made
    finally:
        for task in reversed(made):
            task.end()


def in_thread(command: Callable[[], T]) -> T:
    """Run the command in a thread of its own, which is gone when this returns."""
    task = ThreadTask()
    try:
        return task(command)
    finally:
        task.end()


def in_context(command: Callable[[], T]) -> T:
    """Run the command in an empty Context of its own."""
    return contextvars.Context().run(command)


def gone(thread: threading.Thread) -> None:
    """Wait until a thread has ended for the operating system too: join() may return before that."""
    native = thread.native_id
    thread.join(marks.PATIENCE)
    assert not thread.is_alive(), "the thread does not end"
    eventually(lambda: not os.path.exists(f"/proc/self/task/{native}"), "the thread lives on")


def in_child(command: Callable[[], T], timeout: float = marks.PATIENCE) -> T:
    """Run the command in a forked child; what it returns comes back as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                text = json.dumps({"value": command()})
            except BaseException as error:
                text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            os.write(writing, text.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    stop = threading.Timer(timeout, os.kill, (child, 9))  # a hung child must not hang the tests
    stop.start()
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    stop.cancel()
    assert os.waitstatus_to_exitcode(status) == 0, f"the child ended with {status:#x}"
    reply = json.loads(text)
    assert "error" not in reply, reply["error"]
    return reply["value"]  # type: ignore[no-any-return]


def eventually(
    check: Callable[[], object], complaint: str, seconds: float = marks.PATIENCE
) -> None:
    """Wait until the check holds. The seconds only bound a failure; nothing is measured."""
    end = time.monotonic() + seconds
    naps = itertools.chain([0.0] * 50, itertools.repeat(0.001))  # mostly it is a matter of a yield
    while not check():
        assert time.monotonic() < end, complaint
        time.sleep(next(naps))


def settles(call: Callable[[], str], wanted: str = "ok") -> None:
    """Repeat a call until it gives the wanted answer: the end of a task may take a moment."""
    last: list[str] = []

    def check() -> bool:
        last[:] = [call()]
        return last[0] == wanted

    eventually(check, f"wanted {wanted}, the last answer was {last}")


def section(handle: int, functions: Iterable[Callable[[], object]]) -> None:
    """One section around these calls, in the task that runs this."""
    with pykcov.remote(handle):
        for function in functions:
            function()


# Warnings


@contextmanager
def kcov_warnings() -> Iterator[list[str]]:
    """The texts of all KcovWarnings while the block runs, whatever thread gave them."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield texts
        texts += [str(w.message) for w in seen if issubclass(w.category, pykcov.KcovWarning)]


@contextmanager
def silence() -> Iterator[None]:
    """No KcovWarning may be given while the block runs."""
    with kcov_warnings() as texts:
        yield
    assert texts == []


@contextmanager
def one_warning(*words: str) -> Iterator[None]:
    """Exactly one KcovWarning must be given while the block runs, and its text has these words."""
    with kcov_warnings() as texts:
        yield
    assert len(texts) == 1, texts
    for word in words:
        assert word in texts[0]
