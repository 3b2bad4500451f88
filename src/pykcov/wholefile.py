"""A file that is written whole or not at all: beside its place first, then renamed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from . import _recorder
from .errors import KcovError

__all__ = ["check_writable", "failed", "is_stream", "replacing", "temporary"]


@contextmanager
def replacing(name: str) -> Iterator[BinaryIO]:
    """Give a file that takes the place of ``name`` when all went well.

    A pipe or a device is never replaced, but written to. OSError of the system.
    """
    if is_stream(name):
        with open(name, "wb") as file:
            yield file
        return
    with temporary(name) as (descriptor, _):
        with open(descriptor, "wb", closefd=False) as file:
            yield file


@contextmanager
def temporary(name: str) -> Iterator[tuple[int, str]]:
    """Make a new file, as the umask has it, that is renamed to ``name`` when all went well.

    Gives its descriptor and its own name. The mode of a file that is replaced is kept, and so is a
    link to it.
    """
    target = os.path.realpath(name)
    with _beside(target) as (descriptor, path):
        yield descriptor, path
        if os.path.exists(target):
            os.fchmod(descriptor, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(path, target)


def check_writable(name: str, call: str) -> None:
    """Find out whether it can work at all, before work depends on it. KcovError if not."""
    try:
        if os.path.isdir(name):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not is_stream(name):
            with _beside(os.path.realpath(name)):
                pass
    except OSError as error:
        raise failed(call, name, error) from error


def failed(call: str, name: str, error: OSError) -> KcovError:
    """Return the KcovError that says that ``call`` failed for the file ``name``, and why."""
    number = error.errno or errno.EIO
    return KcovError(number, f"{call}: {name}: {error.strerror or os.strerror(number)}")


def is_stream(name: str) -> bool:
    """Tell whether ``name`` is there and is a pipe or a device: nothing to be replaced."""
    return os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)


@contextmanager
def _beside(target: str) -> Iterator[tuple[int, str]]:
    path = f"{target}.{os.urandom(4).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # What the program's own standard error writes is not to get into it.
    descriptor = _recorder.lift(os.open(path, flags, 0o666))
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        if os.path.lexists(path):  # it was not renamed
            os.unlink(path)
