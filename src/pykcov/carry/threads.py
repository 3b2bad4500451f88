"""Threads inherit the common handle; a job of a ThreadPoolExecutor is a section of its submitter's.

A worker of a pool serves whoever submits next, so it inherits nothing, wherever the pool was made: the handle
travels with each job and the worker leaves it afterwards.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .. import _recorder, task
from ..remote import Section, adopt, enter_all, leave_all

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
    def begin() -> None:
        thread.__dict__.pop("run", None)
        task.inherit(found)
        adopt()

    thread.run = _recorder.Around(begin, thread.run, None)  # type: ignore[method-assign]
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
    def begin() -> tuple[task.Token, Sequence[Section]]:
        task.current()  # before it inherits: a worker follows nobody
        return task.inherit(found), enter_all(found)

    # A worker that this job makes the pool start must not inherit.
    token = task.inherit(None)
    try:
        return original(pool, _recorder.Around(begin, function, _end), *args, **kwargs)
    finally:
        task.reset(token)


def _end(begun: tuple[task.Token, Sequence[Section]]) -> None:
    token, sections = begun
    leave_all(sections)
    task.reset(token)
