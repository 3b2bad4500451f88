"""The shared files of one user's namespace: who uses them, locks, clean-up.

They live in ``/dev/shm/pykcov-UID/NAMESPACE/`` (``PYKCOV_NAMESPACE``, default ``default``), which directory.py
keeps open. Locks are the system's (open-file-description locks on bytes of the file ``lock``), so none survives its
owner. Byte 0 is the registry's lock, byte 1 the code map's, and byte 2 is held shared by every process that uses the
namespace: who gets it alone is the last one, and removes the files. Every process also holds a byte far behind those
that is its own alone: that is how others see that it is alive, and whether it still has a lock that is a word of
shared memory.
"""

from __future__ import annotations

import atexit
import errno
import mmap
import os
import time
from _thread import RLock

from . import _recorder, errors, late
from ._recorder import Lock
from .directory import Directory
from .errors import KcovError
from .filenames import LOCK, is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["Lock", "Namespace", "get", "this_process", "words_of"]

# The byte of a process that is alive: this, its pid (22 bits) and its number (40 bits).
_ALIVE = 1 << 62
_STARTED = (1 << 40) - 1
# Seconds that anybody waits for a lock. Its owner may have been stopped, and no worker hangs for that.
_PATIENCE = 2.0


def this_process() -> tuple[int, int]:
    """Return ``(pid, number)``: a pair that no other process of the machine ever has."""
    pid = os.getpid()
    if _identity[0] != pid:
        # ms since 1970, 40 bits: the system gives no pid twice in a millisecond.
        _identity[:] = [pid, time.time_ns() // 1_000_000 & _STARTED]
    return _identity[0], _identity[1]


_identity = [0, 0]


class Namespace(Directory):
    """One user's shared files, and the directory that they are in, open.

    Raises KcovError EPERM if it is not this user's alone, ENOTDIR or ELOOP if something else is in its
    place, EINVAL if the name cannot be one.
    """

    def __init__(self, name: str) -> None:
        if not _is_name(name):
            raise KcovError(
                errno.EINVAL,
                f"namespace: {name!r} cannot be a name: letters, digits, '.', '_', '-', 64 at most",
            )
        super().__init__(name)
        self._attach()
        self.registry_lock = self.make_lock(0, "registry")
        self.codemap_lock = self.make_lock(1, "code map")

    def _attach(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self.open_directory(make=True)
                self.keep_lock(self.open(LOCK, os.O_RDWR | os.O_CREAT))
                self.share()
                self.live(alive_byte(*this_process()))
                # The last one before us may have removed the file between our open and our lock.
                if os.fstat(self.lock_fd).st_nlink:
                    return
            except (FileNotFoundError, KcovError) as error:
                if error.errno != errno.ENOENT:
                    self.close()
                    raise
            except BlockingIOError:  # the last one before us is removing the files
                if time.monotonic() > end:
                    self.close()
                    self.stuck("namespace", "another process")
                time.sleep(0.001)
            except BaseException:
                self.close()
                raise
            self.close()

    def is_alive(self, pid: int, started: int) -> bool:
        """Tell whether the process that this_process() named so uses this namespace. A dead one never does."""
        return (pid, started) == this_process() or self.is_held(alive_byte(pid, started))

    def leave(self) -> None:
        """Close; the last process that uses the namespace removes its files."""
        try:
            if self.have_alone():
                self._remove_all()
        finally:
            self.close()

    def empty(self) -> list[str]:
        """Remove all files, whatever they are, and return their names; EBUSY if others use them."""
        if not self.have_alone():
            raise KcovError(errno.EBUSY, f"namespace: other processes are using {self.path}")
        removed = [name for name in self.names() if name != LOCK]
        for name in removed:
            self.unlink(name)
        self.share()
        return removed

    def after_fork(self) -> None:
        """Take locks of this process's own: the parent's are shared with the descriptor."""
        self.take_anew(alive_byte(*this_process()))
        self.registry_lock = self.make_lock(0, "registry")
        self.codemap_lock = self.make_lock(1, "code map")

    def make_lock(self, where: int | memoryview, what: str) -> Lock:
        """Return a lock on a byte of the file ``lock``, or on a word of shared memory."""
        return Lock(self, where, what, _PATIENCE)

    def stuck(self, what: str, who: str) -> NoReturn:
        """Raise the KcovError ETIMEDOUT of a lock whose holder does not let go of it."""
        raise KcovError(errno.ETIMEDOUT, f"{what}: {who} has kept its lock for {_PATIENCE:.0f} s")

    def unusable(self, what: str, error: int) -> NoReturn:
        """Raise the KcovError of a lock that the system does not give."""
        cause = os.strerror(error)
        if self.lock_fd < 0:
            cause = "this process has left it, or could not open its files when it was forked"
        raise KcovError(error, f"{what}: namespace {self.path}: {cause}")

    def create(self, name: str, size: int) -> mmap.mmap:
        """Make a new file of ``size`` bytes, all of them allocated, and map it.

        A page of shared memory that cannot be had when it is first touched kills the process
        (SIGBUS), hence all at once. Raises KcovError ENOMEM if there is no space.
        """
        try:
            fd = self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            raise KcovError(
                errno.EEXIST, f"namespace: {self.path}/{name} is there already: not by pykcov"
            ) from None
        try:
            os.posix_fallocate(fd, 0, size)
            return _mapped(fd, size)
        except (OSError, OverflowError) as error:
            self.unlink(name)
            cause = error.strerror if isinstance(error, OSError) else error
            raise KcovError(
                errno.ENOMEM, f"namespace: {self.path}/{name}: {size} bytes: {cause}"
            ) from None
        finally:
            os.close(fd)

    def extend(self, name: str, size: int) -> None:
        """Make a file longer, all of it allocated. Raises KcovError ENOMEM if there is no space."""
        fd = self.open(name, os.O_RDWR)
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            raise KcovError(
                errno.ENOMEM, f"namespace: {self.path}/{name}: {size} bytes: {error.strerror}"
            ) from None
        finally:
            os.close(fd)

    def map(self, name: str, at_least: int = 1) -> mmap.mmap:
        """Map a file that is there, all of it. Raises KcovError EUCLEAN if it is too small."""
        fd = self.open(name, os.O_RDWR)
        try:
            size = os.fstat(fd).st_size
            if size < at_least:
                raise self.damaged(name, f"{size} bytes of {at_least}")
            return _mapped(fd, size)
        finally:
            os.close(fd)

    def damaged(self, name: str, cause: str) -> KcovError:
        """Return the error for a file that is not what pykcov wrote."""
        return KcovError(
            errno.EUCLEAN,
            f"namespace: {self.path}/{name} is damaged ({cause}); `pykcov doctor --clean` removes it",
        )

    def _remove_all(self) -> None:
        for name in self.names():
            if name != LOCK and is_own(name):
                self.unlink(name)
        self.unlink(LOCK)
        for path in (self.path, self.base):
            try:
                os.rmdir(path)
            except OSError:
                pass


def _mapped(fd: int, size: int) -> mmap.mmap:
    """Map a file so that no descriptor is kept: an mmap of a file has one, which it closes by its number."""
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _recorder.map_over(mapped, fd)
    return mapped


def words_of(mapped: mmap.mmap) -> memoryview:
    """Return the words (format ``Q``) of a file that is mapped; it may have an end that is none."""
    return memoryview(mapped)[: len(mapped) // 8 * 8].cast("Q")


def alive_byte(pid: int, started: int) -> int:
    """Return the byte of the lock file that a process holds while it lives."""
    return _ALIVE | (pid & 0x3FFFFF) << 40 | (started & _STARTED)


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= 64
        and name[0] not in ".-"
        and name.isascii()
        and all(letter.isalnum() or letter in "._-" for letter in name)
    )


_current: Namespace | None = None
# Held by whoever opens what a process has one of: namespace, registry, code map, pool.
opening = RLock()
_leaving: list[Callable[[], None]] = []
_forked: list[Callable[[], None]] = []


def get() -> Namespace:
    """Return the namespace of this process, opening it the first time."""
    global _current
    if _current is None:
        with opening:
            if _current is None:
                _current = Namespace(
                    late.namespace or os.environ.get("PYKCOV_NAMESPACE") or "default"
                )
    return _current


def current() -> Namespace | None:
    """Return the namespace if this process has opened it."""
    return _current


def warn(text: str) -> None:
    """Give a KcovWarning, as errors.warn() does; of a namespace that is lost for good only the first one."""
    global _lost
    before, _lost = _lost, _current if _current is not None and _current.is_lost else None
    if _lost is None or _lost is not before:
        errors.warn(text)


_lost: Namespace | None = None  # that was told


def at_exit(function: Callable[[], None]) -> None:
    """Call ``function`` before this process leaves the namespace."""
    _leaving.append(function)


def in_child(function: Callable[[], None]) -> None:
    """Call ``function`` in a forked child, after the namespace has become its own."""
    _forked.append(function)


@atexit.register
def leave() -> None:
    """Leave the namespace, at the end of the process; the last process removes its files."""
    global _current
    for function in reversed(_leaving):
        try:
            function()
        except OSError:
            pass
    if _current is not None:
        try:
            _current.leave()
        except OSError:
            pass
        _current = None


def be_seen() -> None:
    """Take again what this process has lost with its descriptors, before it has a child: that would be the last one."""
    if _current is not None:
        try:
            _current.check()
        except OSError:
            pass


def _before_fork() -> None:
    _quiet.__enter__()
    be_seen()


def _after_fork() -> None:
    global opening
    opening = RLock()
    if _current is not None:
        try:
            _current.after_fork()
        except OSError:
            # Without locks of its own it must not use, and not remove, what is its parent's.
            _current.close()
    for function in _forked:
        function()
    _quiet.__exit__()


# Nothing is recorded in a child before it has forgotten what is its parent's.
_quiet = _recorder.Quiet()
os.register_at_fork(
    before=_before_fork, after_in_parent=_quiet.__exit__, after_in_child=_after_fork
)
