"""A stream of kernel PCs -> the system calls that it is of.

The kernel's stream has no marks. A system call begins where its function is entered: ``__x64_sys_read``, say. The first
block of a function has its lowest address, and no call begins otherwise, so the lowest PC that was seen in
such a function is its entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .kallsyms import Kallsyms, Symbol

__all__ = ["Call", "Calls"]

_COMPAT = ("__ia32_compat_sys_", "__ia32_sys_", "__x64_compat_sys_", "__arm64_compat_sys_")


class Call(NamedTuple):
    """One system call: its name, '' for what came before the first one; and its PCs, in order.

    Page faults and interrupts after it, until the next one, are among them: nothing tells them apart.
    """

    name: str
    pcs: list[int]


class Calls:
    """Takes the stream in parts, and gives each call when it is whole."""

    def __init__(self, symbols: Kallsyms) -> None:
        self._symbols = symbols
        self._prefixes = (symbols.call_prefix, *_COMPAT)
        self._names: dict[int, str] = {}  # PCs in functions that are system calls
        self._others: set[int] = set()
        self._entries: dict[str, int] = {}  # the lowest PC in each
        self._open = Call("", [])

    def feed(self, pcs: Iterable[int]) -> Iterator[Call]:
        """Go on with these PCs; yield the calls that they end."""
        for pc in pcs:
            if pc not in self._others and self._begins(pc):
                yield self._open
                self._open = Call(self._names[pc], [])
            self._open.pcs.append(pc)

    def end(self) -> Call:
        """Return the last call, which nothing has ended; forget it."""
        last, self._open = self._open, Call("", [])
        return last

    def _begins(self, pc: int) -> bool:
        name = self._names.get(pc)
        if name is None:
            name = self._name(self._symbols.symbol(pc))
            if not name:
                self._others.add(pc)
                return False
            self._names[pc] = name
        if pc > self._entries.get(name, pc):
            return False
        self._entries[name] = pc
        return True

    def _name(self, symbol: Symbol | None) -> str:
        name = "" if symbol is None or symbol.module else symbol.name
        found = next((prefix for prefix in self._prefixes if name.startswith(prefix)), "")
        return name.removeprefix(found) if found else ""
