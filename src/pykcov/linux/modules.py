"""Debug information of the kernel's modules: where a module's file is, and where its text was loaded."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable

from .addr2line import Addr2line, is_there
from .frames import Frame

__all__ = ["frames"]

_DIRECTORIES = ("/usr/lib/debug/lib/modules/{}", "/lib/modules/{}")
_LOADED_AT = "/sys/module/{}/sections/.text"


def frames(
    module: str, pcs: Iterable[int], moved: int, vmlinux: str, root: str
) -> dict[int, tuple[Frame, ...]]:
    """Return the frames of PCs in the text of a module; none where its debug information is not found.

    ``moved`` is what KASLR adds to a PC of kcov. The module is looked for where distributions install it and beside
    ``vmlinux``, in the tree that it was built in. ``root`` is left out in front of file names.
    """
    path = _find(module, os.path.dirname(vmlinux))
    if (
        not path or not is_there()
    ):  # its addresses are not settled before it is loaded: addr2line knows -j
        return {}
    try:
        with open(_LOADED_AT.format(module), encoding="utf-8") as file:
            start = int(file.read(), 16)
    except (OSError, ValueError):  # it needs root
        return {}
    ordered = sorted(pc for pc in pcs if pc + moved > start)
    found = Addr2line(path, ".text").frames([pc - 1 + moved - start for pc in ordered])
    return {
        pc: tuple(f._replace(file=f.file.removeprefix(root)) for f in inside)
        for pc, inside in zip(ordered, found, strict=True)
        if inside
    }


@functools.cache
def _find(module: str, tree: str) -> str:
    """Return the path of a module's file that has debug information, '' for none."""
    release = os.uname().release
    for directory in (*(pattern.format(release) for pattern in _DIRECTORIES), tree):
        if not directory:
            continue
        for listed in ("modules.dep", "modules.order"):
            for path in _listed(os.path.join(directory, listed)):
                name, dot, kind = os.path.basename(path).partition(".")
                if name.replace("-", "_") != module or dot + kind not in (".ko", ".o"):
                    continue
                full = os.path.join(directory, path.removesuffix(dot + kind) + ".ko")
                if os.path.exists(full) and Addr2line(full).has_debug_info:
                    return full
    return ""


def _listed(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.partition(":")[0].strip() for line in file]
    except OSError:
        return []
