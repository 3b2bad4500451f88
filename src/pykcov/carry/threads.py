"""Threads inherit the common handle; a job of a pool of threads is a section of its submitter's.

A worker of a pool serves whoever submits next, so it inherits nothing, wherever the pool was made: the handle
travels with each job, with its callbacks and with the pool's initializer, and the worker leaves it afterwards.
"""

from __future__ import annotations

from .. import _recorder
from .jobs import Begin, carry, carry_given, carry_initializer, inherit_nothing, put_run, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["install", "install_executor", "install_future"]


def install(threading: ModuleType) -> None:
    """Let threads inherit."""
    wrap(threading.Thread, "start", _start)


def install_executor(module: ModuleType) -> None:
    """Let the jobs of the executor that is in the module carry the handle."""
    for name in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
        if hasattr(module, name):
            wrap(getattr(module, name), "__init__", _serve)
            wrap(getattr(module, name), "submit", _submit)


def install_future(module: ModuleType) -> None:
    """Let a callback be for who adds it, whichever thread calls it."""
    wrap(module.Future, "add_done_callback", _when_done)


def _start(found: _recorder.Inherited, original: Callable[..., None], thread: Any) -> None:
    begin = Begin(found)

    def first() -> None:
        put_back()
        begin()

    put_back = put_run(thread, _recorder.Around(first, thread.run, None))
    try:
        original(thread)
    except BaseException:
        put_back()
        raise


_INITIALIZER = 3  # its place among the parameters of both executors


def _serve(
    found: _recorder.Inherited, original: Callable[..., None], *args: Any, **kw: Any
) -> None:
    original(*carry_initializer(found, _INITIALIZER, args, kw), **kw)


def _when_done(
    found: _recorder.Inherited, original: Callable[..., None], future: Any, fn: Any
) -> None:
    original(future, carry_given(found, fn))


def _submit(
    found: _recorder.Inherited,
    original: Callable[..., Any],
    pool: Any,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    with inherit_nothing():
        return original(pool, carry(found, function), *args, **kwargs)
