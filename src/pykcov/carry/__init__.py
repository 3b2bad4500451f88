"""A handle travels with the work: one file for each way in which Python hands work on."""

from __future__ import annotations

__all__ = ["install"]

_installed = False


def install() -> None:
    """Make threads, executors and event loops pass the common handle on, from now on.

    Called when the first common handle is enabled: before that there is nothing to carry.
    """
    global _installed
    if not _installed:
        _installed = True
        from . import aio, threads

        threads.install()
        aio.install()
