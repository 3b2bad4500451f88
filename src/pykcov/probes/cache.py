"""Compiled code with placeholders, kept between starts: in the user's cache directory, readable by nobody else.

An entry is a digest, and behind it whose it is and what was kept. It counts if it is whole, if it and its
directory can be written by nobody else, and if the source, the Python and pykcov are what they were. Anything else is
as if it were not there. Entries that nobody has used for a month are removed by who adds one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import time

from .. import _recorder

__all__ = ["directory", "inventory", "load", "store"]

_DIGEST = 32  # bytes
_DAY = 24 * 3600  # seconds
_KEPT = 30 * _DAY
_is_pruned = False
_made_by: list[tuple[int, int]] = []
"""Size and time of the files that decide what is kept, as this process has them."""
_RECIPE = (
    "recipe.py", "insertion.py", "rewrite.py", "nodes.py", "placeholders.py", "sites.py", "source.py", "places.py",
)  # fmt: skip


def directory() -> str:
    """Return where the entries are."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "pykcov", "code")


def inventory() -> tuple[int, int]:
    """Return how many entries there are, and how many bytes they have."""
    with contextlib.suppress(OSError), os.scandir(directory()) as entries:
        sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
        return len(sizes), sum(sizes)
    return 0, 0


def load(path: str, status: os.stat_result, variant: object) -> memoryview | None:
    """Return what was stored for a file of that status, None if there is nothing good."""
    try:
        descriptor = os.open(_entry(path, variant), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not _is_own(found):
                return None
            data = file.read()
            if found.st_mtime < time.time() - _DAY:
                with contextlib.suppress(OSError):  # the file system may be read-only
                    os.utime(descriptor)  # when it was last used, by day
    except OSError:
        return None
    body = memoryview(data)[_DIGEST:]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != data[:_DIGEST]:
        return None
    stamp = _stamp(path, status)
    return body[len(stamp) :] if body[: len(stamp)] == stamp else None


def store(path: str, status: os.stat_result, variant: object, value: bytes) -> None:
    """Keep what belongs to a file of that status. What hinders that is of no account."""
    if sys.dont_write_bytecode:
        return
    with contextlib.suppress(OSError):
        where = directory()
        os.makedirs(where, mode=0o700, exist_ok=True)
        if not _is_own(os.stat(where)):
            return
        body = _stamp(path, status) + value
        target = _entry(path, variant)
        temporary = f"{target}.{os.getpid()}.{os.urandom(4).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # What the program's own standard error writes is not to get into it.
        descriptor = _recorder.lift(os.open(temporary, flags, 0o600))
        try:
            with open(descriptor, "wb") as file:
                file.write(hashlib.blake2b(body, digest_size=_DIGEST).digest() + body)
            os.replace(temporary, target)
        except OSError:
            os.unlink(temporary)
        _prune(where)


def _prune(where: str) -> None:
    """Remove what nobody has used for long: its source is gone, or it was another Python's. Once in a process."""
    global _is_pruned
    if _is_pruned:
        return
    _is_pruned = True
    with os.scandir(where) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - _KEPT:
                    os.unlink(entry)


def _entry(path: str, variant: object) -> str:
    """Return the name of the entry for a file, of this Python and of this pykcov."""
    if not _made_by:
        here = os.path.dirname(__file__)
        found = [os.stat(os.path.join(here, name)) for name in _RECIPE]
        _made_by[:] = [(status.st_size, status.st_mtime_ns) for status in found]
    key = repr((path, sys.version, sys.implementation.cache_tag, _made_by, variant))
    name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return os.path.join(directory(), name)


def _stamp(path: str, status: os.stat_result) -> bytes:
    """Return what an entry has to begin with to be of that file as it is now."""
    return repr((path, status.st_mtime_ns, status.st_size)).encode("utf-8", "surrogateescape")


def _is_own(status: os.stat_result) -> bool:
    """Tell whether a file or directory is this user's, and nobody else can write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
