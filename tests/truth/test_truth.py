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
OF_PROCESSES = PROGRAMS // 25


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_each_collection_of_a_generated_program_gets_exactly_its_own(chunk: int) -> None:
    programs = PROGRAMS // CHUNKS
    check("alone", programs, SEED + chunk * programs)


@pytest.mark.parametrize("chunk", range(CHUNKS // 2))
def test_with_compiled_probes_too(chunk: int) -> None:
    programs = PROGRAMS // CHUNKS
    check("alone", programs, SEED + (CHUNKS + chunk) * programs, "--compiled")


def test_each_collection_of_a_generated_program_of_processes_gets_exactly_its_own() -> None:
    check("processes", OF_PROCESSES, SEED)


def check(kind: str, programs: int, seed: int, *options: str) -> None:
    name = f"{os.environ['PYKCOV_NAMESPACE']}-truth-{kind}-{seed}"
    done = subprocess.run(
        [sys.executable, "-m", "truth", "--kind", kind, "--programs", str(programs),
         "--seed", str(seed), *options],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYKCOV_NAMESPACE": name},
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert f"{programs} programs from seed" in done.stdout
