"""A handle travels with the work: one file for each way in which Python hands work on.

The modules that hand it on are wrapped when they are imported, not before: a child process begins fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import aio, processes, threads

__all__ = ["add", "install"]

_CARRIERS: dict[str, Callable[[ModuleType], None]] = {
    "threading": threads.install,
    "concurrent.futures.thread": threads.install_executor,
    "concurrent.futures.process": threads.install_executor,
    "multiprocessing.process": processes.install_process,
    "multiprocessing.pool": processes.install_pool,
    "subprocess": processes.install_subprocess,
    "asyncio.base_events": aio.install,
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
    for name, carrier in _CARRIERS.items():
        module = sys.modules.get(name)
        if module is not None:
            carrier(module)
    sys.meta_path.insert(0, _Finder)


def add(name: str, carrier: Callable[[ModuleType], None]) -> None:
    """Call ``carrier`` with the module of that name: now, or when it is imported."""
    _CARRIERS[name] = carrier
    module = sys.modules.get(name)
    if module is not None:
        carrier(module)


class _Finder:
    """Finds nothing itself: puts the carrier into a module when it has been executed."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        carrier = _CARRIERS.get(name)
        if carrier is None:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not _Finder else None
            if spec is not None:
                _execute_with(spec.loader, carrier)
                return spec
        return None


def _execute_with(loader: Any, carrier: Callable[[ModuleType], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        carrier(module)

    loader.exec_module = exec_module
