"""Source file <-> range of PCs, the same in all processes of a namespace.

The file ``codemap`` is a log that only grows: one line for each new range, ``CRC32 JSON``. A source file, by
its path and the digest of its text, has a PC for each of its lines; what else is a place in it (the entry
of a code object, a branch arm) gets a PC when it is first seen. Whoever needs a range that is not there
appends it under the code map's lock, so all processes have the same.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from . import _recorder, namespace
from .errors import KcovError, log
from .filenames import CODEMAP
from .namespace import Namespace

__all__ = [
    "NO_TEXT", "OTHER_TEXT", "PYTHON_PC_BASE", "CodeMap", "Place", "SourceFile", "get", "is_python",
    "place", "versions",
]  # fmt: skip

# No address of a user-space program or of a kernel has these top bits, with 4 or 5 levels of page tables.
PYTHON_PC_BASE = 0x7079_0000_0000_0000
_END = 0x707A_0000_0000_0000
_FIRST = PYTHON_PC_BASE + 0x1000
# Before the digest of what is no text but a code object.
NO_TEXT = "code:"
# The same of code whose file has another text.
OTHER_TEXT = "gone:"
# How far to skip where a damaged record hides which PCs are taken.
_SKIP = 1 << 24
_FLAGS = os.O_RDWR | os.O_APPEND

Key = tuple[Any, ...]


def is_python(pc: int) -> bool:
    """Tell whether a PC is one of Python code, by its value."""
    return PYTHON_PC_BASE <= pc < _END


class Place(NamedTuple):
    """One place in Python code, or in the kernel: what a PC names."""

    kind: str  # 'line', 'entry', 'arm', 'kernel'
    file: str
    line: int
    function: str
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    arm: str = ""


class SourceFile:
    """The PCs of one version of one source file: ``base + n`` is line n."""

    __slots__ = ("_functions", "_starts", "base", "digest", "name", "nlines", "places")

    def __init__(
        self, name: str, digest: str, base: int, nlines: int, functions: Sequence[tuple[int, str]]
    ) -> None:
        self.name = name
        self.digest = digest
        self.base = base
        self.nlines = nlines
        self._starts = [line for line, _ in functions]
        self._functions = ["<module>", *(function for _, function in functions)]
        self.places: dict[Key, int] = {}

    def function_at(self, line: int) -> str:
        """Return the qualified name of the function whose body has the line."""
        return self._functions[bisect.bisect_right(self._starts, line)]


class CodeMap:
    """The namespace's code map, as far as this process has read it."""

    def __init__(self, space: Namespace) -> None:
        self._namespace = space
        self._fd = space.open(CODEMAP, _FLAGS | os.O_CREAT)
        self._identity = _recorder.identity(self._fd)
        self._read = 0
        self._next = _FIRST
        self._files: dict[tuple[str, str], SourceFile] = {}
        self._by_base: dict[int, SourceFile] = {}
        self._starts: list[int] = []
        self._ranges: list[tuple[int, SourceFile, list[Key] | None]] = []

    def file(
        self, name: str, digest: str, nlines: int, functions: Sequence[tuple[int, str]]
    ) -> SourceFile:
        """Return the range of a source file of ``nlines`` lines, making it if it is new.

        ``functions`` says from which line on it is which function, in order.
        """
        found = self._files.get((name, digest))
        if found is None:
            with self._namespace.codemap_lock:
                self._load()
                found = self._files.get((name, digest))
                if found is None:
                    self._append(
                        {
                            "f": name,
                            "d": digest,
                            "n": nlines + 1,
                            "fn": [list(f) for f in functions],
                        }
                    )
                    found = self._files[name, digest]
        return found

    def places(self, file: SourceFile, keys: Sequence[Key]) -> list[int]:
        """Return the PCs of places in a file, in the order of ``keys``, making those that are new.

        A key is ``(kind, function, line, column, end line, end column, arm)``.
        """
        if not all(key in file.places for key in keys):
            with self._namespace.codemap_lock:
                self._load()
                new = [key for key in dict.fromkeys(keys) if key not in file.places]
                if new:
                    self._append({"of": file.base, "n": len(new), "p": new})
        return [file.places[key] for key in keys]

    def place(self, pc: int) -> Place | None:
        """Return the place that a PC names, None if the map does not have it."""
        if not is_python(pc):
            return None
        found = self._look_up(pc)
        if found is None:
            with self._namespace.codemap_lock:
                self._load()
            found = self._look_up(pc)
        return found

    def _look_up(self, pc: int) -> Place | None:
        found = self._range_of(pc)
        if found is None:
            return None
        offset, file, keys = found
        if keys is None:
            return Place("line", file.name, offset, file.function_at(offset))
        kind, function, line, column, end_line, end_column, arm = keys[offset][:7]
        return Place(kind, file.name, line, function, column, end_line, end_column, arm)

    def _range_of(self, pc: int) -> tuple[int, SourceFile, list[Key] | None] | None:
        """Return which one of a range's PCs it is, the range's file, and its keys unless it is lines."""
        at = bisect.bisect_right(self._starts, pc) - 1
        if at < 0:
            return None
        count, file, keys = self._ranges[at]
        offset = pc - self._starts[at]
        return (offset, file, keys) if offset < count else None

    def versions(self, pcs: Iterable[int]) -> dict[str, list[str]]:
        """Return the digests of the texts that have these PCs, by the names of their files.

        What has no text has no digest; what is of a text that is gone has that of a code object, which no text has.
        """
        ranges = filter(None, map(self._range_of, pcs))
        found = dict.fromkeys(file for _, file, _ in ranges)
        result: dict[str, list[str]] = {}
        for file in found:
            if not file.digest.startswith(NO_TEXT):
                result.setdefault(file.name, []).append(file.digest.removeprefix(OTHER_TEXT))
        return result

    def _append(self, record: dict[str, Any]) -> None:
        """Write one record and take it in. Must be called with the lock held, after _load()."""
        record["b"] = self._next
        text = json.dumps(record, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        fd = self._own_fd()
        end = os.fstat(fd).st_size
        if end > self._read:  # a writer died in the middle of a line
            line = b"\n" + line
        try:
            written = os.write(fd, line)
        except OSError as error:
            written = 0
            log.warning("code map of %s: %s", self._namespace.path, error)
        if written != len(line):
            # No space: this process goes on with PCs that the others will not know.
            os.truncate(self._own_fd(), end)
            self._take(record)
            return
        self._read = end + written
        self._take(record)

    def _own_fd(self) -> int:
        """Return the descriptor, a new one if the program has closed it. Must be called with the lock held.

        Raises KcovError if the file is not there any more: the PCs of another one mean other places.
        """
        if not _recorder.is_same(self._fd, self._identity):
            try:
                self._fd = self._namespace.open_same(CODEMAP, _FLAGS, self._identity)
            except OSError as error:
                cause = "this program has closed its descriptor, and it cannot be had again"
                raise KcovError(
                    error.errno or errno.EIO,
                    f"code map of {self._namespace.path}: {cause}: {error.strerror}",
                ) from None
        return self._fd

    def _load(self) -> None:
        """Take in what other processes have appended. Must be called with the lock held."""
        fd = self._own_fd()
        size = os.fstat(fd).st_size
        if size <= self._read:
            return
        data = os.pread(fd, size - self._read, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if not line:
                continue
            crc, _, text = line.partition(b" ")
            try:
                if int(crc, 16) != zlib.crc32(text):
                    raise ValueError(line[:40])
                self._take(json.loads(text))
            except (ValueError, KeyError, TypeError):
                log.warning("code map of %s: a record is damaged", self._namespace.path)
                self._next += _SKIP

    def _take(self, record: dict[str, Any]) -> None:
        base, count = record["b"], record["n"]
        if base < self._next:
            raise ValueError("ranges overlap")
        keys: list[Key] | None = None
        if "f" in record:
            file = SourceFile(
                record["f"],
                record["d"],
                base,
                count - 1,
                [(int(line), str(function)) for line, function in record["fn"]],
            )
            self._files[record["f"], record["d"]] = file
            self._by_base[base] = file
        else:
            file = self._by_base[record["of"]]
            keys = [tuple(key) for key in record["p"]]
            file.places.update(zip(keys, range(base, base + count), strict=True))
        self._starts.append(base)
        self._ranges.append((count, file, keys))
        self._next = base + count


_current: CodeMap | None = None


def get() -> CodeMap:
    """Return the code map of this process's namespace, opening it the first time."""
    global _current
    if _current is None:
        with namespace.opening:
            if _current is None:
                _current = CodeMap(namespace.get())
    return _current


def place(pc: int) -> Place | None:
    """Return the place that a Python PC names; None if this namespace does not know it."""
    return get().place(pc)


def versions(pcs: Iterable[int]) -> dict[str, list[str]]:
    """Return the digests of the texts that have these PCs, by the names of their files."""
    return get().versions(pcs)
