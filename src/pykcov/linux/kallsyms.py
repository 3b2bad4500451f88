"""What the running kernel says of itself: which function is where, its modules, by how much it is moved.

The addresses in /proc/kallsyms are those that the kernel runs at. KASLR moves it, and what kcov records is the
address without that, as it is in vmlinux: a PC of kcov, plus ``Kallsyms.moved``, is an address of kallsyms.
"""

from __future__ import annotations

import bisect
import errno
import functools
import os
import re
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import KcovError

__all__ = ["Kallsyms", "Symbol", "is_kernel", "running"]

PATH = "/proc/kallsyms"
_MODULES = "/proc/modules"

# Where x86-64 links its text, for who has no vmlinux to look that up in. Its KASLR goes up to 1 GiB from there.
_X86_TEXT = 0xFFFF_FFFF_8100_0000
_X86_KASLR = 1 << 30
# Types of nm that may be code: absolute ones are no addresses, and some kernels list data, too.
_CODE = frozenset("tTwW")


class Symbol(NamedTuple):
    """One function as the linker knows it; ``module`` is '' for the kernel itself."""

    name: str
    module: str
    address: int  # where it begins, as kcov counts


class Kallsyms:
    """The functions of the running kernel and of its modules, by their PC."""

    def __init__(self, text: str, modules: str, *, linked_at: int | None = None) -> None:
        """Read ``text`` and ``modules``, what is in /proc/kallsyms and in /proc/modules.

        ``linked_at`` is the address of ``_text`` in vmlinux, None if that is not there. Raises KcovError EPERM
        where the kernel shows no addresses.
        """
        symbols: list[tuple[int, str, str, str]] = []
        self._at: dict[str, int] = {}
        for line in text.splitlines():
            address, kind, name, *module = line.split()
            number = int(address, 16)
            if not module and name in _MARKS:
                self._at[name] = number
            elif kind in _CODE and number:
                symbols.append((number, kind, name, module[0][1:-1] if module else ""))
        if not symbols:
            raise KcovError(
                errno.EPERM,
                f"{PATH} shows no addresses: this needs root, or kernel.kptr_restrict=0",
            )
        symbols.sort(key=_rank)
        self._starts = array("Q", (symbol[0] for symbol in symbols))
        self._names = [symbol[2:] for symbol in symbols]
        self._modules = {}
        for line in modules.splitlines():  # name, bytes, users, needed by, state, address
            name, size, *_, address = line.partition(" (")[0].split()
            self._modules[name] = range(int(address, 16), int(address, 16) + int(size))
        self.moved = self._moved(linked_at)

    def _moved(self, linked_at: int | None) -> int:
        """Return by how much the kernel runs above the addresses that it was linked for."""
        text = self._at.get("_text")
        if text is None:
            return 0
        if linked_at is not None:
            return text - linked_at
        return text - _X86_TEXT if 0 <= text - _X86_TEXT < _X86_KASLR else 0

    def address(self, name: str) -> int | None:
        """Return where a function begins, as kcov counts; None for none of that name."""
        if name in self._at:
            return self._at[name] - self.moved
        for start, (other, module) in zip(self._starts, self._names, strict=True):
            if other == name and not module:
                return start - self.moved
        return None

    def symbol(self, pc: int) -> Symbol | None:
        """Return the function that made the call that ``pc`` is the return address of; None for no code."""
        address = pc - 1 + self.moved
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        name, module = self._names[at]
        if not any(address in part for part in self._parts(module)):
            return None
        return Symbol(name, module, self._starts[at] - self.moved)

    def _parts(self, module: str) -> Iterator[range]:
        """Yield the addresses where the code of the kernel, or of a module, may be."""
        if module in self._modules:
            yield self._modules[module]
        elif not module:
            for first, last in (("_stext", "_etext"), ("_sinittext", "_einittext")):
                if first in self._at and last in self._at:
                    yield range(self._at[first], self._at[last])

    @functools.cached_property
    def call_prefix(self) -> str:
        """What the names of functions that are system calls begin with: '__x64_sys_', 'sys_' in UML."""
        found = (
            match[1]
            for name, _ in self._names
            if (match := re.fullmatch(r"(__(?!se_|do_|ia32_)[a-z0-9]+_sys_|sys_)getpid", name))
        )
        return max(found, key=len, default="sys_")


def _rank(symbol: tuple[int, str, str, str]) -> tuple[int, bool, bool, bool]:
    """Order symbols; of those of one address the last one counts: a global one, sys_read and not __se_sys_read.

    Calls that a kernel was built without are all one function, sys_ni_syscall.
    """
    address, kind, name, _ = symbol
    return address, name.endswith("sys_ni_syscall"), kind.isupper(), not name.startswith("_")


_MARKS = frozenset(("_text", "_stext", "_etext", "_sinittext", "_einittext"))


@functools.cache
def running(linked_at: int | None = None) -> Kallsyms:
    """Return the functions of the running kernel, as /proc/kallsyms has them now.

    ``linked_at`` is the address of ``_text`` in its vmlinux, None if that is not there. Raises KcovError EPERM
    if it shows no addresses, else the system's errno.
    """
    try:
        with open(PATH, encoding="utf-8", errors="backslashreplace") as file:
            text = file.read()
        modules = ""
        if os.path.exists(_MODULES):  # not where the kernel has no modules
            with open(_MODULES, encoding="utf-8", errors="backslashreplace") as file:
                modules = file.read()
    except OSError as error:
        code = error.errno or errno.EIO
        raise KcovError(code, f"{error.filename}: {error.strerror}") from None
    return Kallsyms(text, modules, linked_at=linked_at)


def is_kernel(pc: int) -> bool:
    """Tell whether a PC that is not Python's is the kernel's, by its value.

    The upper half of the address space is. A kernel that is a process (UML) has user-space addresses: there all are.
    """
    return pc >> 63 == 1 or _is_uml()


@functools.cache
def _is_uml() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "User Mode Linux" in file.read()
    except OSError:
        return False
