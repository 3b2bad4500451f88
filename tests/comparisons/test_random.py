"""Some seeds on every run; ``python -m tests.comparisons --minutes 60`` for more."""

from __future__ import annotations

from pathlib import Path

from comparisons.check import check


def test_random_programs_give_the_records_of_an_independent_evaluation(tmp_path: Path) -> None:
    assert sum(check(seed, tmp_path) for seed in range(200)) > 1500
