"""What is measured of other processes: sections for a listener elsewhere, moves, shared memory, start-up.

Run as a program it is one of those processes: `processes.py ROLE DIRECTORY` does what each line of its
input says, and answers with a line.
"""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

from setting import (
    AREA,
    HANDLE,
    Round,
    Setting,
    as_installed,
    empty_function,
    per_call,
    start_stop,
    with_remote,
)
from workloads import WORKLOADS, Copy, timed

import pykcov
from pykcov import _recorder, abi, namespace, probes, task
from pykcov.area import Area, Head
from pykcov.remote import find_session
from pykcov.scope import Scope

_PAGES = 1 << 16  # words of an area that is moved: what collect() has


class Helper:
    """Another process of the same namespace."""

    def __init__(self, role: str, directory: Path, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, role, directory, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.hear()

    def tell(self, what: object) -> None:
        """Say a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def hear(self) -> list[int]:
        """Return the numbers of an answer."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"bench: a helper ended with {self._process.wait()}")
        return [int(word) for word in answer.split()]


def elsewhere(setting: Setting) -> Round:
    """A section whose listener is another process."""
    times = setting.times(1_000)
    execute = empty_function(setting.directory)
    listener = Helper("listen", setting.directory, HANDLE)

    def with_events(times: int) -> None:
        for _ in range(times):
            with pykcov.remote(HANDLE):
                execute()

    def one_round() -> dict[str, float]:
        found = {"with": per_call(with_remote, times), "calls": per_call(start_stop, times)}
        found["with events"] = per_call(with_events, times)
        listener.tell("look")
        assert listener.hear()[0] == 2 * times, "not what was recorded"
        return found

    return one_round


def throughput(setting: Setting) -> Round:
    """Sections per second: two processes into two devices, against one into one; and the same without sections.

    Of wall time, which what else the machine does disturbs, and of CPU time, which shows what the two cost each other.
    """
    times = setting.times(4_000)
    handles = (HANDLE, HANDLE + 1)
    # In processes of their own, which sleep meanwhile: a lock's line of cache is shared as it is in real use.
    listeners = [Helper("listen", setting.directory, handle) for handle in handles]
    workers = [Helper("work", setting.directory, handle) for handle in handles]

    def rates(what: str, who: list[Helper]) -> list[float]:
        """Return turns per ns of wall time and of CPU time while all of them are at work, each by its own clocks."""
        for worker in who:
            worker.tell(f"{what} {times if what == 'sections' else 20 * times}")
        answers = [worker.hear() for worker in who]
        return [sum(done / ns[clock] for done, *ns in answers) for clock in range(2)]

    def one_round() -> dict[str, float]:
        found = {}
        for what in ("sections", "loops"):
            before, both, after = (
                rates(what, workers[:1]), rates(what, workers), rates(what, workers[1:])
            )  # fmt: skip
            for clock, kind in enumerate(("", " of CPU time")):
                found[what + kind] = 2 * both[clock] / (before[clock] + after[clock])
        for listener in listeners:
            listener.tell("look")
            # Each worker was at work twice, with two events in a section.
            assert listener.hear()[0] == 4 * times, "not what was recorded"
        return found

    return one_round


def move(setting: Setting) -> Round:
    """The move of a full area into another one, against a copy of as many words: ratio of their bandwidths."""
    times = setting.times(500)
    device = pykcov.open()
    device.init_trace(_PAGES)
    device.remote_enable(area_size=_PAGES, handles=[HANDLE])
    session = find_session(device._key())
    assert session is not None
    source, to = session.get_area(), session.area
    capacity = abi.capacity(_PAGES)
    words = source.words
    for number in range(1, _PAGES):
        words[number] = number
    words[0] = capacity
    source.head[Head.DEVICE] = session.key

    def moves() -> int:
        head = source.head
        began = thread_time_ns()
        for _ in range(times):
            to.words[0] = head[Head.MOVED] = 0
            session.take(source, False)
        return thread_time_ns() - began

    def copies() -> int:
        head = source.head
        began = thread_time_ns()
        for _ in range(times):
            to.words[0] = head[Head.MOVED] = 0
            to.words[1:] = words[1:]
        return thread_time_ns() - began

    def one_round() -> dict[str, float]:
        before, copied, moved = moves(), copies() + copies(), moves()
        to.words[1] = to.words[-1] = 0
        assert moves()
        assert (to.words[0], to.words[1], to.words[-1]) == (capacity, 1, _PAGES - 1)
        return {
            "of copy": copied / (before + moved),
            "GB/s": 2 * 8 * capacity * times / (before + moved),
        }

    return one_round


def recoverable(setting: Setting) -> Round:
    """A workload that records into shared memory, which survives its process, against private memory."""
    copy = Copy(setting.directory, "traced")
    workload = WORKLOADS["loop"]
    chunk, repeat = copy.chunk(workload), setting.times(4 * workload.repeat)
    shared = Area.create(namespace.get(), "area.bench", AREA)
    anonymous = memoryview(mmap.mmap(-1, 8 * AREA)).cast("Q")
    lost = memoryview(bytearray(8)).cast("Q")
    owner = task.current()
    bit = probes.bit(Scope([str(copy.directory)]), branch=False)
    memories = {"shared": shared.words, "private": anonymous}

    def measure(words: memoryview) -> int:
        sink = _recorder.Sink(words, abi.capacity(AREA), lost)
        owner.attach(sink, bit, False)
        probes.arm(abi.TRACE_PC, Scope())
        chunk()
        elapsed = timed(chunk, repeat, words)
        owner.detach(sink, sink.turn)
        assert words[0]
        return elapsed

    turn = itertools.cycle([["shared", "private"], ["private", "shared"]])

    def one_round() -> dict[str, float]:
        first, second = next(turn)
        times = dict.fromkeys(memories, 0)
        for name in (first, second, second, first):
            times[name] += measure(memories[name])
        assert not lost[0]
        return {"of private": times["shared"] / times["private"]}

    return one_round


def startup(setting: Setting) -> Round:
    """CPU time that an inherited environment adds to `python -c pass`, in ms."""
    pairs = setting.times(4)
    environment = as_installed() | {"PYTHONPYCACHEPREFIX": str(setting.directory / "bytecode")}

    def child() -> float:
        process = subprocess.Popen([sys.executable, "-c", "pass"], env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return 1000 * (usage.ru_utime + usage.ru_stime)

    def collected() -> float:
        with pykcov.collect(source=[str(setting.directory)]):
            return child()

    def one_round() -> dict[str, float]:
        plain = added = 0.0
        for _ in range(pairs):
            before, inside, again, after = child(), collected(), collected(), child()
            plain += before + after
            added += inside + again - before - after
        return {"plain": plain / (2 * pairs), "added": added / (2 * pairs)}

    return one_round


CELLS = {
    "elsewhere": elsewhere,
    "throughput": throughput,
    "move": move,
    "recoverable": recoverable,
    "startup": startup,
}


# -- the other processes


def listen(directory: str, handle: str) -> None:
    """Listen; say how much there is since the last time, for each line of input."""
    with ExitStack() as stack:
        device = stack.enter_context(pykcov.open(source=[directory]))
        device.init_trace(AREA)
        device.remote_enable(area_size=1024, handles=[int(handle)])
        words = device.mmap()
        print(0, flush=True)
        for _ in sys.stdin:
            count, words[0] = words[0], 0
            print(count, flush=True)  # and whoever hears it goes on
        device.disable()


def work(directory: str, handle: str) -> None:
    """Do as many sections, or turns of a loop without any, as a line of input says; say how many and the ns it took."""
    own = Path(directory) / f"worker{handle}"
    own.mkdir()
    execute = empty_function(own)
    number = int(handle)
    print(0, flush=True)
    for line in sys.stdin:
        what, times = line.split()
        turns = range(int(times))
        began, busy = perf_counter_ns(), thread_time_ns()
        if what == "sections":
            for _ in turns:
                with pykcov.remote(number):
                    execute()
        else:
            for _ in turns:
                execute()
        print(len(turns), perf_counter_ns() - began, thread_time_ns() - busy, flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
