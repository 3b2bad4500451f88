"""``python -m tests.comparisons --minutes 60``: seed after seed, until one differs."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from comparisons.check import check

parser = argparse.ArgumentParser("tests.comparisons")
parser.add_argument("--minutes", type=float, default=1)
parser.add_argument("--seed", type=int, default=int(time.time()) << 20, help="the first")
options = parser.parse_args()
end = time.monotonic() + 60 * options.minutes
seed, records = options.seed, 0
while time.monotonic() < end:
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(100):
            records += check(seed, Path(directory))
            seed += 1
print(f"{seed - options.seed} programs with {records} records, from seed {options.seed}")
