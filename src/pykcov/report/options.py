"""What can be asked of every report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from ..trace import Trace

__all__ = ["DEFAULT", "Options", "Report", "Traces"]

Traces = Mapping[str, Trace]


@dataclass(frozen=True, slots=True)
class Options:
    """How a report is to be made. What means nothing to a format is not looked at."""

    root: str | None = None
    """File names below this directory are shown relative to it; None: the current one."""
    branch: bool = False
    """Report branches, too, from the order of events."""
    ignore_errors: bool = False
    """Leave out files whose source is gone, or is not what ran; else they are an error."""


DEFAULT = Options()
Report = Callable[[Traces, TextIO, Options], None]
