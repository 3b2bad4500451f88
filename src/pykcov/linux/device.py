"""The kernel's device: the verbs of ``device.py``, asked of ``/sys/kernel/debug/kcov``.

The kernel has the states and makes the checks; here is what its answers most likely mean. Its task is a
thread of the operating system, not a context.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from errno import EBADF, EINVAL
from typing import Self

from .. import _recorder, abi
from ..closing import Closing
from ..errors import KcovError, integer
from ..task import quietly
from . import causes

__all__ = ["PATH", "Device"]

PATH = "/sys/kernel/debug/kcov"

# By the C library: fcntl.ioctl takes no argument above 2^31 - 1, and mmap.mmap asks for the size of the file, which
# debugfs says is 0.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int]
_libc.mmap.argtypes += [ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FAILED = ctypes.c_void_p(-1).value
_PROT_NONE = 0


class Device(Closing):
    """One open file of the kernel's kcov.

    Words are 64 bits. Every verb raises KcovError with the errno that the kernel gave; EBADF once it is closed.
    ``enable`` and ``remote_enable`` bind it to the calling thread, until that calls ``disable`` or ends.
    Use it in a ``with`` statement: its end closes.
    """

    @quietly
    def __init__(self, path: str | os.PathLike[str] = PATH) -> None:
        self._fd = -1
        try:
            fd = _recorder.lift(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            code = error.errno or EINVAL
            cause = causes.of_open(code, os.fspath(path))
            raise KcovError(code, f"open {os.fspath(path)}: {cause}") from None
        self._own(fd, 0)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Return the device of a descriptor that is open, and own it: its end closes the descriptor.

        So a process that may not open the device can use one that was opened for it: inherited, or received
        through a socket. Errors: EBADF no such descriptor.
        """
        fd = integer("from_fd", "fd", fd)
        try:
            os.fstat(fd)
        except OSError as error:
            raise KcovError(EBADF, f"from_fd: descriptor {fd} is not open") from error
        self = cls.__new__(cls)
        self._own(fd, None)
        return self

    def _own(self, fd: int, size: int | None) -> None:
        self._fd = fd
        self._identity = _recorder.identity(
            fd
        )  # a program may close it, and have the number for another file
        self._size = size  # words, 0 before init_trace, None if another process may have made that
        self._owner: tuple[int, int] | None = None  # process and thread that enabled it through us

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}: {self._state()}"
        return f"<pykcov.linux.Device {state}>"

    # -- the verbs

    @quietly
    def init_trace(self, size: int) -> None:
        """Set the size of the area: ``size`` words, 2 ... 2^31/8 - 1; it can be mapped if it is whole pages.

        Errors: EINVAL bad size, EBUSY already set, ENOMEM. Source: KCOV_INIT_TRACE.
        """
        call = "init_trace"
        size = _u64(call, "size", size)
        self._ask(
            call,
            abi.KCOV_INIT_TRACE,
            size,
            lambda code: causes.of_init_trace(code, size),
        )
        self._size = size

    @quietly
    def mmap(self, length: int | None = None, offset: int = 0) -> memoryview:
        """Return the area as a writable memoryview of its words (format ``Q``).

        Word 0 is the count. All calls show the same memory, which outlives the device. ``length`` in bytes has
        to be that of the area, and may only be left out where this object set it; ``offset`` is 0.
        Errors: EINVAL otherwise, before init_trace, and for a size that is not whole pages.
        """
        call = "mmap"
        self._check_open(call)
        if length is None:
            length = 8 * (self._size or 0)
        pages = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
        address = _libc.mmap(None, length, protection, flags, self._fd, offset)
        if address == _MAP_FAILED:
            code = ctypes.get_errno()
            raise KcovError(code, f"{call}: {causes.of_mmap(code, length, offset, self._size)}")
        words = (ctypes.c_uint64 * (pages // 8)).from_address(address)
        # The view holds `words`: the memory is there until the last view is gone.
        weakref.finalize(words, _libc.munmap, address, pages).atexit = False
        return memoryview(words).cast("B").cast("Q")

    @quietly
    def enable(self, mode: int = abi.TRACE_PC) -> None:
        """Collect what the kernel does for the calling thread, straight into the area.

        The end of this call and the beginning of ``disable`` are in the area too: store 0 in word 0 when it
        returns, and read the count before ``disable``.
        Errors: EINVAL not after init_trace, enabled already, or no such mode; EBUSY this thread has enabled
        another device; 524 TRACE_CMP is not built in. Source: KCOV_ENABLE.
        """
        call = "enable"
        mode = _u64(call, "mode", mode)
        owner = os.getpid(), threading.get_native_id()
        self._ask(
            call,
            abi.KCOV_ENABLE,
            mode,
            lambda code: causes.of_enable(code, mode, self._not_ready()),
        )
        self._owner = owner

    @quietly
    def remote_enable(
        self,
        *,
        trace_mode: int = abi.TRACE_PC,
        area_size: int,
        handles: Iterable[int] = (),
        common_handle: int = 0,
    ) -> None:
        """Collect from the kernel's sections with one of the handles; they arrive when they end.

        Each section records into an area of ``area_size`` words of its own. ``common_handle`` (0: none) becomes the
        calling thread's, and is inherited by the threads and processes that it creates.
        Errors, and then nothing stays registered: EINVAL not after init_trace, enabled already, no such mode,
        more than 0x100 handles, a handle that is not a subsystem's, a common handle that is not 32 bits; EBUSY
        this thread has enabled another device; EEXIST a handle is in use; 524 TRACE_CMP is not built in.
        Source: KCOV_REMOTE_ENABLE.
        """
        call = "remote_enable"
        self._check_open(call)
        asked = tuple(_u64(call, "handle", handle) for handle in handles)
        common_handle = _u64(call, "common_handle", common_handle)
        integer(call, "trace_mode", trace_mode)
        integer(call, "area_size", area_size)
        try:
            arg = abi.pack_remote_arg(trace_mode, area_size, asked, common_handle)
        except KcovError:
            raise KcovError(
                EINVAL, f"{call}: trace_mode {trace_mode}, area_size {area_size}: 32 bits each"
            ) from None
        self._remote_enable(call, arg)

    @quietly
    def disable(self, arg: int = 0) -> None:
        """Stop collecting: the handles are free again, the area keeps what it has.

        Sections that are open are lost. Errors: EINVAL if another thread enabled the device, or none,
        or ``arg`` is not 0. Source: KCOV_DISABLE.
        """
        call = "disable"
        arg = _u64(call, "argument", arg)
        # Nothing is asked before: the kernel still records this thread.
        self._ask(
            call,
            abi.KCOV_DISABLE,
            arg,
            lambda code: causes.of_disable(code, arg, self._state()),
        )
        self._owner = None

    @quietly
    def ioctl(self, request: int, arg: int | bytes | bytearray | memoryview = 0) -> int:
        """Make the kernel's request of that number; return 0.

        ``arg`` is a number, or for KCOV_REMOTE_ENABLE the bytes of ``struct kcov_remote_arg``.
        Errors: the verb's, ENOTTY no such request, EFAULT bytes that end too early.
        """
        call = "ioctl"
        self._check_open(call)
        request = integer(call, "request", request)
        if request == abi.KCOV_REMOTE_ENABLE and not isinstance(arg, int):
            self._remote_enable(call, bytes(arg))
        elif request == abi.KCOV_INIT_TRACE:
            self.init_trace(integer(call, "size", arg))
        elif request == abi.KCOV_ENABLE:
            self.enable(integer(call, "mode", arg))
        elif request == abi.KCOV_DISABLE:
            self.disable(integer(call, "argument", arg))
        else:
            number = _u64(call, "request", request)
            self._ask(call, number, _u64(call, "argument", arg), causes.of_request)
        return 0

    @quietly
    def close(self) -> None:
        """Close the device. Closing twice is fine.

        A thread that has it enabled goes on collecting into the area until it ends; nothing can disable it any more.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _recorder.close_same(fd, self._identity)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._fd < 0

    def fileno(self) -> int:
        """Return the descriptor, to hand it over. Errors: EBADF."""
        self._check_open("fileno")
        return self._fd

    # -- the kernel is asked

    def _check_open(self, call: str) -> None:
        if self.closed:
            raise KcovError(EBADF, f"{call}: the device is closed")

    def _ask(self, call: str, request: int, arg: int, cause: Callable[[int], str]) -> None:
        """Make a request. Raises KcovError with the kernel's errno and what ``cause`` says of it."""
        self._check_open(call)
        if _libc.ioctl(self._fd, request, arg):
            code = ctypes.get_errno()
            raise KcovError(code, f"{call}: {cause(code)}")

    def _remote_enable(self, call: str, arg: bytes) -> None:
        owner = os.getpid(), threading.get_native_id()
        # The bytes end where memory begins that nobody may read: so the kernel says itself if they are too few.
        room = -(-len(arg) // mmap.PAGESIZE) * mmap.PAGESIZE
        with mmap.mmap(-1, room + mmap.PAGESIZE) as pages:
            pages[room - len(arg) : room] = arg
            end = room + ctypes.addressof(ctypes.c_char.from_buffer(pages))
            if _libc.mprotect(end, mmap.PAGESIZE, _PROT_NONE):
                raise KcovError(ctypes.get_errno(), f"{call}: no memory for the argument")
            self._ask(
                call,
                abi.KCOV_REMOTE_ENABLE,
                end - len(arg),
                lambda code: causes.of_remote_enable(code, arg, self._not_ready()),
            )
        self._owner = owner

    # -- what this process knows of the state, for the text of an error

    def _is_owned(self) -> bool:
        """Tell whether who enabled the device, through this object, is alive."""
        return self._owner is not None and os.path.exists("/proc/{}/task/{}".format(*self._owner))

    def _not_ready(self) -> str:
        """Return why the device cannot be enabled; '' if this process knows no reason."""
        return self._state() if self._is_owned() or self._size == 0 else ""

    def _state(self) -> str:
        if self._owner is not None and self._is_owned():
            pid, tid = self._owner
            process = "" if pid == os.getpid() else f" of process {pid}"
            return f"it is enabled by thread {tid}{process}"
        return "init_trace comes first" if self._size == 0 else "it is not enabled"


def _u64(call: str, what: str, value: object) -> int:
    """Check a number that the kernel takes as 64 bits, with a sign or without."""
    number = integer(call, what, value)
    if not -(1 << 63) <= number < 1 << 64:
        raise KcovError(EINVAL, f"{call}: {what} {number} does not fit in 64 bits")
    return number % (1 << 64)
