"""Forked children of a test, and how they end."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from pykcov import namespace


def start(body: Callable[[], object], *, leaves: bool = True) -> int:
    """Fork a child that does ``body``; return its pid. A child that hangs is ended by SIGALRM."""
    child = os.fork()
    if child:
        return child

    def limited() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        body()
        if leaves:
            namespace.leave()

    finish(limited)


def finish(body: Callable[[], object]) -> NoReturn:
    """Do ``body`` and end this process, with status 0; with 1 if anything is raised, which is told."""
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status)


def exit_as_a_program() -> None:
    """Do what a program does on its way out, which meets the files of the namespace too."""
    atexit._run_exitfuncs()
    sys.stdout.flush()


def end(child: int) -> None:
    """Wait for a child, which has to end well."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status != -signal.SIGALRM, "the child has hung"
    assert status == 0
