"""A collection gets what it causes in other processes, however they are started and however they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

JOBS = """\
import os, sys

def job(x):
    y = x + 1
    return y

def other(x):
    return x

def die(x):
    y = x
    os.kill(os.getpid(), 9)
    return y

def leave(x):
    os._exit(x)

if __name__ == "__main__":
    print(job(int(sys.argv[1])))
"""
# The lines of their functions. An entry is an event too, but no line.
JOB, OTHER, DIE, LEAVE = {4, 5}, {8}, {11, 12}, {16}

HEAD = """\
import asyncio, json, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import pykcov
import jobs

FILE = jobs.__file__
found = {}

def collect(*handles, **options):
    return pykcov.collect(handles, include=[FILE], **options)

def note(name, trace):
    found[name] = {
        "lines": sorted(trace.lines().get(FILE, ())),
        "events": len(trace),
        "dropped": trace.dropped,
        "pids": sorted({s.pid for s in trace.sections}),
    }

def main():
"""
TAIL = """
if __name__ == "__main__":
    main()
    print(json.dumps(found))
"""


def run(directory: Path, body: str, **environment: str) -> Any:
    """Run a program whose main() is ``body``; return what it noted."""
    (directory / "jobs.py").write_text(JOBS)
    program = directory / "program.py"
    program.write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    ") + TAIL)
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        env=os.environ | {"PYKCOV_NAMESPACE": f"processes-{os.getpid()}"} | environment,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def lines(noted: dict[str, Any]) -> set[int]:
    assert noted["dropped"] == 0
    return set(noted["lines"])


def test_a_forked_child_is_collected_however_it_ends(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        with collect() as c:
            for work in (jobs.job, jobs.leave, jobs.die):
                pid = os.fork()
                if not pid:
                    work(0)
                    os._exit(0)
                os.waitpid(pid, 0)
                note(work.__name__, c.trace)
        note("after", c.trace)
        """,
    )
    assert lines(found["job"]) == JOB
    assert lines(found["leave"]) == JOB | LEAVE
    assert lines(found["die"]) == lines(found["after"]) == JOB | LEAVE | DIE
    assert len(found["after"]["pids"]) == 3


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_process_of_multiprocessing_is_collected(how: str, tmp_path: Path) -> None:
    found = run(
        tmp_path,
        f"""
        start = multiprocessing.get_context({how!r}).Process
        start(target=jobs.other, args=(1,)).start()
        with collect() as c:
            for work in (jobs.job, jobs.die):
                process = start(target=work, args=(1,))
                process.start()
                process.join()
        note("process", c.trace)
        """,
    )
    assert lines(found["process"]) == JOB | DIE


def test_jobs_of_pools_carry_the_handle_and_workers_leave_it(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        executor = ProcessPoolExecutor(1)
        pool = multiprocessing.get_context("spawn").Pool(1)
        assert executor.submit(jobs.other, 1).result() == pool.apply(jobs.other, (1,)) == 1
        for name, call in {
            "submit": lambda: executor.submit(jobs.job, 1).result(),
            "map": lambda: list(executor.map(jobs.job, [1])),
            "apply": lambda: pool.apply(jobs.job, (1,)),
            "pool map": lambda: pool.map(jobs.job, [1]),
            "starmap": lambda: pool.starmap(jobs.job, [(1,)]),
            "imap": lambda: list(pool.imap(jobs.job, [1])),
            "imap_unordered": lambda: list(pool.imap_unordered(jobs.job, [1])),
        }.items():
            with collect() as c, collect() as d:
                call()
            note(name, c.trace)
            assert list(c.trace.pcs) == list(d.trace.pcs)
            executor.submit(jobs.other, 1).result()
            pool.apply(jobs.other, (1,))
        with collect() as c:
            with ProcessPoolExecutor(1) as inside:
                inside.submit(jobs.job, 1).result()
                waiting = threading.Event()
                note("inside", c.trace)
                with collect() as d:
                    inside.submit(jobs.other, 1).result()
                note("second job", d.trace)
        executor.shutdown()
        pool.terminate()
        """,
    )
    second = found.pop("second job")
    for noted in found.values():
        assert lines(noted) == JOB and noted["events"] == 3
    assert lines(second) == OTHER


def test_a_python_program_is_collected_and_sees_its_own_environment(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('mine')\n")
    found = run(
        tmp_path,
        """
        show = "import os, sys; print(os.environ.get('PYTHONPATH'), sys.path[1:], [n for n in os.environ if 'PYKCOV' in n])"
        ask = [sys.executable, "-c", show]
        before = subprocess.run(ask, capture_output=True, text=True)
        with collect() as c:
            subprocess.run([sys.executable, FILE, "4"], check=True)
            assert subprocess.run(ask, capture_output=True, text=True).stdout == before.stdout
        note("run", c.trace)
        with collect() as c:
            clean = {"PATH": os.environ["PATH"]}
            subprocess.run([sys.executable, FILE, "4"], check=True, env=clean)
            subprocess.run(["sh", "-c", f"{sys.executable} {FILE} 4"], check=True)
        note("clean", c.trace)
        with collect() as c:
            async def start():
                for how in (asyncio.create_subprocess_exec(sys.executable, FILE, "4"),
                            asyncio.create_subprocess_shell(f"{sys.executable} {FILE} 4")):
                    await (await how).wait()
            asyncio.run(start())
        note("asyncio", c.trace)
        """,
        PYTHONPATH=str(tmp_path / "site"),
    )
    program = {1, 3, 7, 10, 15, 18, 19, 4, 5}
    assert lines(found["run"]) == program and len(found["run"]["pids"]) == 1
    assert lines(found["clean"]) == lines(found["asyncio"]) == program
    assert len(found["clean"]["pids"]) == len(found["asyncio"]["pids"]) == 2


@pytest.mark.parametrize("order", ["worker", "device"])
def test_an_annotation_reaches_a_device_whoever_was_first(order: str, tmp_path: Path) -> None:
    found = run(
        tmp_path,
        f"""
        def serve(requests, answers):
            for number in iter(requests.get, None):
                with pykcov.remote(0x42):
                    jobs.job(number)
                answers.put(number)

        requests, answers = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()
        worker = multiprocessing.get_context("fork").Process(target=serve, args=(requests, answers))
        def work(number):
            requests.put(number)
            assert answers.get() == number
        if {order == "worker"}:
            worker.start()
            work(1)
        with pykcov.open(include=[FILE], sections=8) as device:
            device.init_trace(64)
            device.remote_enable(area_size=32, handles=[0x42])
            if not {order == "worker"}:
                worker.start()
            work(2)
            work(3)
            note("device", device.trace())
            device.disable()
            work(4)
            note("disabled", device.trace())
        requests.put(None)
        worker.join()
        """,
    )
    assert lines(found["device"]) == JOB
    assert found["device"]["events"] == found["disabled"]["events"] == 6
    assert len(found["device"]["pids"]) == 1


def test_another_namespace_is_another_world(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        text = "import pykcov, jobs\\nwith pykcov.remote(0x42): jobs.job(1)"
        with collect(0x42) as c:
            for name in ("other", "this"):
                # os.system() passes no handle on.
                variable = "PYKCOV_NAMESPACE=elsewhere" if name == "other" else ""
                assert os.system(f"cd {Path(FILE).parent}; {variable} {sys.executable} -c '{text}'") == 0
                note(name, c.trace)
        """,
    )
    assert lines(found["other"]) == set()
    assert lines(found["this"]) == JOB


def test_what_a_killed_worker_recorded_is_there_up_to_its_last_event(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        def doomed():
            with pykcov.remote(0x42):
                for _ in range(1000):
                    jobs.job(1)
                jobs.die(1)

        for read in ("trace", "sync", "disable"):
            device = pykcov.open(include=[FILE], sections=8)
            device.init_trace(1 << 13)
            device.remote_enable(area_size=1 << 12, handles=[0x42])
            pid = os.fork()
            if not pid:
                doomed()
            os.waitpid(pid, 0)
            if read != "trace":
                getattr(device, read)()
            note(read, device.trace())
            if read != "disable":
                device.disable()
            device.close()
        """,
    )
    for noted in found.values():
        assert noted["events"] == 3 * 1000 + 3
        assert lines(noted) == JOB | DIE


def test_nothing_is_dropped_in_a_collection_however_much_a_process_records(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        def much(n):
            for _ in range(n):
                jobs.job(1)

        with collect(area_size=256) as c:
            children = [multiprocessing.get_context("fork").Process(target=much, args=(n,)) for n in (10_000, 20_000)]
            for child in children:
                child.start()
            for child in children:
                child.join()
        note("much", c.trace)
        assert not [n for n in os.listdir(f"/dev/shm/pykcov-{os.geteuid()}/{os.environ['PYKCOV_NAMESPACE']}") if "parked" in n]
        """,
    )
    assert found["much"]["events"] == 3 * 30_000
    assert lines(found["much"]) == JOB


def test_a_dead_collectors_handles_are_free_and_its_files_go(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        place = f"/dev/shm/pykcov-{os.geteuid()}/{os.environ['PYKCOV_NAMESPACE']}"

        def collector():
            device = pykcov.open()
            device.init_trace(64)
            device.remote_enable(area_size=32, handles=[0x42])
            os.kill(os.getpid(), signal.SIGKILL)

        def once():
            pid = os.fork()
            if not pid:
                collector()
            os.waitpid(pid, 0)

        with pykcov.remote(0x41):
            pass
        once()
        assert [name for name in os.listdir(place) if name.startswith("area")]
        with pykcov.remote(0x42):  # a worker notices
            jobs.job(1)
        assert not [name for name in os.listdir(place) if name.startswith("area")]
        once()
        with collect(0x42) as c:
            with pykcov.remote(0x42):
                jobs.job(1)
        note("next", c.trace)
        assert not [name for name in os.listdir(place) if name.startswith("area")]
        """,
    )
    assert found["next"]["events"] == 3


def test_a_section_goes_on_while_the_devices_lock_is_held_by_a_stopped_process(
    tmp_path: Path,
) -> None:
    """Its words are parked, and there when the process that listens reads the next time."""
    found = run(
        tmp_path,
        """
        reading, writing = os.pipe()
        with collect(0x42) as c:
            device = c._device
            child = os.fork()
            if not child:
                with device._get_lock():
                    os.write(writing, b"x")
                    time.sleep(600)
            os.read(reading, 1)
            os.kill(child, signal.SIGSTOP)
            worker = os.fork()
            if not worker:
                with pykcov.remote(0x42):
                    jobs.job(1)
                os._exit(0)
            os.waitpid(worker, 0)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        note("parked", c.trace)
        """,
    )
    assert found["parked"]["events"] == 3


def test_pykcov_run_gathers_all_processes_into_one_trace(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, os, subprocess, sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import jobs\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2) as pool:\n"
        "        print(list(pool.map(jobs.job, range(4))))\n"
        "    for how in ('fork', 'spawn'):\n"
        "        child = multiprocessing.get_context(how).Process(target=jobs.die, args=(1,))\n"
        "        child.start(); child.join()\n"
        "        print(child.exitcode)\n"
        "    subprocess.run([sys.executable, '-c', 'import jobs; jobs.other(1)'])\n"
        "    if not os.fork():\n"
        "        jobs.leave(3)\n"
        "    print(os.wait()[1] >> 8)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pykcov", "run", "-o", "one.trace", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.stdout == "[1, 2, 3, 4]\n-9\n-9\n3\n", done.stderr
    import pykcov

    trace = pykcov.Trace.load(tmp_path / "one.trace")
    everything = JOB | OTHER | DIE | LEAVE
    assert trace.lines()[str(tmp_path / "jobs.py")] >= everything and trace.dropped == 0
    assert len({section.pid for section in trace.sections}) >= 6
