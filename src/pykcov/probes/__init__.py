"""Probes: an event becomes a PC. Which kind is at work is chosen here, and says why.

There is one kind so far, the interpreter's own events (events.py).
"""

from __future__ import annotations

from .events import arm, bit, describe, name, prepare, settle

__all__ = ["arm", "bit", "describe", "name", "prepare", "settle"]
