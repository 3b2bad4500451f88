"""The namespace's directory and its file ``lock``, as this process has them open: checked, and had again if lost.

The only module that opens shared files: no link is followed, and what is not this user's alone is refused.

A program may close the descriptors of the directory and of ``lock``, and have their numbers for its own files: before
each use they are told by their files (_descriptors.h). With the descriptor of ``lock`` go the bytes that this process
holds: the one that all users share, and the one that tells others that it is alive.
"""

from __future__ import annotations

import errno
import os
import stat
from _thread import RLock

from . import _recorder
from .errors import KcovError
from .filenames import LOCK

__all__ = ["Directory"]

_USERS = 2  # the byte that all users share


def base() -> str:
    """Return the directory of all of this user's namespaces."""
    return f"/dev/shm/pykcov-{os.geteuid()}"


class Directory:
    """One user's directory of shared files."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = base()
        self.path = f"{self.base}/{name}"
        self.dir_fd = self.lock_fd = -1
        # What tells that they still are of these files.
        self.dir_identity = self.lock_identity = b""
        self.alive = 0  # the byte that this process holds
        self.is_lost = False  # they are not ours, and cannot be had again
        self._regaining = RLock()  # whoever opens them again. Nothing else is taken under it

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

    def share(self) -> None:
        """Be one of the users: BlockingIOError if somebody has the directory alone."""
        _recorder.lock_byte(self.lock_fd, _USERS, True)

    def have_alone(self) -> bool:
        """Take the byte that all users share for this process alone; False if there are others."""
        try:
            self.check()
            _recorder.lock_byte(self.lock_fd, _USERS, False)
        except OSError:
            return False
        return True

    def live(self, byte: int) -> None:
        """Take the byte that tells others that this process is alive."""
        _recorder.lock_byte(self.lock_fd, byte, False)
        self.alive = byte

    def take_anew(self, byte: int) -> None:
        """Share and live by a descriptor of a forked child's own: its parent's bytes are shared with the descriptor."""
        self.alive = 0
        self._regaining = RLock()  # the parent's may be held
        fd = self.open(LOCK, os.O_RDWR | os.O_CREAT)
        old = self.lock_fd, self.lock_identity
        self.keep_lock(fd)
        try:
            self.share()
            self.live(byte)
        finally:
            _recorder.close_same(*old)

    def is_held(self, byte: int) -> bool:
        """Tell whether another process lives by this byte. KcovError if it cannot be asked: see regain()."""
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


def _same(fd: int, identity: bytes) -> int:
    """Return a descriptor of the file that has this identity; OSError ESTALE if it is another one's."""
    if not _recorder.is_same(fd, identity):
        os.close(fd)
        raise OSError(errno.ESTALE, "another file is in its place")
    return fd


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
