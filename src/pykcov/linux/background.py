"""The kernel's remote sections for one collection: what its background threads do for the program, or for a bus.

A thread can have one device of the kernel's (until Linux 7.2), and one that is collected has it. So another thread
owns this one. A common handle is inherited from the owner, and no thread can be made the heir of another: then the
owner is a process around the program.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from collections.abc import Sequence

from .. import abi
from ..errors import KcovError
from . import threads
from .child import Signals, end_as
from .device import Device

__all__ = ["Background", "around", "of_handles"]

_AREA = 1 << 20  # words
# Coverage arrives when a section ends: until nothing has come for so long, but not for ever. Seconds.
_QUIET = 0.1
_PATIENCE = 5.0


class Background:
    """An area that the kernel moves its remote sections to, and what of that was taken."""

    def __init__(self, words: memoryview, handle: int) -> None:
        self.handle = handle  # what its PCs are recorded for
        self.began_ns = time.monotonic_ns()
        self._words = words
        self._taken = 0

    def take(self, *, settled: bool = False) -> tuple[list[int], int]:
        """Return the PCs that are new, and how many times the area was found full, which loses the others.

        With ``settled`` what is under way is waited for.
        """
        words, deadline = self._words, time.monotonic() + _PATIENCE
        count = words[0]
        while settled and time.monotonic() < deadline:
            time.sleep(_QUIET)
            if words[0] == count:
                break
            count = words[0]
        count = min(count, len(words) - 1)
        new = words[self._taken + 1 : count + 1].tolist()
        self._taken = count
        return new, int(settled and count == len(words) - 1)

    def close(self) -> None:
        """Stop, if the owner is a thread of this process."""


class _InThread(Background):
    """Owned by a thread of this process."""

    def __init__(self, handles: Sequence[int]) -> None:
        device = Device()
        try:
            device.init_trace(_AREA)
            super().__init__(device.mmap(), handles[0])
        except BaseException:
            device.close()
            raise
        self._error: KcovError | None = None
        self._is_begun, self._is_over, self._is_done = (_thread.allocate_lock() for _ in range(3))
        for lock in (self._is_begun, self._is_over, self._is_done):
            lock.acquire()
        # Not by threading: it is none of the program's threads, and inherits nothing.
        _thread.start_new_thread(self._own, (device, handles))
        self._is_begun.acquire()
        if self._error is not None:
            raise self._error

    def _own(self, device: Device, handles: Sequence[int]) -> None:
        try:
            with device:
                device.remote_enable(area_size=_AREA, handles=handles)
                self._is_begun.release()
                self._is_over.acquire()
                device.disable()
        except KcovError as error:
            self._error = error
            self._is_begun.release()
        self._is_done.release()

    def close(self) -> None:
        self._is_over.release()
        self._is_done.acquire()


def of_handles(handles: Sequence[int]) -> Background | None:
    """Collect the kernel's sections with those of ``handles`` that are its own, a USB bus's; None if there are none.

    Raises KcovError.
    """
    own = tuple(handle for handle in handles if _is_of_usb(handle))
    return _InThread(own) if own else None


def _is_of_usb(handle: int) -> bool:
    return handle & ~abi.INSTANCE_MASK == abi.SUBSYSTEM_USB


def around() -> Background:
    """Go on as a child of this process, which stays to own a device with a common handle that the child inherits.

    Returns in the child only; this process ends as the child does. Raises KcovError before there is a child. Must be
    called while this is the only thread.
    """
    handle = int.from_bytes(os.urandom(4), "little") | 1 << 31  # nobody would choose that by hand
    with Device() as device:
        device.init_trace(_AREA)
        words = device.mmap()
        device.remote_enable(area_size=_AREA, common_handle=handle)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        signals = Signals()
        pid = signals.pid = os.fork()
        if pid:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            signals.restore()
            os._exit(end_as(status))
    signals.restore()
    threads.keep()
    return Background(words, handle)
