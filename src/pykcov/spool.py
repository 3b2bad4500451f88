"""What was taken out of full areas, until somebody reads all of it."""

from __future__ import annotations

import errno
import os

from . import _recorder
from .errors import KcovError

__all__ = ["Spool"]

_IN_MEMORY = 1 << 26  # bytes; what is more goes to unnamed files


class _File:
    """A file without a name. A program may close its descriptor: then what it had is lost, and KcovError says so."""

    __slots__ = ("_fd", "_identity")

    def __init__(self) -> None:
        self._fd, self._identity = -1, b""
        import tempfile  # brings twenty modules that a worker never needs

        with tempfile.TemporaryFile() as file:
            self._fd = _recorder.lift(os.dup(file.fileno()))
        self._identity = _recorder.identity(self._fd)

    def _own_fd(self) -> int:
        if not _recorder.is_same(self._fd, self._identity):
            raise KcovError(
                errno.EBADF,
                "events are lost: this program has closed descriptors that are pykcov's",
            )
        return self._fd

    def write(self, data: bytes, start: int) -> None:
        """Write all of the data from ``start`` on."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self._own_fd(), left, start)
            left, start = left[written:], start + written

    def read(self, size: int) -> bytes:
        """Return that many bytes."""
        found = bytearray()
        while part := os.pread(self._own_fd(), size - len(found), len(found)):
            found += part
        return bytes(found)

    def close(self) -> None:
        """Give the file up."""
        _recorder.close_same(self._fd, self._identity)

    __del__ = close


class Spool:
    """Words, and beside them operands: whoever adds to ``parts`` a pair of both adds to the end.

    One buffer that grows would copy what it has again and again.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self._files: list[_File] = []
        self._written = 0, 0  # bytes of each file that count

    def make_room(self) -> None:
        """Write what is in memory to files if it is much. What breaks this off does no harm."""
        parts = self.parts
        if sum(len(words) + len(operands) for words, operands in parts) < _IN_MEMORY:
            return
        if not self._files:
            self._files = [_File() for _ in self._written]
        count, written = len(parts), []
        for file, start, data in zip(
            self._files, self._written, map(b"".join, zip(*parts, strict=True)), strict=True
        ):
            file.write(data, start)
            written.append(start + len(data))
        words, operands = written
        # Nothing is called in between: no signal handler can raise there. One that has added more meanwhile, or a
        # finalizer that has, leaves it to the next time.
        if self.parts is parts and len(parts) == count:
            self._written = words, operands
            self.parts = []

    def read(self) -> tuple[bytes, bytes]:
        """Return all words and all operands."""
        kept = [b"", b""]
        for i, file in enumerate(self._files):
            kept[i] = file.read(self._written[i])
        parts = self.parts
        return (
            b"".join([kept[0], *(words for words, _ in parts)]),
            b"".join([kept[1], *(operands for _, operands in parts)]),
        )

    def close(self) -> None:
        """Forget all."""
        self.parts = []
        for file in self._files:
            file.close()
