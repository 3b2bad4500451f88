"""The scopes that are in use in this process, a bit for each: units and sinks compare bits, not file names."""

from __future__ import annotations

from errno import ENOSPC

from .. import _recorder
from ..errors import KcovError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..scope import Scope

__all__ = ["bit", "mask", "version"]

_MAX_SCOPES = 64

_bits: dict[Scope, int] = {}
version = 0
"""Moves with every new scope: what was decided about a file before has to be decided again."""


def bit(scope: Scope) -> int:
    """Return the bit that stands for a scope. Must be called with the probes' lock held if it may be a new one.

    Raises KcovError ENOSPC if 64 other scopes are in use.
    """
    global version
    found = _bits.get(scope)
    if found is None:
        if len(_bits) == _MAX_SCOPES:
            if _recorder.sinks() or _recorder.comparing():
                raise KcovError(
                    ENOSPC, f"{_MAX_SCOPES} different scopes are in use in this process"
                )
            _recorder.forget_bits()  # before: sessions remember theirs
            version += 1
            _bits.clear()
        found = _bits[scope] = 1 << len(_bits)
        version += 1
    return found


def known(scope: Scope) -> int:
    """Return the bit of a scope, 0 if it is a new one."""
    return _bits.get(scope, 0)


def mask(filename: str) -> int:
    """Return the bits of the scopes that a file is in, by its ``co_filename``."""
    found = 0
    for scope, scope_bit in list(_bits.items()):
        if scope.contains(filename):
            found |= scope_bit
    return found
