"""What a process imports only when it needs it, and how.

A child process that inherits a handle begins with pykcov, and most children do little. So what runs when a
process begins, joins a namespace and opens a section imports nothing that takes long: not typing, enum, re, json,
logging, threading, contextlib or collections, and nothing that needs them (``if TYPE_CHECKING`` is for the type
checker alone). tests/integration/test_startup.py has the list. The rest comes with load(), when a verb is called or
code that is recorded runs for the first time.

By then the program runs. What is imported must not be a module of its own that has the name of one of the standard
library, and a name of its own must not lead it to ours.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import get_ident

from . import _recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["find_behind", "give_way", "is_library", "join", "load"]

_PATIENCE = 2.0  # seconds

_path = sys.path[:]  # as it was when pykcov was imported
_loading: set[int] = set()  # threads
_forking = 0  # threads

namespace = ""
"""The namespace of the collection that has started this program, '' if none has."""
waits = False
"""This program has not joined that collection yet (carry/waiting.py)."""
LIBRARY = os.path.dirname(os.__file__) + os.sep
_PACKAGES = LIBRARY + "site-packages" + os.sep


def is_library(filename: str) -> bool:
    """Tell whether a file is one of the standard library, and not of a package that is installed below it."""
    return filename.startswith(LIBRARY) and not filename.startswith(_PACKAGES)


def load(name: str) -> ModuleType:
    """Import a module, and what that imports, from where it would have come from when pykcov was imported."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    me = get_ident()
    if me in _loading:
        return _import(name)
    before = set(sys.modules)
    _begin(me)
    try:
        with _recorder.Quiet():
            return _import(name)
    finally:
        _loading.discard(me)
        give_way(_new_entries(), set(sys.modules) - before)


def join() -> None:
    """Make this program join the collection that has started it, if it still waits for a reason to."""
    global waits
    if waits:
        waits = False
        load("pykcov.remote").adopt()


def _begin(me: int) -> None:
    """Say that this thread loads; not while another one forks."""
    end = time.monotonic() + _PATIENCE
    _loading.add(me)
    while _forking and time.monotonic() < end:
        _loading.discard(me)
        time.sleep(0.001)
        _loading.add(me)


def _before_fork() -> None:
    """Wait for the others that load: a child would have half a module, and wait for a thread that it has not."""
    global _forking
    _forking += 1
    end = time.monotonic() + _PATIENCE
    while _loading - {get_ident()} and time.monotonic() < end:
        time.sleep(0.001)


def _after_fork() -> None:
    global _forking
    _forking -= 1


def _after_fork_in_child() -> None:
    global _forking
    _forking = 0
    _loading.intersection_update({get_ident()})


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _new_entries() -> list[str]:
    """Return what the program has put in front of the path of then: where its script is, at least."""
    found = []
    for entry in sys.path:
        if entry in _path:
            break
        found.append(entry)
    return found


class _Finder:
    """Finds modules along the path of then, for threads that are in load()."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or get_ident() not in _loading:
            return None
        # importlib.machinery's; it may have to be found itself.
        from _frozen_importlib import BuiltinImporter, FrozenImporter
        from _frozen_importlib_external import PathFinder

        for finder in (BuiltinImporter, FrozenImporter):
            if (spec := finder.find_spec(name)) is not None:
                return spec
        return PathFinder.find_spec(name, _path)


def find_behind(
    finder: object, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """Return what the finders behind one of ours find; those before it have been asked."""
    at = sys.meta_path.index(finder) + 1 if finder in sys.meta_path else 0
    for other in sys.meta_path[at:]:
        spec = other.find_spec(name, path, target) if hasattr(other, "find_spec") else None
        if spec is not None:
            return spec
    return None


# Before carry's own, which puts the carriers into what this one finds.
sys.meta_path.insert(0, _Finder)


def give_way(entries: Sequence[str], modules: Iterable[str]) -> None:
    """Forget those modules that we imported of which the program has its own along ``entries``, a secrets.py say.

    Ours go on with what they hold. Built-in and frozen modules, and the codecs, come first for every program; a
    directory without __init__.py comes last.
    """
    from _frozen_importlib_external import PathFinder

    tops = {name.partition(".")[0] for name in modules} - {"__main__", "encodings", "pykcov"}
    for top in tops if entries else ():
        spec = getattr(sys.modules.get(top), "__spec__", None)
        if spec is None or spec.origin in ("built-in", "frozen"):
            continue
        own = PathFinder.find_spec(top, entries)
        if own is not None and own.origin is not None and own.origin != spec.origin:
            for name in list(sys.modules):
                if name == top or name.startswith(f"{top}."):
                    del sys.modules[name]
