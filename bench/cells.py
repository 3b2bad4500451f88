"""What is measured, each cell in a process of its own: a cell is set up once and then gives one round at a time.

A round is a dictionary of figures: ratios to plain Python in the same round, or ns. run.py starts
the processes, asks them in turn, and takes medians.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from types import SimpleNamespace
from typing import Any

import compiled
import processes
import reading
import symbols
from floor import Floor
from setting import (
    AREA,
    HANDLE,
    Round,
    Setting,
    empty_function,
    per_call,
    start_stop,
    with_remote,
)
from workloads import WORKLOADS, Copy, Tool, Workload, four_threads, no_words, timed

import pykcov
from pykcov import _recorder

# -- tools


class Local:
    """A device enabled by the task that is measured."""

    def __init__(self, source: Path) -> None:
        self._device = pykcov.open(source=[str(source)])
        self._device.init_trace(AREA)
        self.words = self._device.mmap()
        self.on, self.off = self._device.enable, self._device.disable


class Block:
    """A collect() block: what the tasks that are created in it execute is collected too."""

    def __init__(self, source: Path) -> None:
        self._source = str(source)
        self.words = no_words()

    def on(self) -> None:
        self._block = pykcov.collect(source=[self._source])
        self._block.__enter__()

    def off(self) -> None:
        self._block.__exit__(None, None, None)
        # Two pieces of work were done in the block, the one to warm up and the measured one.
        self.words[0] = len(self._block.trace) // 2


class Coverage:
    """coverage.py's C tracer, lines only."""

    def __init__(self, source: Path) -> None:
        import coverage

        tool = coverage.Coverage(data_file=None, config_file=False, source=[str(source)])
        tool.set_option("run:core", "ctrace")
        self.words = no_words()
        self.on, self.off = tool.start, tool.stop


def _floor(setting: Setting, copy: Copy) -> Tool:
    floor = Floor(setting.floor, copy.modules)
    return SimpleNamespace(words=no_words(), on=floor.on, off=floor.off)  # type: ignore[return-value]


# -- collecting


def collecting(setting: Setting, name: str) -> Round:
    """pykcov and the floor of the interpreter's events, as ratios to plain; ns and events of pykcov's."""
    traced = Copy(setting.directory, "traced")
    ours = Block if name == "asyncio" else Local
    tools: dict[str, Tool] = {"pykcov": ours(traced.directory), "floor": _floor(setting, traced)}
    return _compared(setting, name, traced, tools, per_process=False)


def covered(setting: Setting, name: str) -> Round:
    """coverage.py's C tracer, as a ratio to plain."""
    traced = Copy(setting.directory, "traced")
    tools: dict[str, Tool] = {"coverage": Coverage(traced.directory)}
    return _compared(setting, name, traced, tools, per_process=True)


def _compared(
    setting: Setting, name: str, traced: Copy, tools: dict[str, Tool], *, per_process: bool
) -> Round:
    workload = WORKLOADS[name]
    plain = Copy(setting.directory, "plain")
    answer = plain.chunk(workload)()
    repeat = setting.times(workload.repeat)
    rounds = itertools.count()

    def measure(copy: Copy, tool: Tool | None) -> list[int]:
        chunk = copy.chunk(workload)
        words = no_words() if tool is None else tool.words
        if tool is not None and (per_process or name != "threads"):
            tool.on()
        # What is seen for the first time since then is discovered in the first piece.
        assert chunk() == answer
        if name == "threads":
            times = four_threads(chunk, repeat, words, None if per_process else tool)
        else:
            times = [timed(chunk, repeat, words)]
        if tool is not None and (per_process or name != "threads"):
            tool.off()
        return times

    def one_round() -> dict[str, float]:
        found = {}
        order = list(tools.items())
        if next(rounds) % 2:
            order.reverse()
        before = measure(plain, None)
        for key, tool in order:
            active = measure(traced, tool)
            after = measure(plain, None)
            base = [(b + a) / 2 for b, a in zip(before, after, strict=True)]
            found[key] = sum(active) / sum(base)
            found[f"{key} others"] = sum(active[1:]) / (sum(base[1:]) or 1)
            events = tool.words[0] * repeat
            if events:
                found[f"{key} events"] = events
                found[f"{key} ns"] = (active[0] - base[0]) / events
            before = after
        return found

    return one_round


# -- idle


def idle(setting: Setting, *, ended: bool) -> Round:
    """Annotated programs while nobody collects, as ratios to the same without annotations."""
    plain = Copy(setting.directory, "plain")
    annotated = Copy(setting.directory, "annotated", annotated=True)
    if ended:
        with pykcov.open(source=[str(annotated.directory)]) as device:
            device.init_trace(AREA)
            device.remote_enable(area_size=AREA // 16, handles=[annotated.programs.HANDLE])
            for workload in WORKLOADS.values():
                annotated.chunk(workload)()
            assert device.mmap()[0]
            device.disable()

    def measure(copy: Copy, workload: Workload) -> int:
        chunk, repeat = copy.chunk(workload), 1
        if workload is WORKLOADS["threads"]:
            return sum(four_threads(chunk, repeat, no_words(), None))
        return timed(chunk, repeat, no_words())

    def one_round() -> dict[str, float]:
        found = {}
        for name, workload in WORKLOADS.items():
            ratios = []
            for _ in range(setting.times(3)):
                times = [measure(copy, workload) for copy in (plain, annotated, annotated, plain)]
                ratios.append((times[1] + times[2]) / (times[0] + times[3]))
            found[name] = statistics.median(ratios)
        return found

    return one_round


# -- single calls


def annotation(setting: Setting) -> Round:
    """`with remote(h)` that nobody listens to: no handle in the namespace at all, and another one; a lock beside it."""
    times = setting.times(20_000)
    device = pykcov.open(source=[str(setting.directory)])
    device.init_trace(AREA)
    lock = threading.Lock()

    def with_lock(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    def one_round() -> dict[str, float]:
        nobody = per_call(with_remote, times)
        device.remote_enable(area_size=64, handles=[HANDLE + 1])
        found = {"nobody": nobody, "another": per_call(with_remote, times)}
        device.disable()
        found["lock"] = per_call(with_lock, times)
        return found

    return one_round


def section(setting: Setting) -> Round:
    """A section that is listened to, and what it costs to enable and disable its handle."""
    times = setting.times(1_000)
    device = pykcov.open(source=[str(setting.directory)])
    device.init_trace(AREA)
    words = device.mmap()
    execute = empty_function(setting.directory)

    def with_event(times: int) -> None:
        for _ in range(times):
            with pykcov.remote(HANDLE):
                execute()

    def enable(times: int) -> None:
        for _ in range(times):
            device.remote_enable(area_size=64, handles=[HANDLE])
            device.disable()

    def enable_and_section(times: int) -> None:
        for _ in range(times):
            device.remote_enable(area_size=64, handles=[HANDLE])
            with pykcov.remote(HANDLE):
                execute()
            device.disable()

    def one_round() -> dict[str, float]:
        words[0] = 0
        device.remote_enable(area_size=1024, handles=[HANDLE])
        found = {"with": per_call(with_remote, times), "calls": per_call(start_stop, times)}
        found["with events"] = per_call(with_event, times)
        assert words[0] == 2 * times
        device.disable()
        found["enable"] = per_call(enable, setting.times(500))
        found["enable, section"] = per_call(enable_and_section, setting.times(200))
        return found

    return one_round


def find(setting: Setting) -> Round:
    """A handle looked up among 65,536 and among one: hits and misses, the same again and all in turn."""
    count = 0x10000
    chance = random.Random(1)
    numbers = chance.sample(range(1, 1 << 40), 2 * count)
    handles, absent = numbers[:count], numbers[count:]
    device = pykcov.open()
    device.init_trace(2)
    turn = setting.times(count)

    def all_of(handles: list[int]) -> float:
        find = _recorder.find
        began = thread_time_ns()
        for handle in handles:
            find(handle)
        between = thread_time_ns()
        for _ in handles:
            pass
        return (2 * between - began - thread_time_ns()) / len(handles)

    # As many int objects as there are handles: looking at these costs the same in both cases.
    the_one = [int(str(handles[0])) for _ in range(turn)]
    in_turn = [int(str(handle)) for handle in chance.sample(handles, turn)]
    not_there = absent[:turn]

    def looked_up(key: str) -> dict[str, float]:
        return {
            f"{key} hit": all_of(the_one if key == "one" else in_turn),
            f"{key} miss": all_of(not_there),
            f"{key} same": all_of(the_one[:1] * turn),
        }

    def one_round() -> dict[str, float]:
        device.remote_enable(area_size=64, handles=handles)
        assert all(_recorder.find(h) for h in in_turn[:10])
        found = looked_up("many")
        device.disable()
        device.remote_enable(area_size=64, handles=handles[:1])
        found |= looked_up("one")
        device.disable()
        return found

    return one_round


# -- long functions


def _function(name: str, lines: int, *, branchy: bool) -> str:
    head = f"def {name}(x):\n"
    if not branchy:
        return head + "".join(f"    y = x + {i % 100}\n" for i in range(lines)) + "    return y\n"
    body = "".join(
        f"    if x & {1 << i % 3}:\n        x += {i % 7}\n    else:\n        x -= {i % 5}\n"
        for i in range(lines // 4)
    )
    return head + body + "    return x\n"


def length(setting: Setting) -> Round:
    """ns for an event in a function of 2,000 lines and of 20, short and branchy lines."""
    texts = {
        (kind, lines): _function(f"{kind}_{lines}", lines, branchy=kind == "branchy")
        for kind in ("short", "branchy")
        for lines in (20, 2000)
    }
    functions: dict[str, dict[tuple[str, int], Callable[[int], int]]] = {"plain": {}, "traced": {}}
    for directory, found in functions.items():
        (setting.directory / directory).mkdir()
        for key, text in texts.items():
            path = setting.directory / directory / f"{key[0]}{key[1]}.py"
            path.write_text(text, "utf-8")
            names: dict[str, Any] = {}
            exec(compile(text, path, "exec"), names)
            found[key] = names[f"{key[0]}_{key[1]}"]
    tool = Local(setting.directory / "traced")

    def turns(function: Callable[[int], int], times: int) -> int:
        began = thread_time_ns()
        for x in range(times):
            tool.words[0] = 0
            function(x)
        return thread_time_ns() - began

    def one_round() -> dict[str, float]:
        found = {}
        for key in texts:
            times = setting.times(100_000 // key[1])
            plain, traced = functions["plain"][key], functions["traced"][key]
            before = turns(plain, times)
            tool.on()
            traced(0)
            active = turns(traced, times)
            tool.words[0] = 0
            for x in range(times):
                traced(x)
            events = tool.words[0]
            tool.off()
            base = (before + turns(plain, times)) / 2
            found[f"{key[0]} {key[1]}"] = (active - base) / events
        return found

    return one_round


CELLS: dict[str, Callable[[Setting], Round]] = {
    **{f"collect {w}": lambda s, w=w: collecting(s, w) for w in WORKLOADS},  # type: ignore[misc]
    **{f"coverage {w}": lambda s, w=w: covered(s, w) for w in WORKLOADS},  # type: ignore[misc]
    "idle": lambda s: idle(s, ended=False),
    "ended": lambda s: idle(s, ended=True),
    "annotation": annotation,
    "section": section,
    "find": find,
    "length": length,
    **processes.CELLS,
    **compiled.CELLS,
    **reading.CELLS,
    **symbols.CELLS,
}


def main(cell: str, directory: str, floor: str, quick: str) -> None:
    """Set the cell up; then print one round, in JSON, for each line of standard input."""
    one_round = CELLS[cell](Setting(Path(directory), Path(floor), quick == "quick"))
    one_round()
    for _ in sys.stdin:
        print(json.dumps(one_round()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
