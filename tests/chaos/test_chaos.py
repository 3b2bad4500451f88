"""A short storm: nothing is lost uncounted, nobody gets what is another's, nobody hangs, nothing is left behind.

`make chaos` goes on for longer and from a random seed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SEED = os.environ.get("PYKCOV_CHAOS_SEED", "1")
SECONDS = os.environ.get("PYKCOV_CHAOS_SECONDS", "10")


def storm(*args: str) -> str:
    """Run a storm, and return what it said; one that goes wrong fails here."""
    environment = {**os.environ, "PYKCOV_NAMESPACE": f"{os.environ['PYKCOV_NAMESPACE']}-chaos"}
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--seed", SEED, *args],
        cwd=Path(__file__).parent.parent, env=environment,
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-5000:]
    return done.stdout


def test_collections_survive_processes_that_are_killed_stopped_and_replaced() -> None:
    said = storm("--seconds", SECONDS)
    # It was one: processes died in it, and what they had recorded was there.
    killed, sections = (re.search(pattern, said) for pattern in (r"(\d+) killed", r"(\d+) whole"))
    assert killed and int(killed[1]) > 0, said
    assert sections and int(sections[1]) > 0, said
