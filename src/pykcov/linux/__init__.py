"""The kernel's own kcov, with the verbs of pykcov's device; and the places that its PCs name.

device      open ... close, asked of the kernel     causes      what its answers mean
kallsyms    PC -> function, of the running kernel    vmlinux     PC -> file, line, inlined functions
addr2line, dwarf, modules   who reads those          frames      what they give
threads     collect(kernel=True), in each thread     background  and for the kernel's own threads
command     a program under kcov                     calls       its PCs, call by call
child       the signals and the end of a program
"""

from __future__ import annotations

from .device import Device
from .vmlinux import Vmlinux

__all__ = ["Device", "Vmlinux"]
