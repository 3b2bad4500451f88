from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from integration.commands import NAMESPACE


@pytest.fixture(autouse=True, scope="session")
def namespace_of_the_commands() -> Iterator[None]:
    yield
    for name in (NAMESPACE, f"{NAMESPACE}-doctor"):
        shutil.rmtree(f"/dev/shm/pykcov-{os.geteuid()}/{name}", ignore_errors=True)
