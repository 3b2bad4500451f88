"""Reports: one file per format, one signature, no logic but the format.

A report is a function ``(traces, out, options=Options()) -> None``: ``traces`` are the collections
by name, and what it says of them goes to the text stream ``out``. What cannot be said is a
KcovError, before or after a part was written: who calls writes to a file that is renamed at the end.

    text        a table of files for people; the PCs in order of execution
    missing     coverage.py's table of statements that were not executed
    annotated   the sources, executed lines marked
    tree        who called whom, for each task
    lcov        for genhtml and editors        cobertura   XML, for GitLab, Jenkins and others
    records     JSON                           chrome      a timeline of sections, for Perfetto
    html        one page with all of it
    difference  what one collection executed and another one did not
    coveragepy  .coverage, which is a database and no stream: ``write(path, traces)``

    options     what can be asked for          sources     the texts, if they still are what ran
"""

from __future__ import annotations

from .options import Options
from .text import pcs, summary

__all__ = ["Options", "pcs", "summary"]
