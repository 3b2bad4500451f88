"""The functions of this kernel."""

from __future__ import annotations

import bisect
import functools
import re


def system_call(name: str) -> str:
    """The name of a system call's function without what a PC puts before it: __x64_sys_getppid is sys_getppid."""
    return re.sub("^__(x64|ia32|se|do)_sys_", "sys_", name)


@functools.cache
def _table() -> list[tuple[int, str]]:
    with open("/proc/kallsyms", encoding="ascii") as lines:
        return sorted((int(line.split()[0], 16), line.split()[2]) for line in lines)


def function(pc: int) -> str:
    """The function that a PC of kcov is in: it is the address after a call."""
    return _table()[bisect.bisect_left(_table(), (pc, "")) - 1][1]
