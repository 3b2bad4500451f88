"""python -m tests.truth: checks programs until the time is up, or as many as asked."""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import sys
import time

os.environ.setdefault("PYKCOV_NAMESPACE", f"truth-{os.getpid()}")

import pykcov

from . import programs, rules
from .check import Check
from .family import stop
from .stage import start_pools

HANGS = 120  # seconds that no program takes
ALONE = ("plain", "concurrent", "concurrent")
MIXED = (*ALONE * 3, "processes")


def main() -> int:
    parser = argparse.ArgumentParser(prog="truth")
    parser.add_argument("--seed", type=int, default=None, help="of the first program")
    parser.add_argument("--programs", type=int, default=0, help="how many; 0: until the time is up")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--kind", choices=("mixed", "alone", *programs.WRITERS), default="mixed",
        help="of the programs; alone: those of one process",
    )  # fmt: skip
    parser.add_argument(
        "--compiled", action="store_true",
        help="with compiled probes; programs of one process, because workers that import them have events",
    )  # fmt: skip
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    mixed = ALONE if asked.compiled else MIXED
    kinds = {"mixed": mixed, "alone": ALONE}.get(asked.kind, (asked.kind,))
    sys.setrecursionlimit(20_000)
    check = Check(start_pools())
    check.listen()
    like = rules.of_pykcov()
    if asked.compiled:
        pykcov.instrument(source=[str(check.folder)])
        like = rules.of_compiled()
    done = events = collections = failed = 0
    end = time.monotonic() + 60 * asked.minutes
    while (done < asked.programs) if asked.programs else (time.monotonic() < end):
        kind = kinds[(seed + done) % len(kinds)]
        faulthandler.dump_traceback_later(HANGS, exit=True)
        print(f"seed {seed + done}", end="\r", flush=True) if sys.stderr.isatty() else None
        try:
            program, expected = programs.make(seed + done, kind, like)
            problems = check.problems(program, expected)
        except BaseException:
            print(f"seed {seed + done} ({kind})")
            raise
        done += 1
        events += expected.events
        collections += 3 if kind == "plain" else len(expected.collections)
        if problems:
            failed += 1
            print(f"seed {seed + done - 1}: {check.keep(program, problems)}", flush=True)
            if failed == asked.failures:
                break
    faulthandler.cancel_dump_traceback_later()
    print(
        f"{done} programs from seed {seed}: {collections} collections, {events} events, {failed} failed"
    )
    if failed:  # its threads may wait for what does not come any more
        sys.stdout.flush()
        stop()
        os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
