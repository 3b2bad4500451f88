"""Child processes inherit the common handle; a job of a pool of processes is a section of its submitter's.

A forked child has its parent's context, and needs nothing. Another one is told: a Process of multiprocessing by what is
pickled for it, a program by its environment, which its sitecustomize finds (startup/).
"""

from __future__ import annotations

import os

from .. import _recorder, namespace, task
from ..remote import find_session
from .jobs import (
    Begin,
    carry,
    carry_given,
    carry_initializer,
    inherit_nothing,
    parts,
    put_run,
    wrap,
)
from .waiting import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["install_pool", "install_process", "install_subprocess"]

_STARTUP = os.path.join(os.path.dirname(__file__), "startup")
_VARIABLE = "PYKCOV_INHERIT"


def install_process(module: ModuleType) -> None:
    """Let a Process of ``multiprocessing.process`` inherit, whatever its start method."""
    wrap(module.BaseProcess, "start", _start)


def _start(found: _recorder.Inherited, original: Callable[..., None], process: Any) -> None:
    # Found in the child, pickled or forked.
    put_back = put_run(process, _recorder.Around(Begin(found), process.run, None))
    namespace.be_seen()
    try:
        original(process)
    finally:
        put_back()


def install_pool(module: ModuleType) -> None:
    """Let the jobs of ``multiprocessing.pool``, of processes and of threads, carry the handle."""
    wrap(module.Pool, "__init__", _serve)
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        wrap(module.Pool, name, _give)


def _serve(
    found: _recorder.Inherited, original: Callable[..., None], *args: Any, **kw: Any
) -> None:
    args = carry_initializer(found, _INITIALIZER, args, kw)
    with inherit_nothing():
        original(*args, **kw)


_INITIALIZER = 2  # its place among the parameters of Pool()
# Where the two callbacks are among the parameters behind `func`.
_CALLBACKS = {"apply_async": 2, "_map_async": 3}


def _give(
    found: _recorder.Inherited,
    original: Callable[..., Any],
    pool: Any,
    func: Any,
    *args: Any,
    **kw: Any,
) -> Any:
    first = _CALLBACKS.get(original.__name__, len(args))
    callbacks = [carry_given(found, given) for given in args[first : first + 2]]
    for name in {"callback", "error_callback"} & kw.keys():
        kw[name] = carry_given(found, kw[name])
    with inherit_nothing():
        return original(
            pool, carry(found, func), *args[:first], *callbacks, *args[first + 2 :], **kw
        )


def install_subprocess(module: ModuleType) -> None:
    """Let the programs that ``subprocess.Popen`` starts inherit; asyncio's come from there, too."""
    wrap(module.Popen, "__init__", _popen)


def _popen(
    found: _recorder.Inherited, original: Callable[..., None], popen: Any, *args: Any, **kw: Any
) -> None:
    if len(args) <= _BEFORE_ENV:
        kw["env"] = _environment(found, kw.get("env"))
    else:
        env = _environment(found, args[_BEFORE_ENV])
        args = (*args[:_BEFORE_ENV], env, *args[_BEFORE_ENV + 1 :])
    original(popen, *args, **kw)


_BEFORE_ENV = 10  # parameters of Popen() that come before `env`


def _environment(found: _recorder.Inherited, env: Any) -> Any:
    """Return an environment for a child that inherits ``found``; ``env`` itself if it is no usual one."""
    with task.quiet:
        try:
            child = dict(os.environ if env is None else env)
            if not all(isinstance(name, str) for name in child):
                return env
            given = parts(found)
            sessions = [find_session(key) for _, key, _ in given]
            may_wait = all(session is not None and session.may_wait() for session in sessions)
            namespace.be_seen()
            child[_VARIABLE] = text_of(namespace.get().name, given, may_wait=may_wait)
            path = child.get("PYTHONPATH")
            child["PYTHONPATH"] = f"{_STARTUP}{os.pathsep}{path}" if path else _STARTUP
        except (TypeError, ValueError):  # Popen() says what is wrong with it
            return env
        return child
