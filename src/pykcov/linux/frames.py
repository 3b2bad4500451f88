"""One frame of a place in the kernel."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["Frame"]

# What the compiler adds to the name of a function of which it has made another version.
_CLONE = re.compile(r"\.(?:isra|part|constprop|cold|lto_priv|llvm)\b.*")


class Frame(NamedTuple):
    """A function of the source, and where in it. Without debug information ``line`` is 0."""

    function: str
    file: str
    line: int

    @classmethod
    def of(cls, symbol: str, file: str, line: int) -> Frame:
        """Return the frame of what the debug information says: names as in the source, paths normalised."""
        return cls(_CLONE.sub("", symbol), os.path.normpath(file) if file else "", line)
