"""asyncio: a task inherits by its context, which asyncio copies; only 3.11 needs help.

There a thread is traced from when something begins to collect in it, and a callback that comes from another
thread (call_soon_threadsafe, run_coroutine_threadsafe) may be the first that does. Nothing does any more when that
callback is over, so a task that it makes has to be known before it runs.
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

__all__ = ["install"]


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
