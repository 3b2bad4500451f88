"""Any program under the kernel's kcov: fork, enable, exec. The program stays enabled, and does not notice.

The area is the program's and ours. The kernel adds to it while we read, so it is only emptied while the
program is stopped. That happens when it is half full, and when so much has come at once that the program could fill
it while we are at work on that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import KcovError
from .background import Background
from .child import Signals
from .device import Device

__all__ = ["Command", "Remote"]

_LOOK_EVERY = 0.01  # seconds


class Remote(NamedTuple):
    """What to collect of the kernel's background threads."""

    handles: tuple[int, ...] = ()
    common: bool = False  # also what works for the program, by a common handle that it inherits


class Command:
    """One program, started under kcov. ``lost``: how often the area was found full."""

    def __init__(self, arguments: Sequence[str], size: int, remote: Remote | None = None) -> None:
        """Start ``arguments`` (the first is a path); ``size`` is that of the areas, in words.

        Raises KcovError if kcov cannot be used, or if the program cannot be executed.
        """
        self.lost = 0
        self.status = 0  # as subprocess has it: negative for a signal
        self._seen = 0
        with contextlib.ExitStack() as opened:
            self._device = opened.enter_context(Device())
            self._device.init_trace(size)
            self._words = self._device.mmap()
            self._remote = opened.enter_context(Device()) if remote is not None else None
            if self._remote is not None and remote is not None:
                self._remote.init_trace(size)
                self._remote_words = self._remote.mmap()
                self._remote.remote_enable(
                    area_size=size,
                    handles=remote.handles,
                    # Never a number that anybody would choose by hand.
                    common_handle=int.from_bytes(os.urandom(4), "little") | 1 << 31
                    if remote.common
                    else 0,
                )
            self._start(list(arguments))
            self._close = opened.pop_all().close

    def _start(self, arguments: list[str]) -> None:
        told, tell = os.pipe()
        self._signals = Signals()
        self._pid = self._signals.pid = os.fork()
        if not self._pid:
            self._become(arguments, tell)
        os.close(tell)
        with open(told, "rb") as file:
            failure = file.read().decode("utf-8", "replace")
        if failure:
            os.waitpid(self._pid, 0)
            self._signals.restore()
            code, _, text = failure.partition(" ")
            raise KcovError(int(code), text)
        self._ended = os.pidfd_open(self._pid)

    def _become(self, arguments: list[str], tell: int) -> None:
        """Be the program, in the child."""
        try:
            self._signals.restore()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores them
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            self._device.enable()
            self._words[0] = 0
            os.execv(arguments[0], arguments)
        except KcovError as error:
            failure = f"{error.errno} {error.strerror}"
        except OSError as error:
            failure = f"{error.errno} {arguments[0]}: {error.strerror}"
        finally:
            os.write(tell, failure.encode())
            os._exit(127)

    def parts(self) -> Iterator[Sequence[int]]:
        """Yield the program's PCs, in parts, until it ends; then ``status`` is set. To be read once."""
        try:
            poll = select.poll()
            poll.register(self._ended, select.POLLIN)
            while not poll.poll(_LOOK_EVERY * 1000):
                count, size = self._words[0], len(self._words)
                if count > size // 2 or count - self._seen > size // 16:
                    with self._stopped():
                        yield self._read()
                        self._words[0] = self._seen = 0
                else:
                    yield self._read(live=True)
            # Not reaped before: until then the number is the program's.
            yield self._read()
            self.status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        finally:
            os.close(self._ended)
            self._signals.restore()

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        """Stop the program meanwhile."""
        os.kill(self._pid, signal.SIGSTOP)
        # It may have ended instead; it is left to be waited for.
        os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def _read(self, *, live: bool = False) -> Sequence[int]:
        count = min(self._words[0], len(self._words) - 1)
        if count == len(self._words) - 1:
            self.lost += not live
        elif live:  # the kernel counts a PC before it stores it
            count -= 1
        new = self._words[self._seen + 1 : count + 1].tolist() if count > self._seen else []
        self._seen = max(count, self._seen)
        return new

    def remote_parts(self) -> Iterator[Sequence[int]]:
        """Yield what the kernel's background threads did, when no more of it arrives; close all."""
        if self._remote is not None:
            pcs, lost = Background(self._remote_words, 0).take(settled=True)
            self.lost += lost
            yield pcs
            self._remote.disable()
        self._close()
