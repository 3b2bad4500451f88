"""`pykcov ls` on a terminal, and `pykcov ls --watch` there and in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.actors import OPEN, PLACE, SPACE, Start, actors, ls, rows
from integration.commands import PYKCOV, write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with actors(tmp_path) as start_one:
        yield start_one


@contextlib.contextmanager
def watching(**streams: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*PYKCOV, "ls", "--watch", "0.1"],
        env={**os.environ, "PYKCOV_NAMESPACE": SPACE, "TERM": "xterm"}, text=True,
        stderr=subprocess.PIPE, start_new_session=True, **streams,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_in_a_pipe_watch_prints_a_table_per_interval_and_ends_silently(start: Start) -> None:
    actor = start()
    with watching(stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        for _ in range(2):
            assert process.stdout.readline() == f"No device is open in {PLACE}.\n"
            assert process.stdout.readline() == "\n"
        actor.does(OPEN)
        line = next(line for line in process.stdout if line.startswith("device"))
        assert rows(line + process.stdout.readline())[0]["owner"] == str(actor.pid)
        actor.does("d.close()")
        assert any(line.startswith("No device") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert "\x1b" not in process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode == 130


def test_a_closed_pipe_ends_watch_silently() -> None:
    with watching(stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_an_interrupt_does_not_wait_for_a_reader_that_takes_nothing(start: Start) -> None:
    actor = start()
    actor.does("ds = [pykcov.open() for _ in range(900)]")
    with watching(stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()  # and no more: a table is longer than a pipe and its buffers
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        process.wait()
    assert process.returncode == 130


def test_watch_goes_on_while_the_registry_is_damaged(start: Start) -> None:
    start().does(OPEN)
    with watching(stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("device")
        whole = (PLACE / "registry").read_bytes()
        with (PLACE / "registry").open("r+b") as file:
            file.write(b"nonsense")
            file.flush()
            assert any("registry is damaged" in line for line in process.stdout)
            file.seek(0)
            file.write(whole[:8])
        assert any(line.startswith("device") for line in process.stdout)


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(theirs)
        os.close(ours)


def until(ours: int, *words: str) -> str:
    """Read what is written to a terminal until it has had the words, in this order."""
    text = ""
    while not re.search(".*".join(map(re.escape, words)), text, re.DOTALL):
        text += os.read(ours, 65536).decode()
    return text


@pytest.mark.parametrize("has_rich", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_watch_redraws_in_place_and_leaves_it_in_order(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_rich: bool, number: int
) -> None:
    if not has_rich:
        write(tmp_path, "none/rich.py", "raise ImportError")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    actor = start()
    with terminal(120) as (ours, theirs):
        with watching(stdout=theirs, stdin=theirs) as process:
            assert process.stderr
            text = until(ours, "Ctrl-C ends", "No device", "No device")
            actor.does(OPEN)
            text += until(ours, "Ctrl-C ends", "program", f"  {actor.pid} ", f"  {actor.pid} ")
            process.send_signal(number)
            assert process.stderr.read() == ""
            process.wait()
        assert process.returncode == 128 + number
        if has_rich:
            assert "\x1b[1A\x1b[2K" in text, "nothing goes up"
            until(ours, "\x1b[?25h")  # the cursor
        else:
            assert "\x1b[H" in text


def test_colours_are_for_terminals_and_not_with_no_color(start: Start) -> None:
    actor = start()
    actor.does("d = pykcov.open(include=[__file__]); d.init_trace(3); d.enable(); work(9)")
    for environment, has_colour in [({}, True), ({"NO_COLOR": "1"}, False)]:
        with terminal(60) as (ours, theirs):
            done = subprocess.run(
                [*PYKCOV, "ls"], stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False,
                env={**os.environ, "PYKCOV_NAMESPACE": SPACE, "TERM": "xterm", **environment},
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, b"")
            text = until(ours, "actor.py")
        assert ("\x1b[31m" in text) == has_colour
        assert re.sub("\x1b\\[[0-9;]*m", "", text).startswith("device  mode      owner  sections")
    assert "\x1b" not in ls(FORCE_COLOR="1", TERM="xterm")
