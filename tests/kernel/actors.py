"""Who makes the calls: threads of this process, and processes that one of them forked."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any, Protocol

from conformance.backend import ThreadTask
from conformance.marks import PATIENCE

Answers = list[str]
Perform = Callable[..., Answers]


class Actor(Protocol):
    """One task, which does what `perform` does for a call."""

    known: int  # how many devices it may use: a process has those that were open when it was forked

    def __call__(self, *call: Any) -> Answers: ...

    def end(self) -> None: ...


class Thread:
    """A thread of this process."""

    known = 1 << 30

    def __init__(self, perform: Perform, parent: Thread | None = None) -> None:
        self._perform = perform
        self.task: ThreadTask = parent.task(ThreadTask) if parent else ThreadTask()

    def __call__(self, *call: Any) -> Answers:
        return self.task(lambda: self._perform(*call))

    def end(self) -> None:
        self.task.end()


class Process:
    """A process that a thread forked, which lives until it is killed."""

    def __init__(self, perform: Perform, parent: Thread, known: int) -> None:
        self.known = known
        there, self._calls = os.pipe()
        self._answers, back = os.pipe()
        self._pid = parent.task(lambda: self._fork(perform, there, back))
        os.close(there)
        os.close(back)

    def _fork(self, perform: Perform, there: int, back: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.close(self._calls)
            with open(there, encoding="ascii") as calls:
                for line in iter(calls.readline, ""):
                    try:
                        said: object = perform(*json.loads(line))
                    except BaseException as error:
                        said = repr(error)
                    os.write(back, json.dumps(said).encode() + b"\n")
        finally:
            os._exit(1)

    def __call__(self, *call: Any) -> Answers:
        os.write(self._calls, json.dumps(call).encode() + b"\n")
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert ready, "the process hangs"
            part = os.read(self._answers, 1 << 16)
            assert part, "the process has ended"
            text += part
        said = json.loads(text)
        assert isinstance(said, list), said
        return said

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._calls)
        os.close(self._answers)
