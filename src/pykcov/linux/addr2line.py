"""Debug information by the binutils, ``addr2line`` above all.

Many addresses are one process, which ends. Single ones are asked of a process that stays, for opening a
kernel takes longer than all the rest.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from ..errors import KcovError
from .frames import Frame

__all__ = ["Addr2line", "is_there"]

_TOOLS = ("addr2line", "nm", "readelf")


def is_there() -> bool:
    """Tell whether the tools are installed."""
    return all(map(shutil.which, _TOOLS))


class Addr2line:
    """The debug information of one file; with ``section``, addresses are offsets in that section."""

    def __init__(self, path: str, section: str = "") -> None:
        self._path = path
        where = ["-j", section] if section else []
        self._command = ["addr2line", "-a", "-f", "-i", *where, "-e", path]
        self._server: _Server | None = None
        self._lock = threading.Lock()  # guards the server: an answer is its asker's
        said = _run(["readelf", "--wide", "--notes", "--sections", path])
        self.has_debug_info = " .debug_info " in said
        found = re.search("Build ID: ([0-9a-f]+)", said)
        self.build_id = found[1] if found else ""

    def addresses(self, names: Sequence[str]) -> dict[str, int]:
        """Return the addresses of these symbols, of those that are there."""
        found = {}
        for line in _run(["nm", self._path]).splitlines():
            address, _, rest = line.partition(" ")
            name = rest[2:]
            if name in names and address:
                found[name] = int(address, 16)
        return found

    def frames(self, addresses: Sequence[int]) -> Iterator[tuple[Frame, ...]]:
        """Yield the frames of each address, in order; the innermost comes first."""
        if len(addresses) == 1:
            yield self._one(addresses[0])
        elif addresses:
            asked = "".join(f"{address:#x}\n" for address in addresses)
            lines = iter(_run(self._command, asked).splitlines())
            next(lines)  # the first address
            for _ in addresses:
                yield _answer(lines)

    def _one(self, address: int) -> tuple[Frame, ...]:
        with self._lock:
            # A forked child would share its parent's.
            if self._server is None or self._server.process != os.getpid():
                self._server = _Server(self._command)
            return self._server.ask(address)


class _Server:
    """A process of addr2line that answers as it is asked, for as long as this object lives."""

    def __init__(self, command: list[str]) -> None:
        self.process = os.getpid()
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        self._to, self._from = child.stdin, child.stdout
        weakref.finalize(self, _end, child, self.process)

    def ask(self, address: int) -> tuple[Frame, ...]:
        # Two are asked, so that the answer to the first has an end.
        try:
            self._to.write(f"{address:#x}\n{_NOWHERE:#x}\n")
            self._to.flush()
        except OSError as error:
            raise KcovError(errno.EPIPE, f"addr2line has ended: {error.strerror}") from None
        lines = _lines(self._from)
        next(lines, "")
        frames = _answer(lines)
        for _ in range(2):  # ?? and ??:0
            next(lines, "")
        return frames


def _end(child: subprocess.Popen[str], process: int) -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    if process == os.getpid():
        child.wait()  # it ends with its input
    else:
        child.returncode = 0  # a forked child's copy: it is the parent's


def _lines(stream: IO[str]) -> Iterator[str]:
    for line in stream:
        yield line.rstrip("\n")


def _answer(lines: Iterable[str]) -> tuple[Frame, ...]:
    """Read what is said of one address, and the address that comes next, if there is one."""
    frames = []
    lines = iter(lines)
    for line in lines:
        if _ADDRESS.fullmatch(line):
            break
        file, number = _place(next(lines))
        if line != "??" or file:
            frames.append(Frame.of(line, file, number))
    return tuple(frames)


_ADDRESS = re.compile("0x[0-9a-f]{8,16}")
_NOWHERE = 0


def _place(line: str) -> tuple[str, int]:
    """Read ``file:12``, ``file:12 (discriminator 3)``, ``file:?``, ``??:0``."""
    file, _, rest = line.rpartition(":")
    number = rest.partition(" ")[0]
    return ("" if file == "??" else file), int(number) if number.isdigit() else 0


def _run(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, check=True, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip
    except OSError as error:
        raise KcovError(error.errno or errno.EIO, f"{command[0]}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise KcovError(errno.EINVAL, said[-1]) from None
    return done.stdout
