"""What was taken out of full areas, until somebody reads all of it."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["Spool"]

_IN_MEMORY = 1 << 26  # bytes; what is more goes to unnamed files


class Spool:
    """Words, and beside them operands: whoever adds to ``parts`` a pair of both adds to the end.

    One buffer that grows would copy what it has again and again.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self._files: list[BinaryIO] = []
        self._written = 0, 0  # bytes of each file that count

    def make_room(self) -> None:
        """Write what is in memory to files if it is much. What breaks this off does no harm."""
        parts = self.parts
        if sum(len(words) + len(operands) for words, operands in parts) < _IN_MEMORY:
            return
        if not self._files:
            import tempfile  # brings twenty modules that a worker never needs

            self._files = [tempfile.TemporaryFile() for _ in self._written]  # noqa: SIM115
        written = []
        for file, start, data in zip(
            self._files, self._written, map(b"".join, zip(*parts, strict=True)), strict=True
        ):
            file.seek(start)
            written.append(start + file.write(data))
        words, operands = written
        # Nothing is called in between: no signal handler can raise there.
        self._written = words, operands
        self.parts = []

    def read(self) -> tuple[bytes, bytes]:
        """Return all words and all operands."""
        kept = [b"", b""]
        for i, file in enumerate(self._files):
            file.seek(0)
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
