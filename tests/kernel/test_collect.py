"""collect(kernel=True) and `pykcov run --kernel`: Python's lines and the kernel's functions in one order."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest

import pykcov
from conformance.marks import DEVICE, PATIENCE
from kernel.names import system_call
from kernel.usb import Bus
from pykcov import inventory

GETPPID, GETSID, GETPGID = "sys_getppid", "sys_getsid", "sys_getpgid"


def steps(trace: pykcov.Trace, *functions: str) -> list[str]:
    """The lines of this file's functions and the system calls among ``functions``, in order, no repeats in a row."""
    names = {}
    for pc, place in trace.places.items():
        if place.kind == "line" and place.file == __file__:
            names[pc] = LINES[place.line - 1].partition("#")[2].strip()
        elif place.kind == "kernel":
            names[pc] = symbol_of(pc) if symbol_of(pc) in functions else ""
    found = (names.get(pc, "") for pc in trace.pcs)
    return [name for name, _ in groupby(name for name in found if name)]


LINES = Path(__file__).read_text("utf-8").splitlines()


def symbol_of(pc: int) -> str:
    from pykcov.linux import kallsyms

    symbol = kallsyms.running().symbol(pc)
    return "" if symbol is None else system_call(symbol.name)


def two_calls() -> None:
    os.getppid()  # first
    x = 1  # second
    os.getsid(x)  # third
    del x  # fourth


def test_what_the_kernel_did_comes_behind_the_line_that_made_the_call() -> None:
    two_calls()
    with pykcov.collect(kernel=True) as c:
        two_calls()
    assert steps(c.trace, GETPPID, GETSID) == [
        "first", GETPPID, "second", "third", GETSID, "fourth"
    ]  # fmt: skip
    assert c.trace.dropped == 0
    assert c.trace.probe.endswith(", kcov")


def test_python_and_kernel_are_told_apart() -> None:
    with pykcov.collect(kernel=True) as c:
        two_calls()
    trace = c.trace
    kinds = {place.kind for place in trace.places.values()}
    assert kinds == {"entry", "line", "kernel"}
    assert set(trace.lines()) == set(trace.functions()) == {__file__}
    kernel = trace.kernel()
    assert "kernel/sys.c" in kernel
    assert not set(kernel) & set(trace.lines())
    assert sum(count.events for count in trace.files().values()) == len(trace)
    assert all(pc in trace.places for pc in trace), "every PC has a name"


def test_without_kernel_the_trace_has_none_of_it() -> None:
    with pykcov.collect(kernel=True) as outer:
        with pykcov.collect() as inner:
            two_calls()
    assert not inner.trace.kernel()
    assert outer.trace.kernel()
    lines = ["first", "second", "third", "fourth"]
    assert steps(inner.trace) == lines
    assert steps(outer.trace) == lines


def test_of_two_blocks_the_inner_one_has_what_is_in_it() -> None:
    with pykcov.collect(kernel=True) as outer:
        os.getppid()
        with pykcov.collect(kernel=True) as inner:
            two_calls()
        os.getpgid(0)
    assert steps(inner.trace, GETPPID, GETSID, GETPGID)[-2:] == [GETSID, "fourth"]
    assert GETPGID not in steps(inner.trace, GETPGID)
    assert steps(outer.trace, GETPPID, GETSID, GETPGID)[:2] == [GETPPID, "first"]
    assert steps(outer.trace, GETPPID, GETSID, GETPGID)[-1] == GETPGID


def test_what_pykcov_does_itself_is_not_the_program() -> None:
    with pykcov.collect(kernel=True, area_size=512) as c:  # emptied every other moment, into a file
        for _ in range(20):
            two_calls()
    assert (
        steps(c.trace, GETPPID, "sys_ioctl", "sys_fcntl", "sys_openat", "sys_ftruncate").count(
            GETPPID
        )
        == 20
    )
    assert not {"ksys_write", "sys_ioctl", "sys_fcntl", "kcov_ioctl"} & {
        symbol_of(pc) for pc in c.trace.places if c.trace.places[pc].kind == "kernel"
    }


def in_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def in_pool(function: Callable[[], None]) -> None:
    POOL.submit(function).result()


POOL = ThreadPoolExecutor(1)


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    POOL.submit(int).result()  # its thread is there before any block
    yield
    POOL.shutdown()


@pytest.mark.parametrize("where", [in_thread, in_pool])
def test_threads_that_work_for_the_block_are_collected(
    where: Callable[[Callable[[], None]], None],
) -> None:
    with pykcov.collect(kernel=True) as c:
        where(two_calls)
    assert "first" in steps(c.trace, GETPPID, GETSID)
    (one,) = [s for s in c.trace.sections if GETSID in names(c.trace, s.start, s.end)]
    assert one.tid != threading.get_native_id()


def names(trace: pykcov.Trace, start: int, end: int) -> set[str]:
    return {symbol_of(pc) for pc in trace.pcs[start:end]}


def test_threads_that_work_for_others_are_not() -> None:
    stop = threading.Event()

    def other() -> None:
        while not stop.is_set():
            os.getpgid(0)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with pykcov.collect(kernel=True) as c:
            for _ in range(50):
                two_calls()
    finally:
        stop.set()
        thread.join()
    assert GETPGID not in steps(c.trace, GETPGID)


def test_of_tasks_that_take_turns_each_has_its_own() -> None:
    """The kernel's stream has no marks, and neither task's last call of a turn is followed by an event of its own."""

    async def turns(call: Callable[[int], int]) -> pykcov.Trace:
        with pykcov.collect(kernel=True) as c:
            for _ in range(10):
                await pause(call)
        return c.trace

    async def pause(call: Callable[[int], int]) -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        call(0), await future

    async def both() -> tuple[pykcov.Trace, pykcov.Trace]:
        return tuple(await asyncio.gather(turns(os.getsid), turns(os.getpgid)))

    first, second = asyncio.run(both())
    assert set(steps(first, GETSID, GETPGID)) & {GETSID, GETPGID} == {GETSID}
    assert set(steps(second, GETSID, GETPGID)) & {GETSID, GETPGID} == {GETPGID}


def test_a_forked_child_is_collected_too() -> None:
    with pykcov.collect(kernel=True) as c:
        pid = os.fork()
        if not pid:
            two_calls()
            os._exit(0)
        os.waitpid(pid, 0)
    children = [s for s in c.trace.sections if s.pid == pid]
    assert GETSID in set().union(*(names(c.trace, s.start, s.end) for s in children))


def test_a_thread_that_has_a_device_of_its_own_is_told_so() -> None:
    with pykcov.open(DEVICE) as device:
        device.init_trace(512)
        device.enable()
        with pytest.raises(
            pykcov.KcovError, match="this thread has enabled another device"
        ) as caught:
            with pykcov.collect(kernel=True):
                pass
        assert caught.value.errno == errno.EBUSY
        device.disable()
    with pykcov.collect(kernel=True):  # and then it works
        pass


def test_a_worker_that_cannot_use_kcov_has_its_lines_and_a_warning_once() -> None:
    """The annotation does not harm it: here the worker's thread has a device of its own enabled."""
    device = pykcov.open(DEVICE)
    device.init_trace(512)
    POOL.submit(device.enable).result()
    try:
        with pytest.warns(pykcov.KcovWarning, match="kernel's work is not collected") as said:
            for _ in range(2):
                with pykcov.collect(kernel=True) as c:
                    POOL.submit(two_calls).result()
                assert steps(c.trace, GETSID) == ["first", "second", "third", "fourth"]
        assert len(said) == 1
    finally:
        POOL.submit(device.disable).result()
        device.close()


def test_the_thread_of_the_block_is_as_it_was() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pykcov.collect(kernel=True):
            two_calls()
        with pykcov.open(DEVICE) as device:
            device.init_trace(512)
            device.enable()  # EBUSY if the block had left it enabled
            device.disable()


def test_the_work_of_a_usb_bus_is_a_section_of_its_handle() -> None:
    first, second = Bus(0), Bus(1)
    handle = pykcov.remote_handle(pykcov.SUBSYSTEM_USB, first.number)
    with pykcov.collect(handle, kernel=True) as c:
        second.cycle()
    assert "hub_event" not in {symbol_of(pc) for pc in c.trace.places}
    with pykcov.collect(handle, kernel=True) as c:
        first.cycle()
    (section,) = [s for s in c.trace.sections if s.handle == handle]
    assert "hub_event" in names(c.trace, section.start, section.end)
    assert section.thread == "kernel"


def test_run_prints_and_saves_both_and_collects_a_worker_by_the_common_handle(
    tmp_path: Path,
) -> None:
    (tmp_path / "prog.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})\n"
        "from contextlib import closing\n"
        "from kernel.vhost import SEND, Vhost\n"
        "with closing(Vhost()) as vhost:\n"
        "    vhost.kick(SEND)\n"
        "os.getppid()\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pykcov", "run", "--kernel", "-o", "one.trace", "prog.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "prog.py" in done.stderr and "fs/read_write.c" in done.stderr
    trace = pykcov.Trace.load(tmp_path / "one.trace")
    assert GETPPID in {symbol_of(pc) for pc in trace.places}
    (section,) = [s for s in trace.sections if s.thread == "kernel"]
    assert "handle_tx_kick" in names(trace, section.start, section.end)


@pytest.mark.parametrize("probes", ["--compiled", "--events"])
def test_run_has_the_kernels_work_behind_its_line_by_either_kind_of_probe(
    tmp_path: Path, probes: str
) -> None:
    (tmp_path / "prog.py").write_text("import os\nos.getppid()\nx = 1\nos.getsid(x)\n")
    command = [sys.executable, "-m", "pykcov", "run", "--kernel", probes, "-q", "prog.py"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE)
    trace = pykcov.Trace.load(tmp_path / "pykcov.trace")
    names = {
        pc: str(place.line) if place.kind == "line" else symbol_of(pc)
        for pc, place in trace.places.items()
        if place.kind == "line" or symbol_of(pc) in (GETPPID, GETSID)
    }
    found = [name for name, _ in groupby(names[pc] for pc in trace.pcs if pc in names)]
    assert found == ["1", "2", GETPPID, "3", "4", GETSID]


def test_run_ends_as_the_program_does_and_passes_signals_on(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "pykcov", "run", "--kernel", "-q", "prog.py"], cwd=tmp_path, stdout=subprocess.PIPE
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.terminate()
    assert running.wait(60) == 9
    running.stdout.close()
    assert (tmp_path / "pykcov.trace").exists()
    (tmp_path / "prog.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run(
        [sys.executable, "-m", "pykcov", "run", "--kernel", "-q", "prog.py"], cwd=tmp_path, check=False, timeout=PATIENCE
    )  # fmt: skip
    assert done.returncode == -9
    inventory.clean()  # what the killed one has left
