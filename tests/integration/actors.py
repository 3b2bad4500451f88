"""Processes of one namespace that do what a test tells them, and what `pykcov ls` says of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from integration.commands import NAMESPACE, PYKCOV, run, write

SPACE = f"{NAMESPACE}-ls"
PLACE = Path(f"/dev/shm/pykcov-{os.geteuid()}", SPACE)

# What it is told on its standard input is executed, one line at a time.
CONDUCTED = """
    import os, sys, threading, pykcov
    def work(n):
        for i in range(n):
            pass
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
    """


class Actor:
    """A process that does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def does(self, code: str) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def dies(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[[], Actor]


@contextlib.contextmanager
def actors(directory: Path) -> Iterator[Start]:
    """Give a function that starts one; all end with the block, and so does what is in the namespace."""
    program = write(directory, "actor.py", CONDUCTED)
    with contextlib.ExitStack() as stack:

        def one() -> Actor:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(program)],
                    env={**os.environ, "PYKCOV_NAMESPACE": SPACE},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            return Actor(process)

        yield one
    shutil.rmtree(PLACE, ignore_errors=True)


OPEN = "d = pykcov.open(include=[__file__], sections=9); d.init_trace(64)"
ENABLE = "d.remote_enable(area_size=32, handles=[0x42, 1, 2, 3, 4])"
SECTION = "pykcov.remote_start(0x42); work(2)"  # entry, two rounds of the loop, its end: 6 records


def ls(*arguments: str, **environment: str) -> str:
    done = run([*PYKCOV, "ls", *arguments], Path("/"), PYKCOV_NAMESPACE=SPACE, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows(text: str) -> list[dict[str, str]]:
    head, *lines = [re.split("  +", line) for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]
