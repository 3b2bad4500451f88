"""Forked children of a test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from pykcov import namespace


def start(body: Callable[[], object], *, leaves: bool = True) -> int:
    """Fork a child that does ``body``; return its pid. A child that hangs is ended by SIGALRM."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        body()
        if leaves:
            namespace.leave()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status)


def end(child: int) -> None:
    """Wait for a child, which has to end well."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status != -signal.SIGALRM, "the child has hung"
    assert status == 0
