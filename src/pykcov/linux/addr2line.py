"""Debug information by the binutils, ``addr2line`` above all: one process for all addresses."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

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
        self._options = ["-j", section] if section else []
        said = self._run(["readelf", "--wide", "--notes", "--sections", path], "")
        self.has_debug_info = " .debug_info " in said
        found = re.search("Build ID: ([0-9a-f]+)", said)
        self.build_id = found[1] if found else ""

    def addresses(self, names: Sequence[str]) -> dict[str, int]:
        """Return the addresses of these symbols, of those that are there."""
        found = {}
        for line in self._run(["nm", self._path], "").splitlines():
            address, _, rest = line.partition(" ")
            name = rest[2:]
            if name in names and address:
                found[name] = int(address, 16)
        return found

    def frames(self, addresses: Sequence[int]) -> Iterator[tuple[Frame, ...]]:
        """Yield the frames of each address, in order; the innermost comes first."""
        if not addresses:
            return
        asked = "".join(f"{address:#x}\n" for address in addresses)
        command = ["addr2line", "-a", "-f", "-i", *self._options, "-e", self._path]
        frames: list[Frame] = []
        lines = iter(self._run(command, asked).splitlines())
        next(lines)  # the first address
        for line in lines:
            if _ADDRESS.fullmatch(line):
                yield tuple(frames)
                frames = []
                continue
            file, number = _place(next(lines))
            if line != "??" or file:
                frames.append(Frame.of(line, file, number))
        yield tuple(frames)

    def _run(self, command: list[str], text: str) -> str:
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


_ADDRESS = re.compile("0x[0-9a-f]{8,16}")


def _place(line: str) -> tuple[str, int]:
    """Read ``file:12``, ``file:12 (discriminator 3)``, ``file:?``, ``??:0``."""
    file, _, rest = line.rpartition(":")
    number = rest.partition(" ")[0]
    return ("" if file == "??" else file), int(number) if number.isdigit() else 0
