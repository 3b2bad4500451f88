"""Hostile content while processes use it: clear errors, never a crash, never an endless loop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.mounting import needs_mount, private

MUTATIONS = Path(__file__).with_name("mutations.py")

# Damaged sizes ask for memory: a tmpfs of its own bounds what there is.
PRIVATE = private("size=96m")
pytestmark = needs_mount


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PRIVATE, sys.executable, str(MUTATIONS), *args],
        env={**os.environ, "PYKCOV_NAMESPACE": "mutations"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_ten_thousand_mutations_of_files_in_use_harm_no_process() -> None:
    """Each run has a seed of its own; `python mutations.py storm SEED 10000` does the same mutations again."""
    done = run("storm", str(random.SystemRandom().getrandbits(32)), "10000")
    told = "\n".join(dict.fromkeys(done.stderr.splitlines()))  # damage is told again and again
    assert done.returncode == 0, f"{done.stdout}\n{told}"


@pytest.mark.parametrize("kind", ["lock", "codemap"])
def test_a_file_that_is_not_mapped_may_be_cut_short_at_any_time(kind: str) -> None:
    done = run("cut", kind)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["registry", "handles", "area", "section"])
def test_a_file_that_its_own_user_cuts_short_under_a_process_is_a_bus_error(kind: str) -> None:
    """As for any program that maps a file (mmap(2)). docs/kernel-differences.md says why it stays so."""
    assert run("cut", kind).returncode == -signal.SIGBUS
