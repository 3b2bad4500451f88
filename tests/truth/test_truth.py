"""Generated programs: each collection gets exactly its own events, in order, and nothing is lost uncounted.

`make truth` goes on for longer and from a random seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SEED = int(os.environ.get("PYKCOV_TRUTH_SEED", "1"))
PROGRAMS = int(os.environ.get("PYKCOV_TRUTH_PROGRAMS", "500"))
CHUNKS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_each_collection_of_a_generated_program_gets_exactly_its_own(chunk: int) -> None:
    programs = PROGRAMS // CHUNKS
    done = subprocess.run(
        [sys.executable, "-m", "truth", "--programs", str(programs),
         "--seed", str(SEED + chunk * programs)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYKCOV_NAMESPACE": f"{os.environ['PYKCOV_NAMESPACE']}-truth{chunk}"},
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert f"{programs} programs from seed" in done.stdout
