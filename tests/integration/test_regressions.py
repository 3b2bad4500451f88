"""What once broke, each as the smallest program that showed it."""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pykcov
from integration.commands import run, write
from pykcov import _recorder, probes, task
from pykcov.area import RECORD_WORDS, Head
from pykcov.carry import jobs
from pykcov.probes.source import analyse
from pykcov.remote import Section
from pykcov.scope import Scope


def steps(trace: pykcov.Trace) -> set[str]:
    return {pykcov.symbolize(pc).function for pc in trace}


def mine() -> int:
    return 1


def foreign() -> int:
    return 2


def test_a_pools_worker_is_no_section_of_who_gave_it_its_first_job() -> None:
    """The worker's first task was made after it had inherited: its section stayed open between jobs."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(foreign).result()  # the worker is there before
        with pykcov.collect(include=[__file__]) as collection:
            pool.submit(mine).result()
            other = threading.Thread(target=lambda: pool.submit(foreign).result())
            contextvars.Context().run(other.start)  # somebody else
            other.join()
    assert "mine" in steps(collection.trace)
    assert "foreign" not in steps(collection.trace)


def test_a_context_whose_first_act_is_an_annotation_is_collected_all_the_same() -> None:
    """remote_start() made the context's task known, and the collection that caused it was not told."""
    with pykcov.collect(include=[__file__]) as collection:
        context = contextvars.copy_context()
        context.run(pykcov.remote_start, 0x77)
        context.run(mine)
        context.run(pykcov.remote_stop)
    assert "mine" in steps(collection.trace)


def test_a_unit_that_is_replaced_is_freed_once() -> None:
    """PyCode_SetExtra frees what was there; freeing it again corrupted the heap."""

    def function() -> None: ...

    first, second = _recorder.Unit(), _recorder.Unit()
    before = sys.getrefcount(first)
    _recorder.set_unit(function.__code__, first)
    assert sys.getrefcount(first) == before + 1
    _recorder.set_unit(function.__code__, second)
    assert sys.getrefcount(first) == before


def test_threads_that_begin_at_once_lose_no_lines_and_no_sections(tmp_path: Path) -> None:
    """A unit looked armed before its events were set; two threads gave two areas one name; each thread opened a
    code map of its own.
    """
    names = [f"f{n}" for n in range(100)]
    source = "\n".join(f"def {name}(x):\n    y = x\n    return y\n" for name in names)
    path = tmp_path / "many.py"
    path.write_text(source)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for turn in range(3):
            module: dict[str, object] = {}
            exec(compile(source, str(path), "exec"), module)
            with pykcov.open(include=[str(path)], omit=[f"*/nothing{turn}"]) as device:
                device.init_trace(1 << 13)
                area = device.mmap()
                device.remote_enable(area_size=1 << 11, handles=[0x42])
                go = threading.Barrier(4)

                def work() -> None:
                    go.wait()  # noqa: B023
                    with pykcov.remote(0x42):
                        for name in names:
                            module[name](1)  # type: ignore[operator]  # noqa: B023

                threads = [threading.Thread(target=work) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert (area[0], device.dropped) == (4 * 100 * 3, 0)
                device.disable()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="3.12 collects garbage between instructions"
)
def test_sources_are_parsed_in_several_threads_at_once() -> None:
    """3.11 shares the depth of recursion of all its parsers, and a collection of garbage switches threads."""

    class Garbage:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            for _ in range(50):
                pass

    text = "\n".join(f"def f{n}(x):\n    y = x\n    return y\n" for n in range(100))
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    wrong: list[object] = []

    def work() -> None:
        for _ in range(30):
            Garbage()
            try:
                found = analyse(text)
            except SystemError as error:
                wrong.append(error)
            else:
                if found is None or len(found.functions) != 100:
                    wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert not wrong


def test_pykcovs_own_work_is_not_recorded_even_if_its_tools_are_in_scope() -> None:
    """Its use of json, ast and dataclasses showed up in the trace of whoever had these in scope."""
    with pykcov.collect(source=["json", "ast", "tempfile", "dataclasses"]) as outer:
        with pykcov.collect(include=[__file__]), pykcov.open() as device:
            device.init_trace(64)
            mine()
    assert len(outer.trace) == 0


def test_a_thread_that_raises_shows_no_frame_of_pykcov(tmp_path: Path) -> None:
    seen: list[str] = []

    def note(args: threading.ExceptHookArgs) -> None:
        at = args.exc_traceback
        while at is not None:
            seen.append(at.tb_frame.f_code.co_filename)
            at = at.tb_next

    def bad() -> None:
        raise ValueError

    hook, threading.excepthook = threading.excepthook, note
    try:
        with pykcov.collect(include=[__file__]):
            thread = threading.Thread(target=bad)
            thread.start()
            thread.join()
    finally:
        threading.excepthook = hook
    assert seen
    assert not [name for name in seen if "pykcov" in Path(name).parent.name]


def test_code_that_named_tuples_and_data_classes_generate_is_no_file(tmp_path: Path) -> None:
    """The module that is evaluated around what is generated was recorded as `<string>`."""
    path = tmp_path / "made.py"
    path.write_text(
        "import collections, dataclasses\n"
        "Pair = collections.namedtuple('Pair', 'a b')\n"
        "@dataclasses.dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "made = Pair(1, 2), Point(1)\n"
    )
    with pykcov.collect() as c:
        exec(compile(path.read_text(), path, "exec"), {"__name__": __name__})
    assert "<string>" not in c.trace.lines()
    assert str(path) in c.trace.lines()


TOOLS = """
import sys, threading
sys.setswitchinterval(1e-6)
import pykcov
from pykcov.probes import monitoring
from pykcov.scope import Scope
from pykcov import probes
scopes = [Scope(include=[f"/nowhere/{n}.py"]) for n in range(8)]
barrier = threading.Barrier(8)
def first(scope):
    barrier.wait()
    probes.bit(scope, branch=False)
threads = [threading.Thread(target=first, args=(scope,)) for scope in scopes]
for thread in threads: thread.start()
for thread in threads: thread.join()
print([sys.monitoring.get_tool(number) for number in range(6)].count("pykcov"))
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has no sys.monitoring")
def test_threads_that_collect_first_at_the_same_time_take_one_tool_of_the_interpreters() -> None:
    """Each took one, and entries were recorded twice in that process."""
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-c", TOOLS], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "1\n", done.stdout + done.stderr


SYMBOLIZES_FIRST = """
import subprocess, sys
import pykcov
pykcov.symbolize(0x7079_0000_0000_1000)
with pykcov.collect(source=["."]) as c:
    subprocess.run([sys.executable, "child.py"], check=True)
print(sorted(name.rpartition("/")[2] for name in c.trace.lines()))
"""


def test_who_asks_for_a_place_before_anything_is_collected_has_the_code_map_of_the_others(
    tmp_path: Path,
) -> None:
    """The first device of a namespace removed it from under him, and his PCs were others' there."""
    (tmp_path / "main.py").write_text(SYMBOLIZES_FIRST)
    (tmp_path / "child.py").write_text("def f():\n    return 1\nf()\n")
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={**os.environ, "PYKCOV_NAMESPACE": f"first-{os.getpid()}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['child.py', 'main.py']\n"


def test_sections_that_have_ended_are_forgotten() -> None:
    # A section and its sink held each other, out of the garbage collector's sight.
    def sections() -> int:
        gc.collect()
        return sum(type(found) is Section for found in gc.get_objects())

    before = sections()
    for _ in range(20):
        with pykcov.collect():
            threading.Thread(target=str).start()
    assert sections() <= before + 1


def test_a_section_that_its_collection_has_ended_does_not_end_another_ones() -> None:
    """Areas and their sinks are used again, and a block ends after its section may have been ended."""
    elsewhere, there = contextvars.Context(), contextvars.Context()
    first, second = pykcov.remote(7), pykcov.remote(8)
    with pykcov.collect(handles=7):
        elsewhere.run(first.__enter__)
        # The next block takes this one's area, and leaves the other.
        there.run(pykcov.remote(7).__enter__)
    with pykcov.collect(handles=8, include=[__file__]) as collection:
        elsewhere.run(second.__enter__)
        elsewhere.run(first.__exit__, None, None, None)
        elsewhere.run(mine)
        elsewhere.run(second.__exit__, None, None, None)
    assert "mine" in steps(collection.trace)


_A_DAEMON_THREAD_COLLECTS = """
import threading, pykcov
device = pykcov.open()
device.init_trace(64)
begun, never = threading.Event(), threading.Event()
def collect():
    {begin}
    begun.set()
    never.wait()
threading.Thread(target=collect, daemon=True).start()
begun.wait()
"""


@pytest.mark.parametrize(
    "begin",
    [
        "device.enable()",
        "device.remote_enable(area_size=64, handles=[5])",
        "device.remote_enable(area_size=64, handles=[5]); pykcov.remote_start(5)",
    ],
)
def test_a_program_that_ends_while_a_daemon_thread_collects_ends_quietly(
    tmp_path: Path, begin: str
) -> None:
    """The thread's task ended when the namespace was left already, and told of a bad file descriptor."""
    write(tmp_path, "main.py", _A_DAEMON_THREAD_COLLECTS.replace("{begin}", begin))
    ended = run([sys.executable, "main.py"], tmp_path)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_section_record_of_who_was_killed_is_kept_when_there_is_room_for_no_other() -> None:
    """The device was emptied before the record was closed that a killed process had left open."""
    collection = pykcov.collect(include=[__file__])
    with collection:
        area = collection._area
        last = area.record_room - 1
        for number in range(area.record_room):
            record = area.records[RECORD_WORDS * number :]
            record[0], record[1], record[4], record[5] = (
                7,
                4242 if number == last else 1,
                number,
                number + 1,
            )
            area.words[1 + number] = 1
        area.words[0] = area.record_room
        area.head[Head.RECORDED], area.head[Head.OPEN] = last, last + 1
        mine()
    assert [section.pid for section in collection.trace.sections].count(4242) == 1


_ENDED_WHILE_IT_MOVES_ON = """
import importlib, threading, pykcov, work
remote = importlib.import_module("pykcov.remote")
moving, ended, moved = (threading.Event() for _ in range(3))
get = remote.Session.get_area

def slow(session):
    area = get(session)
    if threading.current_thread() is busy and work.AT_WORK and not moving.is_set():
        moving.set()
        ended.wait()
    return area

remote.Session.get_area = slow
first = pykcov.remote(7)

def fill():
    first.__enter__()
    work.busy(1000)
    moved.set()

busy = threading.Thread(target=fill)
busy.start()
moving.wait()
first.__exit__(None, None, None)
with pykcov.remote(7):  # has the area and the sink of the first
    ended.set()
    moved.wait()
    work.mine()
"""
_WORK = """
AT_WORK = []
def busy(n):
    AT_WORK.append(1)
    for i in range(n):
        i += 1
def mine():
    return 1
"""


@pytest.mark.filterwarnings("ignore")
def test_a_section_that_another_thread_ends_while_it_moves_on_takes_no_other_ones_sink(
    tmp_path: Path,
) -> None:
    write(tmp_path, "work.py", _WORK)
    write(tmp_path, "main.py", _ENDED_WHILE_IT_MOVES_ON)
    with pykcov.collect(handles=7, include=[str(tmp_path / "work.py")], area_size=64) as collection:
        run(
            [
                sys.executable,
                "-I",
                "-W",
                "ignore",
                "-c",
                "import sys; sys.path[0:0] = ['.']; import main",
            ],
            tmp_path,
            PYKCOV_NAMESPACE=os.environ["PYKCOV_NAMESPACE"],
        )
    assert "mine" in steps(collection.trace)


PROGRAM = """
    import concurrent.futures as futures
    import multiprocessing.pool
    import queue
    import threading

    import pykcov

    go, called = threading.Event(), threading.Semaphore(0)


    def job():
        go.wait()


    def fails():
        go.wait()
        raise ValueError


    def initialize():
        pass


    def mine(_):
        called.release()


    def foreign(_):
        pass


    def collect(work, *arguments):
        go.clear()
        with pykcov.collect(include=[__file__]) as collection:
            work(*arguments)
        found = {name for names in collection.trace.functions().values() for name in names}
        print(*sorted(name for name in found - {work.__name__} if "<" not in name))


    def executor(others):
        with futures.ThreadPoolExecutor(1, initializer=initialize) as pool:
            future = pool.submit(job)
            future.add_done_callback(mine)
            others.put(future)
            others.join()
            go.set()
            called.acquire()


    def pool(ask):
        result = ask()
        go.set()
        result.wait()
        called.acquire()


    def processes(context):
        with futures.ProcessPoolExecutor(1, context, initialize) as pool:
            pool.submit(int).result()


    def more_processes(context):
        with context.Pool(1, initialize) as pool:
            pool.apply(int)


    def add_foreign(others):
        while True:
            others.get().add_done_callback(foreign)
            others.task_done()


    if __name__ == "__main__":
        others = queue.Queue()
        threading.Thread(target=add_foreign, args=[others], daemon=True).start()
        collect(executor, others)
        threads = multiprocessing.pool.ThreadPool(1)
        collect(pool, lambda: threads.apply_async(job, (), {}, mine, foreign))
        collect(pool, lambda: threads.apply_async(fails, callback=foreign, error_callback=mine))
        collect(pool, lambda: threads.starmap_async(job, [()], None, mine))
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            collect(processes, context)
            collect(more_processes, context)
"""


def test_callbacks_and_initializers_are_for_who_gave_them(tmp_path: Path) -> None:
    """Who added a callback had its lines only if the job was done already; a pool's initializer was nobody's."""
    write(tmp_path, "program.py", PROGRAM)
    done = run([sys.executable, "program.py"], tmp_path)
    assert not done.stderr
    assert done.stdout.splitlines() == [
        "initialize job mine", "job mine", "fails mine", "job mine",
        *["initialize"] * 4,
    ]  # fmt: skip


def test_a_task_that_another_thread_has_asked_for_is_collected() -> None:
    """On 3.11 the loop's thread was traced for the callback that made the task, and no more when that ran."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def outer() -> int:
        return await asyncio.create_task(inner())

    async def inner() -> int:
        await asyncio.sleep(0)
        return mine()

    go = threading.Event()
    loop.call_soon_threadsafe(go.wait)
    with pykcov.collect(include=[__file__]) as collection:
        future = asyncio.run_coroutine_threadsafe(outer(), loop)
        go.set()  # nobody but the loop has the callback's context by now
        future.result()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert {"mine"} < steps(collection.trace)
    assert collection.trace.dropped == 0


def test_a_child_with_an_environment_in_the_last_place_inherits(tmp_path: Path) -> None:
    """Popen() with all its parameters by position gave the child an environment without the handle."""
    write(tmp_path, "child.py", "print(__file__)\n")
    command = [sys.executable, str(tmp_path / "child.py")]
    with pykcov.collect(include=["child.py"]) as collection:
        positional = (
            -1,
            None,
            None,
            subprocess.PIPE,
            None,
            None,
            True,
            False,
            None,
            {**os.environ},
        )
        with subprocess.Popen(command, *positional) as child:
            child.communicate()
    assert list(collection.trace.lines().values()) == [{1}]


def test_a_block_that_ends_before_one_that_began_in_it_leaves_that_ones_handle() -> None:
    """What the inner one caused from then on was nobody's."""
    outer, inner = pykcov.collect(include=[__file__]), pykcov.collect(include=[__file__])
    with contextlib.ExitStack() as stack:
        stack.enter_context(outer)
        with inner:
            stack.close()
            thread = threading.Thread(target=mine)
            thread.start()
            thread.join()
        after = pykcov.common_handle()
        thread = threading.Thread(target=foreign)
        thread.start()
        thread.join()
    assert "mine" in steps(inner.trace) and "foreign" not in steps(inner.trace)
    assert not {"mine", "foreign"} & steps(outer.trace)
    assert after == 0


def test_a_runner_that_was_there_before_works_for_who_calls_it() -> None:
    """Its tasks have the context of its own beginning, which had inherited nothing."""

    async def work() -> int:
        await asyncio.sleep(0)
        state.set(state.get() + 1)
        return mine()

    async def other() -> int:
        return foreign()

    state = contextvars.ContextVar("state", default=0)
    with asyncio.Runner() as runner:
        runner.run(work())
        with pykcov.collect(include=[__file__]) as collection:
            runner.run(work())
        runner.run(other())
        assert runner.get_loop() and runner._context[state] == 2  # type: ignore[attr-defined]
    assert "mine" in steps(collection.trace) and "foreign" not in steps(collection.trace)


def test_what_a_signal_handler_raises_where_a_runner_begins_comes_out_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A RuntimeError was taken for that of a context that is entered already."""

    class Ring(RuntimeError):
        pass

    def ring(number: int, frame: object) -> None:
        raise Ring

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGUSR1)

    async def work() -> int:
        return mine()

    previous = signal.signal(signal.SIGUSR1, ring)
    monkeypatch.setattr(jobs, "enter_all", interrupted)
    try:
        with asyncio.Runner() as runner, pykcov.collect(include=[__file__]):
            coroutine = work()
            with pytest.raises(Ring):
                runner.run(coroutine)
            coroutine.close()
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_what_asyncio_runs_inherits_a_common_handle_and_is_no_section_of_it() -> None:
    async def work() -> int:
        mine()
        with pykcov.remote(pykcov.common_handle()):
            return foreign()

    with pykcov.open(include=[__file__]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=32, common_handle=7)
        asyncio.run(work())
        device.disable()
        assert "foreign" in steps(device.trace()) and "mine" not in steps(device.trace())


def test_a_thread_whose_attributes_are_its_own_affair_starts_all_the_same() -> None:
    """Thread.run and Process.run were set as attributes, and one that was there was lost."""

    class Strict(threading.Thread):
        def __setattr__(self, name: str, value: object) -> None:
            assert name != "run"
            super().__setattr__(name, value)

    with pykcov.collect(include=[__file__]) as collection:
        for thread in (Strict(target=mine), threading.Thread()):
            if type(thread) is threading.Thread:
                thread.run = mine  # type: ignore[assignment,method-assign]
            thread.start()
            thread.join()
            assert thread.__dict__.get("run", mine) is mine
    entries = [pykcov.symbolize(pc) for pc in collection.trace]
    assert [e.function for e in entries if e.kind == "entry"].count("mine") == 2


def test_a_section_whose_thread_cannot_have_the_kernels_kcov_is_collected_all_the_same(
    tmp_path: Path,
) -> None:
    """Its end asked None to leave: nothing was moved, and its area was nobody's for ever."""
    write(tmp_path, "work.py", "def work():\n    return 1\n")
    write(tmp_path, "main.py", _NO_KERNEL)
    ended = run([sys.executable, "main.py"], tmp_path)
    assert (ended.stdout, ended.stderr) == ("6 6 1\n", "")


_NO_KERNEL = """
import importlib, os, pykcov, work
from pykcov import device
from pykcov.scope import Scope

importlib.import_module("pykcov.linux.threads").enter = lambda section: None
opened = device.Device(Scope(include=["work.py"]), kernel=True)
opened.init_trace(64)
opened.remote_enable(area_size=16, handles=[5])
for _ in range(3):
    with pykcov.remote(5):
        work.work()
count = opened.mmap()[0]
names = os.listdir(opened._registry.namespace.path)
print(count, len(opened.trace()), len([n for n in names if n.startswith("section.")]))
"""


def test_a_task_that_has_disabled_its_device_is_kept_no_longer() -> None:
    """None in the device's place was taken for a device."""

    def job() -> None:
        with pykcov.open() as device:
            device.init_trace(64)
            device.enable()
            device.disable()
        assert task.current() not in task._owners

    contextvars.Context().run(job)


def test_tasks_of_a_child_that_was_forked_before_its_program_joined_end(tmp_path: Path) -> None:
    """The child was told from its parent by a pid of before the fork: no end of a task was its own."""
    write(tmp_path, "work.py", "def work():\n    return 1\n")
    with pykcov.collect(source=[str(tmp_path)]) as collection:
        ended = run([sys.executable, "-c", _FORKED_BEFORE_IT_JOINED], tmp_path)
    assert (ended.stdout, ended.stderr) == ("False 1\n", "")
    assert "work" in steps(collection.trace)


_FORKED_BEFORE_IT_JOINED = """
import contextvars, os, sys
joined = "pykcov.task" in sys.modules
child = os.fork()
if not child:
    import work
    contextvars.copy_context().run(work.work)
    [session] = sys.modules["pykcov.remote"]._sessions.values()
    print(joined, len(session.sections), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_bit_that_became_another_scopes_while_it_was_asked_for_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All sections of the session went on with the bit, and recorded nothing, or another scope's code."""
    find = probes.bit

    def slow(scope: Scope, **which: Any) -> int:
        found = find(scope, **which)
        monkeypatch.setattr(probes, "bit", find)
        for number in range(64):  # another thread's, say
            find(Scope(include=[f"/{number}/{__name__}/*"]), branch=False)
        return found

    with pykcov.open(include=[__file__]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=16, handles=[0x76])
        monkeypatch.setattr(probes, "bit", slow)
        with pykcov.remote(0x76):
            mine()
        with pykcov.remote(0x76):
            mine()
        device.disable()
        assert [pykcov.symbolize(pc).function for pc in device.trace()].count("mine") == 4


def test_a_section_whose_beginning_breaks_off_while_another_thread_ends_it_is_given_back_once(
    tmp_path: Path,
) -> None:
    """Both gave its area back, one of them when it was the next section's already: that one's words were lost."""
    write(tmp_path, "work.py", "def work():\n    return 1\n")
    write(tmp_path, "main.py", _BREAKS_OFF)
    ended = run([sys.executable, "main.py"], tmp_path)
    assert (ended.stdout, ended.stderr) == ("5 0\n", "")


_BREAKS_OFF = """
import importlib, threading, time, pykcov, work
remote = importlib.import_module("pykcov.remote")
opened = pykcov.open(include=["work.py"])
opened.init_trace(64)
opened._remote_enable(0, 16, (5,), 0, None, exclusive=True)
[session] = remote._sessions.values()
take_turns = remote.Section.take_turns
held, begun, settled = (threading.Event() for _ in range(3))

def hold():
    with session.lock:
        held.set()
        time.sleep(0.5)

def end(section):
    section.finish()  # waits for the device's lock
    with session.lock:
        following = pykcov.remote(5)
        following.__enter__()  # it has the area now
        work.work()
        begun.set()
    settled.wait()
    work.work()
    following.__exit__(None, None, None)

def broken_off(section):
    remote.Section.take_turns = take_turns
    section.area.words[1] = 77  # recorded before
    section.area.words[0] = 1
    threading.Thread(target=hold).start()
    held.wait()
    other.append(threading.Thread(target=end, args=[section]))
    other[0].start()
    time.sleep(0.2)
    raise KeyboardInterrupt

other = []
remote.Section.take_turns = broken_off
try:
    pykcov.remote(5).__enter__()
except KeyboardInterrupt:
    begun.wait()
    settled.set()
    other[0].join()
print(opened.mmap()[0], opened.dropped)
"""


def test_a_section_that_takes_turns_while_another_thread_arms_is_recorded(tmp_path: Path) -> None:
    """On 3.11: it found all awake by then, and its own thread was not traced."""
    write(tmp_path, "work.py", "def work():\n    return 1\n")
    write(tmp_path, "main.py", _ARMED_BY_ANOTHER)
    ended = run([sys.executable, "main.py"], tmp_path)
    assert (ended.stdout, ended.stderr) == ("4 2\n", "")


_ARMED_BY_ANOTHER = """
import importlib, threading, pykcov, work
remote = importlib.import_module("pykcov.remote")
devices = [pykcov.open(include=["work.py"]) for _ in range(2)]
for device, handle in zip(devices, (5, 6)):
    device.init_trace(64)
    device._remote_enable(0, 16, (handle,), 0, None, exclusive=handle == 5)
take_turns = remote.Section.take_turns

def other():
    with pykcov.remote(6):
        work.work()

def slow(section):
    remote.Section.take_turns = take_turns
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    take_turns(section)

remote.Section.take_turns = slow
with pykcov.remote(5):
    work.work()
    work.work()
print(*(device.mmap()[0] for device in devices))
"""


def test_an_area_whose_parking_a_signal_handler_breaks_off_is_not_used_again(
    tmp_path: Path,
) -> None:
    """It was parked, and could not be again: its words were counted as dropped, and so were the next sections'."""
    write(tmp_path, "work.py", "def work():\n    return 1\n")
    write(tmp_path, "main.py", _PARKED_TWICE)
    with pykcov.collect(0x75, include=[str(tmp_path / "work.py")], area_size=4) as collection:
        child = functools.partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path)
        # Where nothing is inherited.
        ended = contextvars.Context().run(child, [sys.executable, "main.py"])
    assert (ended.stdout, ended.stderr) == ("broken off\n", "")
    assert (steps(collection.trace), len(collection.trace)) == ({"work"}, 8)
    assert collection.trace.dropped == 0


_PARKED_TWICE = """
import pykcov, work
from pykcov import namespace

rename = namespace.Namespace.rename

def broken_off(space, name, new):
    namespace.Namespace.rename = rename
    rename(space, name, new)
    raise KeyboardInterrupt

namespace.Namespace.rename = broken_off
for _ in range(4):
    try:
        with pykcov.remote(0x75):
            work.work()
    except KeyboardInterrupt:
        print("broken off")
"""
