"""A child that is the program: its parent passes signals on, waits, and ends as it did."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from types import FrameType

__all__ = ["Signals", "end_as"]

# The terminal sends these to the program as well.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """What this process does with signals while ``pid`` runs: the terminal's are ignored, others passed on."""

    def __init__(self) -> None:
        self.pid = 0
        self._before = {n: signal.getsignal(n) for n in (*_FROM_TERMINAL, *_PASSED_ON)}
        for number in _FROM_TERMINAL:
            signal.signal(number, signal.SIG_IGN)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def restore(self) -> None:
        """Go back to what was before; also in the child."""
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)


def end_as(status: int) -> int:
    """Return the exit status of a child, as subprocess has it; if a signal ended the child, end by the same one."""
    if status >= 0:
        return status
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one is enough
    with contextlib.suppress(OSError):  # nobody can handle SIGKILL
        signal.signal(-status, signal.SIG_DFL)
    if sys.stdout is not None:
        sys.stdout.flush()
    os.kill(os.getpid(), -status)
    return 128 - status
