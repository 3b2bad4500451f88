"""The benchmarks run, and their table has a row for each cost that is promised. No figure is looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"

# What the costs are promised for, by words of the row's title.
PROMISED = [
    "nothing was ever collected",
    "after a collection has ended",
    "no handle in the namespace",
    "another handle is listened to",
    "`threading.Lock`",
    *["coverage.py's C tracer"] * 2,
    *["against callbacks that do nothing"] * 7,
    *["in a function of 2,000 lines against 20"] * 2,
    "what the 3 other threads pay",
    *["a section that is listened to, empty"] * 2,
    *["a section whose listener is another process, empty"] * 2,
    "2 processes into 2 devices",
    "move of a full area",
    "memory that survives its process",
    "start-up added to a child process",
    *["compiled probes, collecting"] * 2,
    *["compiled probes, asleep"] * 2,
    *["compiled probes, another thread collects"] * 2,
    *["compiled probes, extra time against coverage.py's C tracer"],
    *["probes of comparison operands"] * 2,
    "extra time against Atheris's",
    "wake and sleep of 10,000 sites",
    "import with compiled probes, the first time",
    "the same from the cache",
    "find a handle among 65,536",
    "`remote_enable` + `disable`",
    *["`pykcov report` of 10 million PCs"] * 2,
    "against `addr2line` for each PC",
]


def test_a_quick_run_has_every_row_and_writes_nothing(tmp_path: Path) -> None:
    before = DOCUMENT.read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), "--quick", "--dry-run"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    first, second = re.findall(r"(?:^\|.*\|\n)+", done.stdout, re.MULTILINE)
    rows = [line.strip("|").split(" | ") for line in first.splitlines()[2:]]
    for words in PROMISED:
        number = sum(words in row[0] for row in rows)
        assert number == PROMISED.count(words), f"{words}: {number} rows"
    for title, _must, _wanted, measured, _verdict in rows:
        assert re.match(r" ?-?\d+(\.\d+)? (×|ns|µs|ms|s)", measured), (title, measured)
    assert len(second.splitlines()) == 2 + 7, "a row for each workload"
    assert DOCUMENT.read_bytes() == before
    assert not list(tmp_path.iterdir()), "nothing is left behind"
