import subprocess
import sys
import threading
from pathlib import Path

import jobs
import workers

HERE = Path(__file__).parent
LATE = []


def test_plain():
    assert jobs.plain() == 2


def test_thread_a(threads):
    assert threads.run(jobs.thread_a) == 3


def test_thread_b(threads):
    assert threads.run(jobs.thread_b) == 4


def test_pool_first():
    assert workers.POOL.submit(jobs.pool_first).result(60) == 5


def test_pool_again():
    assert workers.POOL.submit(jobs.pool_again).result(60) == 6


def test_task_a(loop):
    assert loop.run(jobs.task_a) == 7


def test_task_b(loop):
    assert loop.run(jobs.task_b) == 8


def test_process_first(processes):
    assert processes.run(jobs.process_first) == 9


def test_process_again(processes):
    assert processes.run(jobs.process_again) == 10


def test_program():
    command = [sys.executable, str(HERE / "tool.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "11\n"


def test_server_a(server):
    assert workers.ask(server, "server_a") == 12


def test_server_b(server):
    assert workers.ask(server, "server_b") == 13


def test_late():
    started, go_on = threading.Event(), threading.Event()
    LATE.append((go_on, workers.POOL.submit(jobs.late, started, go_on)))
    assert started.wait(60)


def test_nothing():
    go_on, job = LATE.pop()
    go_on.set()
    assert job.result(60) == 14
