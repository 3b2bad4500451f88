"""3.11: sys.settrace() and sys.gettrace() while this thread is traced by pykcov.

The interpreter has one trace function for each thread. pykcov's goes in front of whatever is there and calls it;
if a program sets another while pykcov is there, that one has to be called too, and not replace it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .. import _recorder

__all__ = ["install"]

_installed = False


def install() -> None:
    """Put ours in front of ``sys.settrace`` and ``sys.gettrace``."""
    global _installed
    if _installed:
        return
    _installed = True
    settrace, gettrace = sys.settrace, sys.gettrace

    def set_trace(function: Callable[..., Any] | None) -> None:
        settrace(function)
        _recorder.settle()

    def get_trace() -> Any:
        ours, chained = _recorder.traced()
        return chained if ours else gettrace()

    for new, old in ((set_trace, settrace), (get_trace, gettrace)):
        new.__name__ = old.__name__
        new.__doc__ = old.__doc__
    sys.settrace, sys.gettrace = set_trace, get_trace
