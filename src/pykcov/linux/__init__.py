"""The kernel's own kcov, with the verbs of pykcov's device."""

from __future__ import annotations

from .device import Device

__all__ = ["Device"]
