"""A trace of each test, in a file that is named after it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..trace import Trace

__all__ = ["Unsaved", "save"]


def save(trace: Trace, directory: str, nodeid: str) -> None:
    """Save the trace of a test. KcovError if that cannot be."""
    trace.save(os.path.join(directory, _file_name(nodeid)))


def _file_name(nodeid: str) -> str:
    name = re.sub(r"[^\w.\[\]=-]+", "-", nodeid).strip("-")[:150]
    return f"{name}.trace"


class Unsaved(NamedTuple):
    """Which traces could not be saved: why the first could not, and how many there are."""

    why: str = ""
    count: int = 0

    def add(self, why: str, count: int = 1) -> Unsaved:
        """Return these and some more."""
        return Unsaved(self.why or why, self.count + count)

    def text(self) -> str:
        """Return one line, '' if there are none."""
        return f"{self.why} (and {self.count - 1} more traces)" if self.count > 1 else self.why
