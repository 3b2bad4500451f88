"""What the worker of vhost does, as Python functions for pykcov's device: one event for each queue that it serves."""

from __future__ import annotations

FILE = __file__


def receive() -> None:
    pass


def send() -> None:
    pass
