"""asyncio: a task inherits by its context, which asyncio copies; a Runner and 3.11 need help.

A Runner has one context, copied when it began, for all that it runs. On 3.11 a thread is traced from when something
begins to collect in it, and a callback that comes from another thread (call_soon_threadsafe, run_coroutine_threadsafe)
may be the first that does. Nothing does any more when that callback is over, so a task that it makes has to be known
before it runs.
"""

from __future__ import annotations

import contextvars
import functools
import sys

from .. import _recorder, task
from ..remote import adopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import ModuleType
    from typing import Any

__all__ = ["install", "install_runner"]


def install(base_events: ModuleType) -> None:
    """Put the carriers into ``BaseEventLoop.call_soon_threadsafe`` and ``create_task``, on 3.11."""
    if sys.version_info >= (3, 12):
        return
    create = base_events.BaseEventLoop.create_task

    @functools.wraps(create)
    def create_task(
        loop: Any, coro: Any, *, name: Any = None, context: Context | None = None
    ) -> Any:
        # A factory of the program's need not know of contexts.
        if context is None and loop.get_task_factory() is None and task.inherited() is not None:
            context = contextvars.copy_context()
            context.run(adopt)
        return create(loop, coro, name=name, context=context)

    setattr(base_events.BaseEventLoop, create.__name__, create_task)
    original = base_events.BaseEventLoop.call_soon_threadsafe

    @functools.wraps(original)
    def call_soon_threadsafe(
        loop: Any,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> Any:
        if task.inherited() is not None:
            callback = _recorder.Around(adopt, callback, None)
        return original(loop, callback, *args, context=context)

    setattr(base_events.BaseEventLoop, original.__name__, call_soon_threadsafe)


def install_runner(runners: ModuleType) -> None:
    """Let what a ``Runner`` runs be for who calls ``run()``."""
    runners.Runner.run = _Run(runners.Runner.run)


class _Run:
    """``Runner.run``, without a frame of its own where it is called."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __get__(self, runner: Any, owner: object = None) -> Any:
        if runner is None:
            return self._original
        original, found = self._original.__get__(runner, owner), task.inherited()
        context = getattr(runner, "_context", None)
        # Without one of its own it copies the caller's when it runs.
        if found is None or context is None:
            return original
        from .jobs import InContext  # not before: with it a program that waits joins

        there = InContext(context, found)
        return _recorder.Around(there.enter, original, there.leave)
