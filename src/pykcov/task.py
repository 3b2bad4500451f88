"""The current task: what it collects, its common handle, what a child inherits, its end.

A task is a ``contextvars.Context`` that runs, or a thread's base context. Its state belongs to that context
and is written by nobody else. A copied context inherits the common handle, never the collecting: the
handle is in a variable of its own whose value never changes, and a Task knows whose it is.
"""

from __future__ import annotations

import os

from . import _recorder, namespace
from .errors import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextvars
    import weakref
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeVar

    from .device import Device
    from .remote import Section

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
    """What one task owns."""

    __slots__ = ("__weakref__", "local", "remote", "sections", "starts")

    def __init__(self) -> None:
        self.local: Device | None = None
        self.remote: Device | None = None
        self.sections: list[Section] = []
        # One entry for each remote_start() that remote_stop() has not met; None: nobody listened.
        self.starts: list[Section | None] = []

    def own(self) -> None:
        """Keep this task alive until it owns nothing: its end has to be seen."""
        _owners[self.serial] = self

    def release(self) -> None:
        """Forget the task if it owns nothing any more."""
        if not (self.sections or self.local or self.remote):
            _owners.pop(self.serial, None)

    def begin(self, section: Section) -> None:
        """Own a section."""
        self.sections.append(section)
        self.own()

    def end(self, section: Section) -> None:
        """Own a section no more."""
        if section in self.sections:
            self.sections.remove(section)
        self.release()

    def _end(self, _owner: weakref.ref[contextvars.Context]) -> None:
        """Its context is gone, or the thread whose base context it was (kcov_task_exit)."""
        # A forked child frees the other threads' contexts before its hooks run: their sections are the parent's.
        # And who ends after the process has left the namespace has nothing any more.
        if os.getpid() != _pid or namespace.current() is None:
            return
        _owners.pop(self.serial, None)
        with quiet:
            for section in self.sections[:]:
                if not section.implicit:
                    warn(f"a task ended inside a section (handle {section.handle:#x})")
                section.finish()
            for device in (self.local, self.remote):
                if device is not None:
                    device._task_exit(self)


_owners: dict[int, Task] = {}
_pid = os.getpid()


def follow(_owner: Task, /) -> None:
    """Collect the new current task for every collect() that caused it. remote.py puts its own here."""


def current() -> Task:
    """Return the current task, making it known if this is the first that is heard of it."""
    task = _recorder.current_task()
    if task is None:
        task = Task()
        task.bind(task._end)
        follow(task)
    return task  # type: ignore[return-value]


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
    global _pid
    _pid = os.getpid()
    _owners.clear()
    _recorder.after_fork()


namespace.in_child(_after_fork)
