"""Comparison probes: what stands in the code that rewrite.py has made, and which modules have it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .. import _recorder
from ..errors import listed, warn
from ..scope import Scope
from .rewrite import KIND, REGEX

__all__ = ["arm", "blind", "check", "instrumented", "is_instrumented", "make"]


def make(probe: tuple[Any, ...], places: _recorder.Places) -> object:
    """Return what stands in the code for a probe that ``transform`` has described."""
    kind, form, first, count, what, constant, link, extra = probe
    assert kind == KIND
    if what == REGEX:
        import re

        extra = (re.Pattern, re.match, re.fullmatch)
    site = _recorder.Site(places, first, count, what, constant, link, extra)
    return site if form == "pop" else getattr(site, form)


# -- which modules have them

_files: set[str] = set()
_told: set[Scope] = set()


def instrumented(filename: str) -> None:
    """Note that the code of a file has comparison probes."""
    _files.add(filename)


def is_instrumented(filename: str) -> bool:
    """Tell whether the code of a file has comparison probes."""
    return filename in _files


def blind(scope: Scope) -> list[str]:
    """Return the names of the modules in a scope whose comparisons nobody sees, sorted."""
    found = []
    modules: list[tuple[str, object]] = list(sys.modules.items())
    for name, module in modules:
        # Not getattr(): it may be the program's code.
        known = (
            object.__getattribute__(module, "__dict__") if isinstance(module, ModuleType) else {}
        )
        file = known.get("__file__")
        if type(file) is str and file not in _files and scope.contains(file):
            found.append(name)
    return sorted(found)


def check(scope: Scope) -> None:
    """Give a KcovWarning if a scope has modules and none has comparison probes."""
    _told.add(scope)
    if any(scope.contains(file) for file in _files):
        return
    names = blind(scope)
    if names:
        warn(
            f"TRACE_CMP: no comparison is recorded: {listed(names)} "
            "was imported without comparison probes"
        )


def arm(scope: Scope) -> None:
    """Say once if a section in this process sees nothing."""
    if scope not in _told:
        check(scope)
