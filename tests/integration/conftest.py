from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.commands import NAMESPACE, run


@pytest.fixture(autouse=True, scope="session")
def namespace_of_the_commands() -> Iterator[None]:
    yield
    for name in (NAMESPACE, f"{NAMESPACE}-doctor"):
        shutil.rmtree(f"/dev/shm/pykcov-{os.geteuid()}/{name}", ignore_errors=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """The begin of a command that finds a disk of 12 KB at full/; it ends with the command."""
    script = 'mkdir -p full && mount -t tmpfs -o size=16k tmpfs full && head -c 4096 /dev/zero >full/x && "$@"'
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash"]
    if not shutil.which("unshare") or run([*command, "true"], tmp_path).returncode:
        pytest.skip("no file system can be mounted here")
    return command
