"""fork() at bad moments: while another thread holds a lock, in a section, in a traced asyncio task. Real forks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pykcov
from integration.forks import end, start
from pykcov import inventory, namespace, probes, registry

HANDLE = 0xF0
HERE = [__file__]

# 3.12 warns of forks in processes with threads: that is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def parents() -> int:
    return 1


def childs() -> int:
    return 2


def grandchilds() -> int:
    return 3


def functions(trace: pykcov.Trace) -> Counter[str]:
    """Return how often each function of this file was entered, or had a line executed, by name."""
    found = Counter(pykcov.symbolize(pc).function for pc in trace.pcs)
    return Counter({name: count for name, count in found.items() if name in NAMES})


NAMES = ("parents", "childs", "grandchilds")


@contextlib.contextmanager
def listening(*handles: int, area: int = 4096) -> Iterator[pykcov.Device]:
    with pykcov.open(include=HERE, sections=64) as device:
        device.init_trace(area)
        device.remote_enable(area_size=256, handles=handles)
        try:
            yield device
        finally:
            device.disable()


@contextlib.contextmanager
def held(lock: Any) -> Iterator[Callable[[], None]]:
    """Another thread holds the lock in the block, or until the block calls what it gets."""
    taken, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            give_back.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()

    def release() -> None:
        give_back.set()
        thread.join()

    try:
        yield release
    finally:
        release()


LOCKS: dict[str, Callable[[pykcov.Device], Any]] = {
    "registry": lambda _: namespace.get().registry_lock,
    "code map": lambda _: namespace.get().codemap_lock,
    "device": lambda device: registry.get().device_lock(device.number),
    "another device": lambda device: registry.get().device_lock(device.number + 1),
    "opening": lambda _: namespace.opening,
    "probes": lambda _: probes._lock,
}


def collect_all(handle: int) -> None:
    """Do all that takes a lock: a new code object, a section, a device, a collect()."""
    names: dict[str, Any] = {}
    exec(compile("def new():\n    return 1\n", __file__, "exec"), names)
    with pykcov.remote(handle):
        childs()
    with pykcov.open(include=HERE) as device:
        device.init_trace(64)
        device.enable()
        childs()
        names["new"]()
        device.disable()
        assert functions(device.trace())["childs"] == 2
    with pykcov.collect(include=HERE) as collection:
        childs()
    assert functions(collection.trace)["childs"] == 2


def test_a_child_does_not_go_on_without_a_lock_that_its_parent_could_not_get() -> None:
    """What is not recorded for a second, lest the program waits again, is the parent's."""
    with listening(HANDLE), held(namespace.get().codemap_lock) as release:
        names: dict[str, Any] = {}
        exec(compile("def new():\n    return 1\n", __file__, "exec"), names)
        with pytest.warns(pykcov.KcovWarning, match="code map"):
            with pykcov.remote(HANDLE):
                names["new"]()
        free, freed = os.pipe()

        def body() -> None:
            os.close(freed)
            assert os.read(free, 1) == b""
            collect_all(HANDLE)

        child = start(body)
        release()
        os.close(freed)
        end(child)
        os.close(free)
    while time.monotonic() < probes.events._stuck_until:
        time.sleep(0.01)


@pytest.mark.parametrize("which", LOCKS)
def test_a_child_does_not_inherit_a_lock_that_another_thread_held(which: str) -> None:
    with listening(HANDLE) as device:
        with pykcov.remote(HANDLE):
            parents()
        free, freed = os.pipe()

        def body() -> None:
            os.close(freed)
            assert os.read(free, 1) == b""  # the parent has given the lock back
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                collect_all(HANDLE)

        with held(LOCKS[which](device)) as release:
            child = start(body)
            release()
        os.close(freed)
        end(child)
        os.close(free)
        with pykcov.remote(HANDLE):
            parents()
        device.sync()
        assert functions(device.trace()) == {"parents": 4, "childs": 2}
        assert device.dropped == 0


@pytest.mark.parametrize("which", ["registry", "device"])
def test_a_child_whose_parent_keeps_a_lock_ends_all_the_same(which: str) -> None:
    """It is the parent's: verbs say so after a while, and annotations never wait for ever."""
    with listening(HANDLE) as device:

        def body() -> None:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                with pykcov.remote(HANDLE):
                    childs()
            for warning in seen:
                assert issubclass(warning.category, pykcov.KcovWarning)
            with contextlib.suppress(pykcov.KcovError):
                pykcov.open().close()

        with held(LOCKS[which](device)):
            end(start(body))
        device.sync()
        assert functions(device.trace())["childs"] + device.dropped == 2, (
            "told or dropped, not lost"
        )


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "os._exit"])
def test_a_fork_inside_a_section_leaves_the_section_to_the_parent(leaves: bool) -> None:
    """As in the kernel: a new task collects nothing; and what it does with its copy of the section harms nobody."""
    with listening(HANDLE) as device:

        def body() -> None:
            childs()  # in nobody's section
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                pykcov.remote_stop()
            assert len(seen) == 1, "no remote_start in this task"
            with pykcov.remote(HANDLE):
                grandchilds()

        with pykcov.remote(HANDLE):
            pykcov.remote_start(HANDLE)
            parents()
            end(start(body, leaves=leaves))
            parents()
            pykcov.remote_stop()
        trace = device.trace()
        assert functions(trace) == {"parents": 4, "grandchilds": 2}
        assert {record.pid for record in trace.sections} > {os.getpid()}


def test_a_child_that_leaves_the_block_of_its_parents_section_ends_nothing() -> None:
    with listening(HANDLE) as device:
        with pykcov.remote(HANDLE):
            parents()
            child = os.fork()
            childs()
        if child == 0:
            with pykcov.remote(HANDLE):
                grandchilds()
            os._exit(0)
        end(child)
        # The parent's own call of childs() is in its section; the child's is in none.
        assert functions(device.trace()) == {"parents": 2, "childs": 2, "grandchilds": 2}


def test_a_child_that_is_forked_while_a_section_begins_leaves_it_to_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a signal handler. The child used a task that was freed, and took the parent's words for its own."""
    original, children = threading.current_thread, [-1]

    def forking() -> threading.Thread:
        if children == [-1]:
            children[:] = [os.fork()]
        return original()

    def job() -> None:
        with pykcov.remote(HANDLE):
            if children != [0]:
                parents()
                end(children[0])
                parents()
            else:
                time.sleep(0.1)  # until the parent has recorded
        if children == [0]:
            with pykcov.remote(HANDLE):
                childs()
            os._exit(0)

    with pykcov.collect(HANDLE, include=HERE) as collection:
        monkeypatch.setattr(threading, "current_thread", forking)
        contextvars.Context().run(job)
    assert functions(collection.trace) == {"parents": 4, "childs": 2}


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "os._exit"])
def test_what_a_fork_inside_collect_does_is_collected_too(leaves: bool) -> None:
    with pykcov.collect(include=HERE) as collection:
        parents()

        def body() -> None:
            childs()
            end(start(grandchilds, leaves=leaves))

        end(start(body, leaves=leaves))
        parents()
    assert functions(collection.trace) == {"parents": 4, "childs": 2, "grandchilds": 2}
    assert collection.trace.dropped == 0
    assert len({record.pid for record in collection.trace.sections}) == 3


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "os._exit"])
def test_a_fork_in_a_traced_asyncio_task_belongs_to_that_tasks_request(leaves: bool) -> None:
    """Two requests interleave on one thread; one of them forks in the middle."""
    forked = asyncio.Event()
    traces: dict[str, pykcov.Trace] = {}

    async def one() -> None:
        with pykcov.collect(include=HERE) as collection:
            parents()
            await asyncio.sleep(0)
            child = start(childs, leaves=leaves)
            forked.set()
            await asyncio.to_thread(end, child)
            parents()
        traces["one"] = collection.trace

    async def other() -> None:
        with pykcov.collect(include=HERE) as collection:
            grandchilds()
            await forked.wait()
            grandchilds()
        traces["other"] = collection.trace

    async def both() -> None:
        await asyncio.gather(one(), other())

    asyncio.run(both())
    assert functions(traces["one"]) == {"parents": 4, "childs": 2}
    assert functions(traces["other"]) == {"grandchilds": 4}


def test_an_event_loop_in_a_child_of_a_traced_task_is_collected() -> None:
    async def work() -> None:
        await asyncio.create_task(asyncio.to_thread(childs))

    def body() -> None:
        asyncio.events._set_running_loop(None)
        asyncio.run(work())

    async def main() -> None:
        with pykcov.collect(include=HERE) as collection:
            child = start(body)
            await asyncio.to_thread(end, child)
        traces.append(collection.trace)

    traces: list[pykcov.Trace] = []
    asyncio.run(main())
    assert functions(traces[0])["childs"] == 2


def test_forks_while_other_threads_record_and_move_are_exact_on_both_sides() -> None:
    """Threads are anywhere when the process forks: in an append, in a move, in the registry."""
    children = 20
    with listening(HANDLE, area=1 << 20) as device:
        stop = threading.Event()
        turns = [0, 0]

        def work(number: int) -> None:
            while not stop.is_set():
                with pykcov.remote(HANDLE):
                    parents()
                turns[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        started = [start(lambda: collect_all(HANDLE)) for _ in range(children)]
        for child in started:
            end(child)
        stop.set()
        for thread in threads:
            thread.join()
        device.sync()
        found = functions(device.trace())
        assert found["childs"] == 2 * children
        assert found["parents"] + device.dropped == 2 * sum(turns)


def test_a_fork_ends_nothing_of_what_other_threads_of_the_parent_own() -> None:
    """In the child those threads have ended, and with them their tasks; the devices are the parent's."""
    ready, forked = threading.Event(), threading.Event()
    traces: list[pykcov.Trace] = []

    def own() -> None:
        with listening(HANDLE) as remote, pykcov.open(include=HERE) as local:
            local.init_trace(64)
            with pykcov.remote(HANDLE):
                local.enable()
                ready.set()
                forked.wait()
                parents()
                local.disable()
            traces.extend((local.trace(), remote.trace()))

    thread = threading.Thread(target=own)
    thread.start()
    ready.wait()
    before = inventory.read().devices
    end(start(lambda: None))
    after = inventory.read().devices
    forked.set()
    thread.join()
    assert after == before
    assert [functions(trace) for trace in traces] == [{"parents": 2}] * 2


def test_a_child_leaves_the_parents_devices_and_files_alone() -> None:
    with listening(HANDLE) as device:
        before = inventory.read().devices
        end(start(lambda: None))
        child = start(device.close)
        end(child)
        assert inventory.read().devices == before
        with pykcov.remote(HANDLE):
            parents()
        assert functions(device.trace()) == {"parents": 2}


@pytest.mark.parametrize("killed", [True, False])
def test_a_device_that_was_closed_while_a_child_had_it_enabled_is_freed_after_the_childs_end(
    killed: bool,
) -> None:
    """Its slot once stayed taken until its opener ended, and its object for ever."""
    enabled, said = os.pipe()
    waits, go = os.pipe()
    device = pykcov.open(include=HERE)
    device.init_trace(512)

    def body(device: pykcov.Device) -> None:
        device.enable()
        os.write(said, b"x")
        os.read(waits, 1)
        device.disable()

    child = start(functools.partial(body, device))
    os.read(enabled, 1)
    device.close()
    if killed:
        os.kill(child, signal.SIGKILL)
    os.write(go, b"x")
    os.waitpid(child, 0)
    for fd in (enabled, said, waits, go):
        os.close(fd)
    gone = weakref.ref(device)
    number = device.number
    del device
    with pykcov.open() as other:
        other.init_trace(512)
        assert [found.number for found in inventory.read().devices] == [other.number]
        assert other.number == number
    gc.collect()
    assert gone() is None


def test_a_device_that_was_closed_while_enabled_is_forgotten_when_its_task_has_ended() -> None:
    """Its object was once kept for ever."""

    def body() -> weakref.ref[pykcov.Device]:
        device = pykcov.open(include=HERE)
        device.init_trace(512)
        device.enable()
        device.close()
        return weakref.ref(device)

    found: list[weakref.ref[pykcov.Device]] = []
    thread = threading.Thread(target=lambda: found.append(body()))
    thread.start()
    thread.join()
    end = time.monotonic() + 10
    while found[0]() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert found[0]() is None


def test_the_lock_of_an_inherited_device_is_not_that_of_the_parents_threads() -> None:
    """Not for a thread of the child either that has the identifier of the one that held it."""
    with pykcov.open(include=HERE) as device:
        device.init_trace(64)
        free, freed = os.pipe()

        def body() -> None:
            os.close(freed)
            found: list[str] = []

            def enable() -> None:
                try:
                    device.enable()
                except pykcov.KcovError as error:
                    found.append(str(error))

            for _ in range(2):
                thread = threading.Thread(target=enable)
                thread.start()
                thread.join()
                os.read(free, 1)
            assert len(found) == 1 and "another process has kept its lock" in found[0], found

        with held(registry.get().device_lock(device.number)) as release:
            child = start(body)
            time.sleep(2.5)  # longer than the child waits
            release()
        os.close(freed)
        end(child)
        os.close(free)


STARVED = """
import os, resource, sys
import pykcov
from pykcov import namespace

device = pykcov.open(include=[__file__])
device.init_trace(64)
space = namespace.get()
before = space.names()
spare = os.open(os.devnull, os.O_RDONLY)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
child = os.fork()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
if not child:
    with pykcov.remote(1):
        pass
    try:
        device.enable()
    except pykcov.KcovError as error:
        assert "could not open its files when it was forked" in str(error), error
    else:
        os._exit(1)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert space.names() == before, space.names()
device.enable()
device.disable()
"""


def test_a_child_that_cannot_open_its_own_files_leaves_its_parents_alone(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(STARVED)
    done = subprocess.run(
        [sys.executable, program],
        env=os.environ | {"PYKCOV_NAMESPACE": f"starved-{os.getpid()}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
