"""Threads inherit the common handle; a job of a ThreadPoolExecutor is a section of its submitter's.

A worker of a pool serves whoever submits next, so it inherits nothing, wherever the pool was made: the handle
travels with each job and the worker leaves it afterwards.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .. import _recorder, task
from ..remote import adopt, enter_all, leave_all

__all__ = ["install"]


def install() -> None:
    """Put the carriers into ``threading.Thread`` and ``ThreadPoolExecutor``."""
    _wrap(threading.Thread, "start", _start)
    _wrap(ThreadPoolExecutor, "submit", _submit)


def _wrap(owner: type, name: str, carrier: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def carrying(*args: Any, **kwargs: Any) -> Any:
        found = task.inherited()
        if found is None:
            return original(*args, **kwargs)
        return carrier(found, original, *args, **kwargs)

    setattr(owner, name, carrying)


def _start(
    found: _recorder.Inherited, original: Callable[..., None], thread: threading.Thread
) -> None:
    run = thread.run

    def running() -> None:
        thread.__dict__.pop("run", None)
        task.inherit(found)
        adopt()
        run()

    thread.run = running  # type: ignore[method-assign]
    try:
        original(thread)
    except BaseException:
        thread.__dict__.pop("run", None)
        raise


def _submit(
    found: _recorder.Inherited,
    original: Callable[..., Future[Any]],
    pool: ThreadPoolExecutor,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Future[Any]:
    # A worker that this job makes the pool start must not inherit.
    token = task.inherit(None)
    try:
        return original(pool, _Job(found, function), *args, **kwargs)
    finally:
        task.reset(token)


class _Job:
    """A job and the handles that it came with."""

    __slots__ = ("_found", "_function")

    def __init__(self, found: _recorder.Inherited, function: Callable[..., Any]) -> None:
        self._found = found
        self._function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        task.current()  # before it inherits: a worker follows nobody
        token = task.inherit(self._found)
        sections = enter_all(self._found)
        try:
            return self._function(*args, **kwargs)
        finally:
            leave_all(sections)
            task.reset(token)
