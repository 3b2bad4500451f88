"""python -m tests.chaos: a storm of so many seconds, and then the check of everything that was collected."""

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("PYKCOV_NAMESPACE", f"chaos-{os.getpid()}")

import pykcov

from . import collector
from .check import PATIENCE, SLACK, Check
from .history import History
from .storm import Become, Options, Storm, be

pykcov.Device, pykcov.collect  # noqa: B018 - imported here, not in each process that is forked

# A shared-memory file system of our own, which can be filled without harm to others.
PRIVATE = (
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount -t tmpfs -o size=512m tmpfs /dev/shm && exec "$@"', "sh",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--kills", type=float, default=7.0, help="a second; 0: nobody dies or is stopped"
    )
    parser.add_argument("--folder", type=Path, default=None, help="for the journals; kept")
    parser.add_argument(
        "--shared", action="store_true", help="use the system's /dev/shm, and do not fill it"
    )
    parser.add_argument("--be", default="", help=argparse.SUPPRESS)
    parser.add_argument("--private", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    if not asked.be and not asked.private:
        print(f"seed {seed}", flush=True)
        if not asked.shared and _can_mount():
            arguments = [*sys.argv[1:], "--private", "--seed", str(seed)]
            os.execvp(PRIVATE[0], [*PRIVATE, sys.executable, "-m", __package__, *arguments])
        print("/dev/shm is the system's: it is not filled", flush=True)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(exist_ok=True)
    options = Options(seed, asked.seconds, asked.kills, folder, asked.private)
    if asked.be:
        role, number, place = asked.be.split(",")
        return be(role, int(number), int(place), options)
    storm = Storm(options)
    try:
        storm.run()
    except Become as process:
        return be(process.role, process.number, process.place, options)
    faulthandler.dump_traceback_later(240 + asked.seconds, exit=True)
    (folder / "storm").write_bytes(pickle.dumps((seed, storm.processes, storm.fill)))
    status = _report(storm, options)
    if status == 0 and asked.folder is None:
        shutil.rmtree(folder)
    return status


def _can_mount() -> bool:
    try:
        done = subprocess.run([*PRIVATE, "true"], capture_output=True, timeout=60, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _report(storm: Storm, options: Options) -> int:
    """Check everything; print what was done and what is wrong."""
    began = time.monotonic()
    history = History(options.seed, options.folder, storm.processes)
    history.fill = storm.fill
    check = Check(history, options.folder)
    for process in storm.processes:
        if process.role == "collector":
            for result in collector.read(options.folder / f"results.{process.number}"):
                check.result(result)
    problems = storm.problems + check.problems
    for process, at in history.warnings:
        # Somebody may have been stopped with a lock, and nobody waits for that for long.
        if not history.is_full(at - SLACK, at) and history.longest_stop(at - SLACK, at) < PATIENCE:
            problems.append(f"{process.name} (pid {process.pid}) was warned at {at}")
    counts = check.counts
    killed = sum(process.killed for process in storm.processes)
    died = sum(p.status not in (0, None) and not p.killed for p in storm.processes)
    print(
        f"{len(storm.processes)} processes, {killed} killed, {died} died by themselves, "
        f"{sum(len(p.stops) for p in storm.processes)} stops; "
        f"{len(history.by_number)} sections, {len(history.warnings)} warnings\n"
        f"{counts.results} collections, {counts.windows} times enabled: {counts.events} events, {counts.dropped} "
        f"dropped; {counts.whole} whole sections, {counts.cut} in part ({counts.recovered} recovered)\n"
        f"at most {storm.files} files, {storm.stale} of the long dead; "
        f"failures {dict(counts.failures)}; checked in {time.monotonic() - began:.0f} s"
    )
    for problem in problems[:20]:
        print(problem)
    print(f"{len(problems)} violations" + (f": {options.folder}" if problems else ""))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
