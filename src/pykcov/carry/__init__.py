"""A handle travels with the work: one file for each way in which Python hands work on.

The modules that hand it on are wrapped when they are imported, not before, by a carrier that is imported then: a
child process begins fast.
"""

from __future__ import annotations

import sys

from ..late import find_behind, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["add", "install"]

_CARRIERS = {
    "threading": ("carry.threads", "install"),
    "concurrent.futures._base": ("carry.threads", "install_future"),
    "concurrent.futures.thread": ("carry.threads", "install_executor"),
    "concurrent.futures.process": ("carry.threads", "install_executor"),
    "multiprocessing.process": ("carry.processes", "install_process"),
    "multiprocessing.pool": ("carry.processes", "install_pool"),
    "subprocess": ("carry.processes", "install_subprocess"),
    "asyncio.base_events": ("carry.aio", "install"),
    "asyncio.runners": ("carry.aio", "install_runner"),
}
_installed = False


def install() -> None:
    """Make threads, executors, processes and event loops pass the common handle on, from now on.

    Called when the first common handle is enabled: before that there is nothing to carry.
    """
    global _installed
    if _installed:
        return
    _installed = True
    for name in _CARRIERS:
        module = sys.modules.get(name)
        if module is not None:
            _wrap(module)
    sys.meta_path.insert(0, _Finder)


def add(name: str, file: str, function: str) -> None:
    """Call a function of pykcov's ``file`` with the module of that name: now, or when it is imported."""
    _CARRIERS[name] = file, function
    module = sys.modules.get(name)
    if module is not None:
        _wrap(module)


def _wrap(module: ModuleType) -> None:
    file, function = _CARRIERS[module.__name__]
    getattr(load(f"pykcov.{file}"), function)(module)


class _Finder:
    """Finds nothing itself: puts the carrier into a module when it has been executed."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _CARRIERS:
            return None
        spec = find_behind(_Finder, name, path, target)
        if spec is not None:
            _wrap_when_executed(spec.loader)
        return spec


def _wrap_when_executed(loader: Any) -> None:
    if "exec_module" in getattr(loader, "__dict__", ()):
        return  # a finder like this one has asked us for what we ask it for
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        _wrap(module)

    loader.exec_module = exec_module
