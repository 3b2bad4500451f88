"""Where the line events of the Pythons, and of the two ways to get them, differ.

Everything else that the programs use gives the same events on 3.11, 3.12 and 3.13: this was found by
running them (test_generator.py does it again at each run).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """How one kind of interpreter reports a program."""

    comprehensions_are_frames: bool
    """A list, set or dict comprehension is a function of its own, with an entry (until 3.11)."""
    same_line_again: bool
    """A jump backwards to the same line reports the line again (trace functions, not monitoring)."""
    compiled: bool = False
    """Statements report themselves. One that leaves `with` blocks reports them before what they do at their end
    happens; and a `continue` reports the `for` that goes on before that, if it iterates over who knows what."""


def of_pykcov() -> Rules:
    """pykcov on this Python: a trace function on 3.11, monitoring from 3.12 on."""
    old = sys.version_info < (3, 12)
    return Rules(comprehensions_are_frames=old, same_line_again=old)


def of_settrace() -> Rules:
    """A trace function on this Python."""
    return Rules(comprehensions_are_frames=sys.version_info < (3, 12), same_line_again=True)


def of_compiled() -> Rules:
    """pykcov's compiled probes."""
    return Rules(
        comprehensions_are_frames=sys.version_info < (3, 12), same_line_again=False, compiled=True
    )
