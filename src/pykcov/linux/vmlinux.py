"""Kernel PC -> function, file, line and inlined frames.

Function names are the running kernel's (kallsyms.py). Files and lines are in the debug information of its vmlinux, if
that can be found, read by ``addr2line`` where it is installed and else by pyelftools. A PC of kcov is the address
that its call returns to, so what is looked up is the address before.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..codemap import Place
from ..errors import KcovError
from . import addr2line, kallsyms, modules
from .frames import Frame

if TYPE_CHECKING:
    from .dwarf import Dwarf

__all__ = ["Vmlinux", "checked", "find", "place", "places", "symbols"]

log = logging.getLogger("pykcov")

VARIABLE = "PYKCOV_VMLINUX"
_NOTES = "/sys/kernel/notes"
# Where distributions, `make install` and debuginfod's users put it.
_USUAL = (
    "/usr/lib/debug/boot/vmlinux-{0}",
    "/usr/lib/debug/lib/modules/{0}/vmlinux",
    "/usr/lib/debug/usr/lib/modules/{0}/vmlinux",
    "/lib/modules/{0}/build/vmlinux",
    "/boot/vmlinux-{0}",
)


class Vmlinux:
    """The debug information of a kernel, by the PCs of its kcov; what was looked up once is kept."""

    def __init__(self, path: str | os.PathLike[str], *, reader: str = "") -> None:
        """Open ``path``, a vmlinux with debug information; ``reader`` is 'addr2line' or 'pyelftools'.

        By default addr2line if it is installed: it is the faster one for a whole trace. Raises KcovError EINVAL
        for a file that has no debug information, ENOPKG if there is no reader, else the system's errno.
        """
        self.path = os.fspath(path)
        _check_elf(self.path)
        self.reader = reader or _choose()
        self._debug = _read_with(self.reader, self.path)
        if not self._debug.has_debug_info:
            raise KcovError(errno.EINVAL, f"{self.path}: it has no debug information")
        at = self._debug.addresses(("_text", "start_kernel"))
        self.linked_at = at.get("_text")
        self.root = ""
        self._known: dict[int, tuple[Frame, ...]] = {}
        # Where the sources were: init/main.c has start_kernel.
        for frame in self.frames(at["start_kernel"] + 1) if "start_kernel" in at else ():
            self.root = frame.file.removesuffix("init/main.c")
        self._known.clear()

    @property
    def build_id(self) -> str:
        """The build ID, in hexadecimal; '' for none."""
        return self._debug.build_id

    def frames(self, pc: int) -> tuple[Frame, ...]:
        """Return the functions that ``pc`` is in, the innermost inlined one first; () for none."""
        return self.resolve((pc,))[pc]

    def resolve(self, pcs: Iterable[int]) -> Mapping[int, tuple[Frame, ...]]:
        """Return ``frames(pc)`` of each distinct PC of a trace; looks all that are new up at once."""
        distinct = set(pcs)
        new = sorted(distinct.difference(self._known))
        for pc, frames in zip(new, self._debug.frames([pc - 1 for pc in new]), strict=True):
            self._known[pc] = tuple(
                frame._replace(file=frame.file.removeprefix(self.root)) for frame in frames
            )
        return {pc: self._known[pc] for pc in distinct}


def _check_elf(path: str) -> None:
    try:
        with open(path, "rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
    except OSError as error:
        raise KcovError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None
    if not is_elf:
        raise KcovError(errno.EINVAL, f"{path}: not an ELF file")


def _choose() -> str:
    from importlib.util import find_spec

    if addr2line.is_there():
        return "addr2line"
    if find_spec("elftools") is not None:
        return "pyelftools"
    raise KcovError(
        errno.ENOPKG, "lines of the kernel need addr2line (binutils), or pip install pykcov[kernel]"
    )


def _read_with(reader: str, path: str) -> addr2line.Addr2line | Dwarf:
    if reader == "addr2line":
        return addr2line.Addr2line(path)
    from .dwarf import Dwarf

    return Dwarf(path)


# ----------------------------------------------------------------------------------- this kernel's


@functools.cache
def find() -> Vmlinux | None:
    """Return the debug information of the running kernel; None if it is not on this machine.

    The environment's PYKCOV_VMLINUX names the file. Then KcovError if it cannot be used: EINVAL if it is of another
    kernel or has no debug information, else the system's errno.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return checked(Vmlinux(named))
    release = os.uname().release
    for path in (pattern.format(release) for pattern in _USUAL):
        if not os.path.exists(path):
            continue
        try:
            return checked(Vmlinux(path))
        except KcovError as error:
            log.debug("%s", error)
    return None


def checked(vmlinux: Vmlinux) -> Vmlinux:
    """Return ``vmlinux``; KcovError EINVAL if its build ID is not that of the running kernel."""
    try:
        with open(_NOTES, "rb") as file:
            running = _build_id(file.read())
    except OSError:  # a kernel without notes cannot be told from another
        running = ""
    wanted = vmlinux.build_id
    if running and wanted and running != wanted:
        raise KcovError(errno.EINVAL, f"{vmlinux.path}: it is not of the running kernel")
    return vmlinux


def _build_id(notes: bytes) -> str:
    """Return the build ID among ELF notes, in hexadecimal; '' if there is none."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("=III", notes, at)
        at += 12
        name = notes[at : at + name_size].rstrip(b"\0")
        at += -(-name_size // 4) * 4
        if name == b"GNU" and kind == _NT_GNU_BUILD_ID:
            return notes[at : at + size].hex()
        at += -(-size // 4) * 4
    return ""


_NT_GNU_BUILD_ID = 3


def places(pcs: Iterable[int]) -> dict[int, Place]:
    """Return the places of those of ``pcs`` that are the running kernel's. Never raises.

    Without debug information the file is '[kernel]' or the name of a module, as /proc/PID/maps has '[vdso]'.
    """
    kernel = {pc for pc in pcs if kallsyms.is_kernel(pc)}
    if not kernel:
        return {}
    try:
        names = symbols()
        named = {pc: symbol for pc in kernel if (symbol := names.symbol(pc)) is not None}
    except KcovError as error:
        log.debug("%s", error)
        named = {}
    result = {
        pc: Place("kernel", f"[{symbol.module or 'kernel'}]", 0, symbol.name)
        for pc, symbol in named.items()
    }
    for pc, (innermost, *_) in _frames(kernel, named).items():
        result[pc] = Place("kernel", innermost.file, innermost.line, innermost.function)
    return result


def place(pc: int) -> Place | None:
    """Return the place of a PC of the running kernel; None if it is none."""
    return places((pc,)).get(pc)


def symbols() -> kallsyms.Kallsyms:
    """Return the functions of the running kernel and of its modules.

    KcovError EPERM if the kernel shows no addresses, else the system's errno.
    """
    vmlinux = _found()
    return kallsyms.running(None if vmlinux is None else vmlinux.linked_at)


@functools.cache
def _found() -> Vmlinux | None:
    """Return what find() does; None if that raises, which is logged once."""
    try:
        return find()
    except KcovError as error:
        log.warning("%s", error)
        return None


def _frames(
    pcs: Iterable[int], named: Mapping[int, kallsyms.Symbol]
) -> dict[int, tuple[Frame, ...]]:
    """Return what debug information says of PCs of the kernel and its modules."""
    vmlinux = _found()
    path, root = ("", "") if vmlinux is None else (vmlinux.path, vmlinux.root)
    by_module: dict[str, list[int]] = {}
    for pc, symbol in named.items():
        if symbol.module:
            by_module.setdefault(symbol.module, []).append(pc)
    result: dict[int, tuple[Frame, ...]] = {}
    try:
        if vmlinux is not None:
            found = vmlinux.resolve(pcs)
            result = {pc: frames for pc, frames in found.items() if frames}
        for module, inside in by_module.items():
            result |= modules.frames(module, inside, symbols().moved, path, root)
    except KcovError as error:
        log.warning("%s", error)
    return result
