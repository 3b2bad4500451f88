"""What it takes to read a long trace: `pykcov report` of 10 million PCs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Callable
from random import Random

from setting import Round, Setting

from pykcov import Trace
from pykcov.codemap import PYTHON_PC_BASE, Place

EVENTS = 10_000_000
PLACES = 20_000
LINES = 500  # of a file

# Processor time and not the clock's: others may work on the machine. And not ru_maxrss, in which is
# what its parent had.
PROGRAM = """
import json, re, sys, time
from pykcov.cli import main
status = main(["report", sys.argv[1]])
peak = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
print(json.dumps({"s": time.process_time(), "MB": int(peak) * 1024 / 1e6}))
raise SystemExit(status)
"""


def reading(setting: Setting) -> Round:
    """Seconds and megabytes of a process that prints the summary of a trace: loops, and no order at all."""
    events = setting.times(EVENTS)
    files = {}
    for name, words in (("loops", _loops), ("random", _random)):
        files[name] = str(setting.directory / f"{name}.trace")
        pcs = words(events)
        Trace(pcs, places={pc: _place(pc) for pc in set(pcs)}).save(files[name])

    def one_round() -> dict[str, float]:
        found = {}
        for name, file in files.items():
            command = [sys.executable, "-c", PROGRAM, file]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for unit, value in json.loads(text.splitlines()[-1]).items():
                found[f"{name} {unit}"] = value
        return found

    return one_round


def _place(pc: int) -> Place:
    number = pc - PYTHON_PC_BASE
    return Place("line", f"/src/module{number // LINES}.py", number % LINES, f"f{number // 20}")


def _random(events: int) -> array[int]:
    random = Random(0)
    return array("Q", [PYTHON_PC_BASE + random.randrange(PLACES) for _ in range(events)])


def _loops(events: int) -> array[int]:
    random = Random(0)
    pcs: array[int] = array("Q")
    while len(pcs) < events:
        first = PYTHON_PC_BASE + random.randrange(PLACES - 60)
        body = array("Q", range(first, first + random.randrange(5, 60)))
        pcs.extend(body * random.randrange(1, 40))
    return pcs[:events]


CELLS: dict[str, Callable[[Setting], Round]] = {"reading": reading}
