"""What CPython itself says about a program: `sys.settrace` on 3.11, and `sys.monitoring` as well from 3.12 on.

Independent of pykcov and of the interpreter: Python callbacks, one list of events for each task. In place of
pykcov the program finds a Stub that only notes when it was called, in the same lists.
"""

from __future__ import annotations

import asyncio
import contextvars
import dis
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .programs import Program
from .stage import Stage, start_pools
from .values import Event

Record = Callable[[Event], None]


@cache
def start_offset(code: CodeType) -> int:
    """Offset of the instruction at which a call begins; a generator's later calls go on behind it."""
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), 0)


def settrace(files: dict[str, int], record: Record) -> Callable[[FrameType, str, Any], Any]:
    """Returns a trace function that gives the entries and all lines of the files."""

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        code = frame.f_code
        file = files.get(code.co_filename)
        if file is None:
            return None
        if what == "call" and frame.f_lasti == start_offset(code):
            record(("entry", file, code.co_firstlineno, code.co_qualname))
        elif what == "line":
            record(("line", file, frame.f_lineno, ""))
        return trace

    return trace


class Monitoring:
    """The same by sys.monitoring."""

    tool = 3

    def __init__(self, files: dict[str, int], record: Record) -> None:
        self.files = files
        self.record = record

    def start(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        monitoring.use_tool_id(self.tool, "truth")
        monitoring.register_callback(self.tool, monitoring.events.PY_START, self.on_start)
        monitoring.register_callback(self.tool, monitoring.events.LINE, self.on_line)
        monitoring.set_events(self.tool, monitoring.events.PY_START | monitoring.events.LINE)

    def stop(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        monitoring.set_events(self.tool, 0)
        monitoring.free_tool_id(self.tool)

    def on_start(self, code: CodeType, _: int) -> None:
        file = self.files.get(code.co_filename)
        if file is not None:
            self.record(("entry", file, code.co_firstlineno, code.co_qualname))

    def on_line(self, code: CodeType, line: int) -> None:
        file = self.files.get(code.co_filename)
        if file is not None:
            self.record(("line", file, line, ""))


# ------------------------------------------------------------------ which task


class Identity:
    """Marks a context as a task of its own, unless an asyncio task has begun in a copy of it since."""

    def __init__(self) -> None:
        self.task = running_task()


identity: contextvars.ContextVar[Identity | None] = contextvars.ContextVar("identity", default=None)
in_thread = threading.local()


def running_task() -> Any:
    loop = asyncio._get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


def whose() -> Any:
    """Returns an object that is the same as long as the current task is."""
    own, task = identity.get(), running_task()
    if own is not None and own.task is task:
        return own.of if isinstance(own, Again) else own
    if task is not None:
        return task
    try:
        return in_thread.base
    except AttributeError:
        in_thread.base = object()
        return in_thread.base


class Again(Identity):
    """A context that runs once more, perhaps in another asyncio task."""

    def __init__(self, of: object) -> None:
        super().__init__()
        self.of = of


class Contexts:
    """contextvars for the program."""

    def copy_context(self) -> Context:
        return Context(contextvars.copy_context())


class Context:
    def __init__(self, context: contextvars.Context) -> None:
        self.context = context

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.context.run(self._run, function, args, kwargs)

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        identity.set(Again(self))
        return function(*args, **kwargs)


def alone(function: Callable[..., Any], *args: Any) -> Any:
    """Calls it as a task of its own."""
    token = identity.set(Identity())
    try:
        return function(*args)
    finally:
        identity.reset(token)


class Jobs(ThreadPoolExecutor):
    """A pool whose jobs are tasks of their own."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(alone, function, *args, **kwargs)


class Asyncio:
    """asyncio for the program: to_thread() makes a task of its own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def to_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(alone, function, *args)


# ------------------------------------------------------------------ in place of pykcov


class Stub:
    """Notes the calls."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.handle = 0

    def mark(self, mark: str) -> None:
        self.record(("mark", 0, 0, mark))

    def open(self, **how: Any) -> Stub:
        return self

    def init_trace(self, size: int) -> None:
        pass

    def mmap(self) -> list[int]:
        return [0]

    def close(self) -> None:
        pass

    def enable(self) -> None:
        self.mark("enable")

    def remote_enable(self, **how: Any) -> None:
        self.mark("remote_enable")

    def disable(self) -> None:
        self.mark("disable")

    def remote_start(self, handle: int) -> None:
        self.mark("start")

    def remote_stop(self) -> None:
        self.mark("stop")

    def common_handle(self) -> int:
        return 0

    @contextmanager
    def remote(self, handle: int) -> Any:
        self.mark("start")
        try:
            yield self
        finally:
            self.mark("stop")

    @contextmanager
    def collect(self, handles: Iterable[int] = (), **how: Any) -> Any:
        self.mark("collect")
        try:
            yield self
        finally:
            self.mark("collected")


# ------------------------------------------------------------------ a run


def run(program: Program, folder: Path, mechanism: str) -> tuple[Any, list[list[Event]]]:
    """Runs a program; returns its result and the events of each task, with all lines."""
    streams: dict[Any, list[Event]] = {}

    def record(event: Event) -> None:
        streams.setdefault(whose(), []).append(event)

    stage = Stage(Stub(record), program, folder, [])
    files = {str(path): i for i, path in enumerate(stage.paths)}
    tracer = settrace(files, record)
    monitoring = Monitoring(files, record)

    def act() -> Any:
        stage.pools = start_pools(Jobs)
        if mechanism == "settrace":
            sys.settrace(tracer)
        else:
            monitoring.start()
        try:
            stage.write()
            names = stage.load()
            names |= {"contextvars": Contexts(), "asyncio": Asyncio()}
            return names["main"]() if program.kind == "concurrent" else names["x"]
        finally:
            sys.settrace(None)
            if mechanism != "settrace":
                monitoring.stop()
            for pool in stage.pools:
                pool.shutdown()

    threading.settrace(tracer if mechanism == "settrace" else None)  # type: ignore[arg-type]
    try:
        result = contextvars.copy_context().run(alone, act)
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    return result, list(streams.values())
