"""A /dev/shm of a program's own: it may be full or damaged without harm to others."""

from __future__ import annotations

import subprocess

import pytest


def private(options: str, *commands: str) -> tuple[str, ...]:
    """What comes before a program so that its /dev/shm is a tmpfs of its own."""
    script = " && ".join([f"mount -t tmpfs -o {options} tmpfs /dev/shm", *commands, 'exec "$@"'])
    return ("unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh")


def _can_mount() -> bool:
    try:
        done = subprocess.run(
            [*private("size=1m"), "true"], capture_output=True, timeout=60, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


needs_mount = pytest.mark.skipif(
    not _can_mount(), reason="a tmpfs of its own needs root or user namespaces, and unshare"
)
