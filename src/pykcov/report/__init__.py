"""Reports: one file per format, one signature, no logic but the format.

A report is a function ``(trace, out, *, root=None) -> None`` that writes to the open text stream
``out``; file names below the directory ``root`` (default: the current one) are shown relative to
it.

    text    a table of files for people, and the PCs in order of execution
"""

from __future__ import annotations

from .text import pcs, summary

__all__ = ["pcs", "summary"]
