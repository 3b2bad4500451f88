"""The current task: what it collects, its common handle, what a child inherits, its end.

A task is a ``contextvars.Context`` that runs, or a thread's base context. Its state belongs to that context
and is written by nobody else. A copied context inherits the common handle, never the collecting: the
handle is in a variable of its own whose value never changes, and a Task knows whose it is.
"""

from __future__ import annotations

from . import _recorder, namespace
from .errors import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeVar

    _Function = TypeVar("_Function", bound=Callable[..., Any])
    Token: TypeAlias = contextvars.Token["_recorder.Inherited | None"]

__all__ = ["CommonHandle", "Task", "common_handle", "current", "quiet", "quietly"]

_inherited = _recorder.inherited_var
# What pykcov does itself, with the standard library's help, is not the program.
quiet = _recorder.Quiet()


def quietly(function: _Function) -> _Function:
    """Make a function whose work no open collection records."""
    import functools

    @functools.wraps(function)
    def hushed(*args: Any, **kwargs: Any) -> Any:
        with quiet:
            return function(*args, **kwargs)

    return hushed  # type: ignore[return-value]


class CommonHandle(int):
    """A common handle that knows its session, so that it matches nothing once that is over."""

    session: int

    def __new__(cls, handle: int, session: int) -> CommonHandle:
        """Return ``handle``, good for the session that ``session`` (a key) names."""
        self = super().__new__(cls, handle)
        self.session = session
        return self

    def __reduce__(self) -> tuple[type[CommonHandle], tuple[int, int]]:
        return CommonHandle, (int(self), self.session)


class Task(_recorder.Task):
    """What one task owns: its open sections, and the devices that it has enabled."""

    __slots__ = ()

    def end(self) -> None:
        """Give everything back: its context is gone, or its thread. Called by C."""
        if namespace.current() is None:  # who ends after the process has left has nothing any more
            return
        for section in self.sections[:]:
            if not section.implicit:
                warn(f"a task ended inside a section (handle {section.handle:#x})")
            section.finish()
        for device in (self.local, self.remote):
            if device is not None:
                device._task_exit(self)


_owners: set[_recorder.Task] = set()
_recorder.install(task=Task, owners=_owners)


def current() -> Task:
    """Return the current task, making it known if this is the first that is heard of it."""
    return _recorder.this_task()  # type: ignore[return-value]


def inherited() -> _recorder.Inherited | None:
    """Return what the current task inherited and is still in force, innermost first (``outer``)."""
    found = _inherited.get()
    while found is not None and not found.live:
        found = found.outer
    return found


def chain(found: _recorder.Inherited | None) -> list[_recorder.Inherited]:
    """Return ``found`` and all that is outside of it, those in force, from the outermost on."""
    every = []
    while found is not None:
        if found.live:
            every.append(found)
        found = found.outer
    every.reverse()
    return every


def inherit(found: _recorder.Inherited | None) -> Token:
    """Make ``found`` what the current task has and its children get; return the token to go back."""
    token = _inherited.set(found)
    _recorder.refresh()
    return token


def reset(token: Token) -> None:
    """Go back to before inherit(); where the context is another one, leave it alone."""
    try:
        _inherited.reset(token)
    except ValueError:
        pass
    _recorder.refresh()


def common_handle() -> int:
    """Return the current task's common handle, 0 for none.

    It is an int that also knows its session: pass it on with the work, and give it to remote_start()
    where the work is done. Source: ``t->kcov_handle`` of the patch, kcov_common_handle() of Linux 5.8.
    """
    found = inherited()
    if found is None:
        return 0
    return CommonHandle(found.handle, found.device)


def _after_fork() -> None:
    _owners.clear()
    _recorder.after_fork()


namespace.in_child(_after_fork)
