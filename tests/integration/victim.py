"""What links lead to. A file made for it: who runs the programs as root could destroy any other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

BASE = Path(f"/dev/shm/pykcov-{os.geteuid()}")
PATH = BASE / f"victim-{os.getpid()}"
_MINE = b"mine\n" * 100


@contextlib.contextmanager
def made() -> Iterator[None]:
    """Have it, for so long."""
    BASE.mkdir(0o700, exist_ok=True)
    PATH.write_bytes(_MINE)
    PATH.chmod(0o600)
    try:
        yield
    finally:
        PATH.unlink()


def is_untouched() -> bool:
    """Tell whether nobody has written to it."""
    return PATH.read_bytes() == _MINE
