"""An import is found while it happens: what a module executes then is the module's, whoever imports it first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeAlias

from ..late import find_behind
from ..scope import Scope
from . import rewriting

__all__ = ["Finder"]

# What to execute a module in, by the name of its file.
Importing: TypeAlias = Callable[[str], AbstractContextManager[object]]


class Finder:
    """In front of ``sys.meta_path``: lets the others find, and wraps the execution of modules in scope."""

    def __init__(self, scope: Scope, importing: Importing) -> None:
        self._scope = scope
        self._importing = importing

    def install(self) -> None:
        """Go in front of whoever is there."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Leave no trace; modules that are found already are executed as they would be."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the next finder that knows the module returns."""
        spec = find_behind(self, name, path, target)
        if spec is not None:
            self._wrap(spec)
        return spec

    def _wrap(self, spec: ModuleSpec) -> None:
        origin, loader = spec.origin, spec.loader
        if (
            origin
            and origin.endswith(".py")
            and hasattr(loader, "exec_module")
            and self._scope.contains(origin)
        ):
            spec.loader = _Loader(loader, origin, self._importing)


class _Loader(Loader):
    """Stands in for a loader until the module is executed; nobody sees it afterwards."""

    def __init__(self, loader: Any, origin: str, importing: Importing) -> None:
        self._loader = loader
        self._origin = origin
        self._importing = importing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        loader = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        module.__loader__ = loader
        with self._importing(self._origin):
            if not rewriting.execute(loader, module, self._origin):
                loader.exec_module(module)
