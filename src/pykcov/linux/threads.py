"""The kernel's work for the sections of this process's threads: collect(kernel=True).

Each thread that has such a section open has a device of the kernel's enabled, whose area the recorder empties into the
thread's task before each event of Python's (_kernel.h). It is the thread's own, so only the thread disables it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .. import _recorder, carry
from ..errors import KcovError, warn
from .device import Device

__all__ = ["Thread", "enabled", "enter", "keep"]

# Words. What the kernel does between two events of Python's has to fit: a call into the standard library, say.
_AREA = 1 << 18


class Thread:
    """The kernel's device of one thread of the operating system."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._number = threading.get_native_id()
        self._sections: set[object] = set()
        self._is_enabled = False
        self._device = Device()
        try:
            self._device.init_trace(_AREA)
            self._words = self._device.mmap()
        except BaseException:
            self._device.close()
            raise

    def __del__(self) -> None:
        # The thread ends, or the process; or this is a forked child's copy of its parent's.
        if "_device" in self.__dict__:
            if self.is_mine():
                self._disable()
            self._device.close()

    def is_mine(self) -> bool:
        """Tell whether the calling thread is the one."""
        return (self._process, self._number) == (os.getpid(), threading.get_native_id())

    def enter(self, section: object) -> None:
        """Collect for a section that begins in this thread. Raises KcovError."""
        if not self._is_enabled:
            self._device.enable()
            self._is_enabled = True
        if not self._sections:
            _recorder.kernel_bind(self._words)
        self._sections.add(section)

    def leave(self, section: object) -> None:
        """Forget a section. Another thread may do that; then this one goes on until its next section ends."""
        self._sections.discard(section)
        if not self._sections and self.is_mine() and not _keeps:
            self._disable()

    def _disable(self) -> None:
        if self._is_enabled:
            self._is_enabled = False
            _recorder.kernel_unbind()
            self._device.disable()


_here = threading.local()


def _this() -> Thread:
    found: Thread | None = getattr(_here, "thread", None)
    if found is None or not found.is_mine():
        found = _here.thread = Thread()
    return found


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """Collect in this thread, for whoever enters meanwhile. Raises KcovError if that is impossible."""
    this, nobody = _this(), object()
    this.enter(nobody)
    try:
        yield
    finally:
        this.leave(nobody)


def keep() -> None:
    """Let threads stay enabled until they end: disabling takes the common handle from a thread that inherited it."""
    global _keeps
    _keeps = True


_keeps = False


def enter(section: object) -> Thread | None:
    """Collect the kernel's work of this thread for a section; None if that is impossible, which is told once."""
    global _is_told
    _install()
    try:
        this = _this()
        this.enter(section)
        return this
    except KcovError as error:
        if not _is_told:
            _is_told = True
            warn(f"the kernel's work is not collected in process {os.getpid()}: {error.strerror}")
        return None


_is_told = False
_is_installed = False


def _install() -> None:
    """Let event loops say where another task goes on: the kernel's stream has no marks."""
    global _is_installed
    if not _is_installed:
        _is_installed = True
        carry.add("asyncio.events", "linux.threads", "install_handles")


def install_handles(events: ModuleType) -> None:
    """Wrap what runs a callback, in the context that the callback has."""
    original = events.Handle._run

    def _run(handle: Any) -> None:
        if not _recorder.kernel_switch():
            return original(handle)  # type: ignore[no-any-return]
        handle._context.run(_recorder.kernel_switch)
        try:
            original(handle)
        finally:
            _recorder.kernel_switch()

    events.Handle._run = _run
