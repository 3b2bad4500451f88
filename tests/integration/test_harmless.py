"""What goes wrong in pykcov stays in pykcov; what the program raises meanwhile is the program's."""

from __future__ import annotations

import contextvars
import gc
import importlib
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pykcov
from pykcov import late, probes, task

# `pykcov.remote` is the context manager.
remote: ModuleType = importlib.import_module("pykcov.remote")


class Alarm(Exception):
    pass


@pytest.fixture
def work(tmp_path: Path) -> ModuleType:
    path = tmp_path / "work.py"
    path.write_text("def work(x):\n    y = x + 1\n    return y\n")
    module = ModuleType("work")
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    return module


def test_an_error_in_a_callback_is_a_warning(
    work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pykcov.collect(source=[str(tmp_path)]):
        pass  # what runs here already may be in a scope of another test's
    monkeypatch.setattr(probes.events, "_make_unit", None)
    with pytest.warns(pykcov.KcovWarning, match="an error of pykcov's.*NoneType"):
        with pykcov.collect(source=[str(tmp_path)]):
            assert work.work(1) == 2


def test_an_error_in_an_annotation_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with pykcov.open() as device:
        device.init_trace(64)
        device.remote_enable(area_size=16, handles=[5])
        monkeypatch.setattr(remote.Session, "find_bit", None)
        with pytest.warns(pykcov.KcovWarning, match="an error of pykcov's"):
            with pykcov.remote(5):
                answer = 1
        with pytest.warns(pykcov.KcovWarning, match="an error of pykcov's"):
            pykcov.remote_start(5)
        pykcov.remote_stop()
        device.disable()
        assert answer == 1


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_a_signal_handler_raises_into_pykcov_is_the_programs(
    work: ModuleType, tmp_path: Path, exclusive: bool
) -> None:
    def ring(number: int, frame: object) -> None:
        raise Alarm

    def sections(until: float) -> None:
        while time.monotonic() < until:
            with pykcov.remote(5):
                work.work(1)

    raised = 0
    previous = signal.signal(signal.SIGALRM, ring)
    gc.disable()  # what is raised into a callback of the collector is nobody's
    try:
        with pykcov.open(source=[str(tmp_path)]) as device:
            device.init_trace(1 << 16)
            # Python begins exclusive ones, as it does those of other processes.
            device._remote_enable(pykcov.TRACE_PC, 16, (5,), 0, None, exclusive=exclusive)
            # Now, and not with a signal on its way, the source's file is opened.
            sections(time.monotonic() + 0.01)
            for turn in range(200):
                try:
                    # Nearly all of the time is pykcov's: most signals arrive there.
                    signal.setitimer(signal.ITIMER_REAL, 0.003 + turn * 1e-6)
                    sections(time.monotonic() + 1)
                except Alarm as error:
                    raised += 1
                    assert task.current().sections == [], traceback.format_tb(error.__traceback__)
            device._disable(None)
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, previous)
    assert raised > 150


HANDLER = """
def ring(number, frame):
    raise kind

def interrupted(*args):
    if is_time:
        is_time.clear()
        signal.raise_signal(signal.SIGUSR1)
    return original(*args)
"""


@pytest.mark.parametrize("kind", [Alarm, TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["begins", "ends"])
@pytest.mark.parametrize(
    "directory", ["/of/the/program/", late.LIBRARY + "site-packages/"], ids=["program", "package"]
)
def test_what_a_signal_handler_raises_while_a_section_begins_or_ends_comes_out_of_it(
    work: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    where: str,
    directory: str,
) -> None:
    """Where it was an OSError it was taken for pykcov's, and on 3.11, at a section's end, whatever it was."""
    place: Any = threading if where == "begins" else sys.modules[pykcov.collect.__module__]
    name = "current_thread" if where == "begins" else "copy_records"
    original = getattr(place, name)
    is_time: list[bool] = []
    handler = {"kind": kind, "signal": signal, "original": original, "is_time": is_time}
    exec(compile(HANDLER, f"{directory}handler.py", "exec"), handler)
    previous = signal.signal(signal.SIGUSR1, handler["ring"])
    with pykcov.collect([5], source=[str(tmp_path)], area_size=4) as collection:

        def job(rings: bool) -> None:
            is_time.extend([rings] * (rings and where == "begins"))
            with pykcov.remote(5):
                work.work(1)
                is_time.extend([rings] * (rings and where == "ends"))

        contextvars.Context().run(job, False)  # the device's area is full when the next one ends
        monkeypatch.setattr(place, name, handler["interrupted"])
        try:
            with pytest.raises(kind):
                contextvars.Context().run(job, True)
        finally:
            signal.signal(signal.SIGUSR1, previous)
    assert collection.trace.dropped == 0
    assert len(collection.trace) == (3 if where == "begins" else 6)


@pytest.mark.parametrize("size", [8, 16, 64], ids="{} words".format)
def test_what_ends_a_section_while_another_ones_words_are_taken_out_loses_nothing(
    work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A finalizer, or a signal handler: what it moved was taken for what was out already."""
    module = sys.modules[pykcov.collect.__module__]
    original = module.copy_records
    waiting: list[contextvars.Context] = []

    def interrupted(area: object) -> object:
        if waiting:
            waiting.pop().run(pykcov.remote_stop)
        return original(area)

    def section(ends: bool) -> None:
        pykcov.remote_start(5)
        work.work(1)
        if ends:
            pykcov.remote_stop()

    with pykcov.collect([5], source=[str(tmp_path)], area_size=size) as collection:
        monkeypatch.setattr(module, "copy_records", interrupted)
        for number in range(60):
            context = contextvars.Context()
            context.run(section, number % 3 > 0)
            if number % 3 == 0:
                waiting.append(context)
        del context
        while waiting:
            waiting.pop().run(pykcov.remote_stop)
    assert (len(collection.trace), collection.trace.dropped) == (3 * 60, 0)


def test_a_section_that_is_dropped_is_told_at_level_debug(
    work: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pykcov.open(source=[str(tmp_path)]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=16, handles=[5])
        with caplog.at_level("DEBUG", "pykcov"), pykcov.remote(5):
            work.work(1)
            device.disable()
    assert "section of 0x5 is dropped: its device was disabled" in caplog.text
