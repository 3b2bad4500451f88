"""What compiled probes cost: asleep, while this task collects, while another does; waking, sleeping, importing."""

from __future__ import annotations

import importlib
import io
import itertools
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from time import thread_time_ns

from setting import AREA, Round, Setting, as_installed
from workloads import WORKLOADS, Copy, no_words, timed

import pykcov
from pykcov import _recorder

ALONE = [name for name in WORKLOADS if name != "threads"]
SITES = 10_000


def collecting(setting: Setting, name: str) -> Round:
    """A workload with compiled probes in its three states, as ratios to plain; ns for an event."""
    include = [str(setting.directory / "probed" / "*")]
    pykcov.instrument(include=include)
    probed, plain = Copy(setting.directory, "probed"), Copy(setting.directory, "plain")
    workload = WORKLOADS[name]
    repeat = setting.times(workload.repeat)
    device = pykcov.open(include=include)
    device.init_trace(AREA)
    words = device.mmap()
    events = 0
    assert probed.chunk(workload)() == plain.chunk(workload)()
    rounds = itertools.count()

    def measure(copy: Copy, mine: memoryview) -> int:
        return timed(copy.chunk(workload), repeat, mine)

    def asleep() -> int:
        return measure(probed, no_words())

    def here() -> int:
        nonlocal events
        if name == "asyncio":  # what the tasks execute that are created in it is collected too
            with pykcov.collect(include=include) as block:
                spent = measure(probed, no_words())
            events = len(block.trace)
        else:
            device.enable()
            spent = measure(probed, words)
            device.disable()
            events = words[0] * repeat
        return spent

    def elsewhere() -> int:
        ready, done = threading.Event(), threading.Event()

        def other() -> None:
            device.enable()
            ready.set()
            done.wait()
            device.disable()

        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        spent = measure(probed, no_words())
        done.set()
        thread.join()
        return spent

    def one_round() -> dict[str, float]:
        found = {}
        states = [("asleep", asleep), ("here", here), ("elsewhere", elsewhere)]
        turn = next(rounds) % 3
        before = measure(plain, no_words())
        for state, spend in states[turn:] + states[:turn]:
            spent = spend()
            after = measure(plain, no_words())
            found[state] = 2 * spent / (before + after)
            if state == "here":
                found["ns"] = (spent - (before + after) / 2) / events
            before = after
        return found

    return one_round


def waking(setting: Setting) -> Round:
    """µs to wake 10,000 sites and let them sleep again."""
    lines = "".join(f"    x = f(x, {i})\n" for i in range(20))
    text = "".join(f"def f{i}(f, x):\n{lines}    return x\n" for i in range(SITES // 21))
    (setting.directory / "many.py").write_text(text, "utf-8")
    pykcov.instrument(include=[str(setting.directory / "many.py")])
    sys.path.insert(0, str(setting.directory))
    importlib.import_module("many")
    sites = _recorder.count_sites()[0]
    times = setting.times(100)

    def one_round() -> dict[str, float]:
        began = thread_time_ns()
        for _ in range(times):
            _recorder.wake(True)
            _recorder.wake(False)
        return {"both": (thread_time_ns() - began) / times / 1000 * SITES / sites}

    return one_round


def importing(setting: Setting) -> Round:
    """ms for 1,000 lines of json, html and tomllib: plain from its .pyc, with probes the first time and again.

    Each in a process of its own: what one has loaded before, it knows.
    """
    cache = setting.directory / "cache"
    environment = as_installed() | {"XDG_CACHE_HOME": str(cache)}
    copies = {name: Copy(setting.directory, name) for name in ("plain", "probed", "before")}
    lines = sum(
        len(path.read_text("utf-8").splitlines())
        for path in copies["plain"].directory.rglob("*.py")
    )

    def load(name: str) -> float:
        command = [sys.executable, __file__, setting.directory, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout) / 1e6 / lines * 1000

    def one_round() -> dict[str, float]:
        shutil.rmtree(cache, ignore_errors=True)
        found = {"first": load("probed")}
        found |= {"plain": load("plain"), "cached": load("probed")}
        return found

    return one_round


COMPARING = """
def dense(n):
    found = 0
    for i in range(n):
        if i == 7:
            found += 1
        if i < 3 or i >= n - 1:
            found += 2
        if i != found:
            found = i & 15
    return found


def sort(n):
    numbers = [i * 7919 % 101 for i in range(n)]
    for i in range(1, n):
        number, at = numbers[i], i
        while at > 0 and numbers[at - 1] > number:
            numbers[at] = numbers[at - 1]
            at -= 1
        numbers[at] = number
    return numbers[n // 2]
"""
COMPARED = {"sort": 150, "dense": 5_000}


def comparing(setting: Setting) -> Round:
    """Insertion sort, and nothing but comparisons, with probes for operands, as ratios to plain."""
    modules = {}
    pykcov.instrument(include=[str(setting.directory / "seen.py")], comparisons=True)
    sys.path.insert(0, str(setting.directory))
    for name in ("unseen", "seen"):
        (setting.directory / f"{name}.py").write_text(COMPARING, "utf-8")
        modules[name] = importlib.import_module(name)
    device = pykcov.open(include=[str(setting.directory / "seen.py")])
    device.init_trace(AREA)
    words = device.mmap()
    times = setting.times(20)

    def measure(module: str, what: str, mine: memoryview) -> int:
        function = getattr(modules[module], what)
        return timed(lambda: int(function(COMPARED[what])), times, mine)

    def one_round() -> dict[str, float]:
        found = {}
        for what in COMPARED:
            before = measure("unseen", what, no_words())
            device.enable(pykcov.TRACE_CMP)
            spent = measure("seen", what, words)
            device.disable()
            plain = (before + measure("unseen", what, no_words())) / 2
            found[what] = spent / plain
            found[f"{what} idle"] = measure("seen", what, no_words()) / plain
            found[f"{what} ns"] = (spent - plain) / (words[0] * times)
        return found

    return one_round


def beside_atheris(setting: Setting, name: str, *, ours: bool) -> Round:
    """A workload with branches or lines, and comparisons, recorded by pykcov or by Atheris, as a ratio to plain."""
    plain = Copy(setting.directory, "plain")
    if ours:
        include = [str(setting.directory / "probed" / "*")]
        pykcov.instrument(include=include, comparisons=True)
        probed = Copy(setting.directory, "probed")
    else:
        try:
            import atheris
        except ImportError:  # it has no wheel for this Python
            return lambda: {"time": float("nan")}
        told = redirect_stderr(io.StringIO())  # a line for each module
        with told, atheris.instrument_imports(include=["probed"]):
            probed = Copy(setting.directory, "probed")
    workload = WORKLOADS[name]
    repeat = setting.times(workload.repeat)
    assert probed.chunk(workload)() == plain.chunk(workload)()

    def one_round() -> dict[str, float]:
        before = timed(plain.chunk(workload), repeat, no_words())
        with ExitStack() as stack:
            if ours:
                stack.enter_context(pykcov.collect(include=include))
                stack.enter_context(pykcov.collect(include=include, mode=pykcov.TRACE_CMP))
            spent = timed(probed.chunk(workload), repeat, no_words())
        after = timed(plain.chunk(workload), repeat, no_words())
        return {"time": 2 * spent / (before + after)}

    return one_round


BESIDE = ["loop", "calls", "json", "html", "toml"]

CELLS = {
    "comparing": comparing,
    **{f"both {w}": lambda s, w=w: beside_atheris(s, w, ours=True) for w in BESIDE},  # type: ignore[misc]
    **{f"atheris {w}": lambda s, w=w: beside_atheris(s, w, ours=False) for w in BESIDE},  # type: ignore[misc]
    **{f"compiled {w}": lambda s, w=w: collecting(s, w) for w in ALONE},  # type: ignore[misc]
    "waking": waking,
    "importing": importing,
}


def import_copy(directory: str, name: str) -> None:
    """Import a copy of the programs, and say how many ns that took."""
    pykcov.instrument(include=[str(Path(directory) / "probed" / "*")])
    sys.path.insert(0, directory)
    importlib.import_module("before.programs")  # and what they import of the standard library
    began = thread_time_ns()
    importlib.import_module(f"{name}.programs")
    print(thread_time_ns() - began)


if __name__ == "__main__":
    import_copy(*sys.argv[1:])
