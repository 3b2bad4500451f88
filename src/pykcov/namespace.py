"""The shared files of one user's namespace: paths, ownership, locks, clean-up.

The only module that opens them. They live in ``/dev/shm/pykcov-UID/NAMESPACE/`` (``PYKCOV_NAMESPACE``,
default ``default``), are the owner's alone, and no link is followed. Locks are the system's
(open-file-description locks on bytes of the file ``lock``), so none survives its owner. Byte 0 is
the registry's lock, byte 1 the code map's, and byte 2 is held shared by every process that uses the namespace:
who gets it alone is the last one, and removes the files. Every process also holds a byte far behind those
that is its own alone: that is how others see that it is alive, and whether it still has a lock
that is a word of shared memory.

A program may close the descriptors of the directory and of ``lock``, and have their numbers for its own files: before
each use they are told by their files (_descriptors.h).
"""

from __future__ import annotations

import atexit
import errno
import mmap
import os
import stat
import time
from _thread import RLock

from . import _recorder, errors, late
from ._recorder import Lock
from .errors import KcovError
from .filenames import LOCK, is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["Lock", "Namespace", "get", "this_process", "words_of"]

BASE = "/dev/shm"
_USERS = 2
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


class Namespace:
    """One user's directory of shared files, open.

    Raises KcovError EPERM if it is not this user's alone, ENOTDIR or ELOOP if something else is in its
    place, EINVAL if the name cannot be one.
    """

    def __init__(self, name: str) -> None:
        if not _is_name(name):
            raise KcovError(
                errno.EINVAL,
                f"namespace: {name!r} cannot be a name: letters, digits, '.', '_', '-', 64 at most",
            )
        self.name = name
        self.base = f"{BASE}/pykcov-{os.geteuid()}"
        self.path = f"{self.base}/{name}"
        self.dir_fd = -1
        self.lock_fd = -1
        # What tells that they still are of these files.
        self.dir_identity = self.lock_identity = b""
        self.alive = 0  # the byte that this process holds
        self.is_lost = False  # they are not ours, and cannot be had again
        self._regaining = RLock()  # whoever opens them again. Nothing else is taken under it
        self._attach()
        self.registry_lock = self.make_lock(0, "registry")
        self.codemap_lock = self.make_lock(1, "code map")

    def _attach(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self.open_directory(make=True)
                self.keep_lock(self.open(LOCK, os.O_RDWR | os.O_CREAT))
                self._share()
                self._live()
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

    def open_directory(self, *, make: bool) -> None:
        """Open the namespace's directory, making it if asked to; FileNotFoundError if it is not there."""
        self.dir_fd = fd = self._find_directory(make=make)
        self.dir_identity = _recorder.identity(fd)

    def _find_directory(self, *, make: bool) -> int:
        base_fd = _own_directory(self.base, self.base, None, make=make)
        try:
            return _own_directory(self.path, self.name, base_fd, make=make)
        finally:
            os.close(base_fd)

    def keep_lock(self, fd: int) -> None:
        """Have this descriptor of the file ``lock`` from now on."""
        self.lock_fd, self.lock_identity = fd, _recorder.identity(fd)

    def check(self) -> None:
        """Make sure that the descriptors are ours, before what could harm others' files: regain() if they are not."""
        if not (
            _recorder.is_same(self.lock_fd, self.lock_identity)
            and _recorder.is_same(self.dir_fd, self.dir_identity)
        ):
            self.regain()

    def regain(self) -> None:
        """Open again what this program has closed, and take the bytes again that were lost with it.

        Raises KcovError if that cannot be: another file is in its place, it is another user's. Who has left, has left.
        """
        with self._regaining:
            if self.lock_fd < 0:
                return
            try:
                if not _recorder.is_same(self.dir_fd, self.dir_identity):
                    self.dir_fd = _same(self._find_directory(make=False), self.dir_identity)
                if not _recorder.is_same(self.lock_fd, self.lock_identity):
                    fd = _same(self._open(LOCK, os.O_RDWR), self.lock_identity)
                    try:
                        if self.alive:
                            _recorder.lock_byte(fd, _USERS, True)
                            _recorder.lock_byte(fd, self.alive, False)
                    except BaseException:
                        os.close(fd)
                        raise
                    self.lock_fd = fd
                self.is_lost = False
            except OSError as error:
                self.is_lost = True
                raise KcovError(
                    error.errno or errno.EIO,
                    f"namespace: {self.path}: this program has closed descriptors that are pykcov's, "
                    f"and they cannot be had again: {error.strerror}",
                ) from None

    def _share(self) -> None:
        _recorder.lock_byte(self.lock_fd, _USERS, True)

    def _have_alone(self) -> bool:
        """Take the byte that all users share; False if there are others."""
        try:
            self.check()
            _recorder.lock_byte(self.lock_fd, _USERS, False)
        except OSError:
            return False
        return True

    def _live(self) -> None:
        """Take the byte that tells others that this process is alive."""
        byte = alive_byte(*this_process())
        _recorder.lock_byte(self.lock_fd, byte, False)
        self.alive = byte

    def is_alive(self, pid: int, started: int) -> bool:
        """Tell whether the process that this_process() named so uses this namespace. A dead one never does."""
        return (pid, started) == this_process() or self.is_held(alive_byte(pid, started))

    def is_held(self, byte: int) -> bool:
        """Tell whether another process holds an alive_byte(). KcovError if it cannot be asked: see regain()."""
        self.check()
        try:
            return _recorder.is_locked(self.lock_fd, byte)
        except OSError:  # this process has left
            return False

    def close(self) -> None:
        """Give up the directory and the locks."""
        fds = (self.lock_fd, self.lock_identity), (self.dir_fd, self.dir_identity)
        # Before: a thread that goes on must not believe that it can have a lock.
        self.lock_fd = self.dir_fd = -1
        self.alive = 0
        for fd, identity in fds:
            _recorder.close_same(fd, identity)

    def leave(self) -> None:
        """Close; the last process that uses the namespace removes its files."""
        try:
            if self._have_alone():
                self._remove_all()
        finally:
            self.close()

    def empty(self) -> list[str]:
        """Remove all files, whatever they are, and return their names; EBUSY if others use them."""
        if not self._have_alone():
            raise KcovError(errno.EBUSY, f"namespace: other processes are using {self.path}")
        removed = [name for name in self.names() if name != LOCK]
        for name in removed:
            self.unlink(name)
        self._share()
        return removed

    def after_fork(self) -> None:
        """Take locks of this process's own: the parent's are shared with the descriptor."""
        self.alive = 0
        self._regaining = RLock()  # the parent's may be held
        fd = self.open(LOCK, os.O_RDWR | os.O_CREAT)
        old = self.lock_fd, self.lock_identity
        self.keep_lock(fd)
        try:
            self._share()
            self._live()
        finally:
            _recorder.close_same(*old)
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

    def open(self, name: str, flags: int) -> int:
        """Open a file of the namespace and return its descriptor; it has to be this user's alone."""
        self.check()
        return self._open(name, flags)

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = _recorder.lift(os.open(name, flags, 0o600, dir_fd=self.dir_fd))
        except FileNotFoundError:
            if flags & os.O_CREAT:
                raise KcovError(errno.ENOENT, f"namespace: {self.path} has been removed") from None
            raise
        except FileExistsError:
            raise
        except OSError as error:
            cause = "is a link" if error.errno == errno.ELOOP else error.strerror
            raise KcovError(
                error.errno or errno.EIO, f"namespace: {self.path}/{name}: {cause}"
            ) from None
        status = os.fstat(fd)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & 0o077
        ):
            os.close(fd)
            raise KcovError(
                errno.EPERM,
                f"namespace: {self.path}/{name} is not a file that is this user's alone",
            )
        return fd

    def open_same(self, name: str, flags: int, identity: bytes) -> int:
        """Open a file again; OSError ESTALE if there is another one of that name."""
        return _same(self.open(name, flags), identity)

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

    def unlink(self, name: str) -> None:
        """Remove a file, if it is there and this process may; it may not if it has become another user."""
        self.check()
        try:
            os.unlink(name, dir_fd=self.dir_fd)
        except (FileNotFoundError, PermissionError):
            pass
        except IsADirectoryError:  # not ours; an empty one goes
            try:
                os.rmdir(name, dir_fd=self.dir_fd)
            except OSError:
                pass

    def rename(self, name: str, new: str) -> None:
        """Give a file another name, of which there is no file."""
        self.check()
        os.rename(name, new, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd)

    def names(self) -> list[str]:
        """Return the names of the namespace's files, sorted."""
        self.check()
        # An open file description of its own: threads that read one directory's share the position.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = _recorder.lift(os.open(".", flags, dir_fd=self.dir_fd))
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

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


def _same(fd: int, identity: bytes) -> int:
    """Return a descriptor of the file that has this identity; OSError ESTALE if it is another one's."""
    if not _recorder.is_same(fd, identity):
        os.close(fd)
        raise OSError(errno.ESTALE, "another file is in its place")
    return fd


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


def _own_directory(path: str, name: str, dir_fd: int | None, *, make: bool) -> int:
    """Open a directory that is this user's alone; with ``make``, make it if it is not there."""
    try:
        if make:
            try:
                os.mkdir(name, 0o700, dir_fd=dir_fd)
            except FileExistsError:
                pass
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = _recorder.lift(os.open(name, flags, dir_fd=dir_fd))
    except FileNotFoundError:
        raise
    except OSError as error:
        is_other = error.errno in (errno.ENOTDIR, errno.ELOOP)
        cause = "is not a directory or is a link" if is_other else error.strerror
        raise KcovError(error.errno or errno.EIO, f"namespace: {path}: {cause}") from None
    status = os.fstat(fd)
    cause = ""
    if status.st_uid != os.geteuid():
        cause = f"belongs to uid {status.st_uid}"
    elif status.st_mode & 0o077:
        cause = f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    if cause:
        os.close(fd)
        raise KcovError(errno.EPERM, f"namespace: {path} {cause}")
    return fd


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
