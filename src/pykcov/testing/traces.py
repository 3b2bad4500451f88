"""A trace of each test, in a file that is named after it."""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from ..trace import Trace

__all__ = ["Unsaved", "save"]

_LONGEST = 150  # bytes; a file system has 255, and what is written first has a longer name
# One can tell from the name of the file which `/` and which `::` were replaced.
_PLAIN = re.compile(r"(?:\w+/)*\w+\.py(?:::\w+)*(?:\[[\w.=\[\]-]*\])?")


def save(trace: Trace, directory: str, nodeid: str) -> None:
    """Save the trace of a test. KcovError if that cannot be."""
    trace.save(os.path.join(directory, _file_name(nodeid)))


def _file_name(nodeid: str) -> str:
    """Return what no other test's trace is called."""
    name = re.sub(r"[^\w.\[\]=-]+", "-", nodeid).strip("-")
    short = name.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
    if short != name or not _PLAIN.fullmatch(nodeid):
        short += f"-{hashlib.blake2b(nodeid.encode(errors='replace'), digest_size=4).hexdigest()}"
    return f"{short}.trace"


class Unsaved(NamedTuple):
    """Which traces could not be saved: why the first could not, and how many there are."""

    why: str = ""
    many: int = 0

    def add(self, why: str, many: int = 1) -> Unsaved:
        """Return these and some more."""
        return Unsaved(self.why or why, self.many + many)

    def text(self) -> str:
        """Return one line, '' if there are none."""
        return f"{self.why} (and {self.many - 1} more traces)" if self.many > 1 else self.why
