"""Programs for test_bad_namespace.py. Each is run as `python hostile.py NAME`, in its own process.

They end with status 0 when every call either worked or spoke up as it should: KcovError from
verbs, KcovWarning from annotations. Anything else is a traceback; a crash or a hang is seen by
who runs them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import victim
from forks import exit_as_a_program, finish
from victim import BASE

import pykcov

pykcov.Device, pykcov.collect, pykcov.symbolize  # noqa: B018 - imported here, not in each process

HANDLE, COMMON = 5, 7
VALUES = [0, 1, 2**31, 2**48, 2**63 - 1, 2**63, 2**64 - 1]  # for a word that is damaged


def record() -> int:
    """Some lines to collect."""
    total = 0
    for number in range(3):
        total += number
    return total


def annotate() -> list[str]:
    """Use every annotation twice; return the texts of the warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            pykcov.remote_start(HANDLE)
            record()
            pykcov.remote_stop()
            with pykcov.remote(HANDLE):
                record()
            with pykcov.remote(COMMON):
                record()
            pykcov.remote_start(pykcov.common_handle())
            pykcov.remote_stop()
    for warning in seen:
        assert issubclass(warning.category, pykcov.KcovWarning), warning
    return [str(warning.message) for warning in seen]


def verbs() -> str:
    """Take a device through its life; return 'ok' or the text of the KcovError."""
    try:
        with pykcov.open(include=[__file__]) as device:
            device.init_trace(64)
            area = device.mmap()
            device.enable()
            record()
            device.disable()
            for pc in area[1 : 1 + min(area[0], 63)]:
                pykcov.symbolize(pc)
            device.remote_enable(area_size=16, handles=[HANDLE], common_handle=COMMON)
            annotate()
            device.sync()
            device.disable()
            return "ok" if area[0] else "nothing was recorded"
    except pykcov.KcovError as error:
        return f"{error.errno} {error}"


def probe(order: str = "annotations first") -> None:
    """Print what the verbs and the annotations of this process meet, and the verbs' warnings."""
    said: dict[str, object] = {}

    def use_verbs() -> None:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            said["verbs"] = verbs()
        said["beside"] = [f"{w.category.__name__}: {w.message}" for w in seen]

    if order == "annotations first":
        said["warnings"] = annotate()
        use_verbs()
    else:
        use_verbs()
        said["warnings"] = annotate()
    print(json.dumps(said))


def leave_files() -> None:
    """Use the namespace, leave a device remote-enabled, a section open, and die."""
    device = pykcov.open(include=[__file__])
    device.init_trace(64)
    device.enable()
    record()
    device.disable()
    device.remote_enable(area_size=16, handles=[HANDLE, 6], common_handle=COMMON)
    pykcov.remote_start(HANDLE)
    record()
    os.kill(os.getpid(), signal.SIGKILL)


def damage(path: Path, how: str, random_: random.Random) -> None:
    """Spoil one file of the namespace."""
    content = path.read_bytes()
    if not content and how in ("flip", "words"):
        how = "longer"
    if how == "flip":
        spoilt = bytearray(content)
        for _ in range(random_.choice([1, 4, 64, 1024])):
            # Half of them where the headers are.
            end = random_.choice([128, len(spoilt)])
            spoilt[random_.randrange(min(end, len(spoilt)))] = random_.randrange(256)
        path.write_bytes(spoilt)
    elif how == "words":
        spoilt = bytearray(content)
        for _ in range(random_.choice([1, 2, 16])):
            at = random_.randrange(min(random_.choice([128, len(spoilt)]), len(spoilt))) // 8 * 8
            word = random_.choice(VALUES)
            spoilt[at : at + 8] = word.to_bytes(8, sys.byteorder)
        path.write_bytes(spoilt)
    elif how == "ones":
        path.write_bytes(b"\xff" * len(content))
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "half":
        os.truncate(path, len(content) // 2)
    elif how == "empty":
        os.truncate(path, 0)
    elif how == "longer":
        path.write_bytes(content + random_.randbytes(5000))
    elif how == "open to others":
        path.chmod(0o666)
    else:
        path.unlink()
        if how == "link":
            path.symlink_to(victim.PATH)
        elif how == "dangling":
            path.symlink_to("nowhere")
        elif how == "pipe":
            os.mkfifo(path, 0o600)
        elif how == "directory":
            path.mkdir(0o700)
        else:
            assert how == "gone"


WAYS = ["flip", "words", "ones", "zeros", "half", "empty", "longer", "open to others",
        "link", "dangling", "pipe", "directory", "gone"]  # fmt: skip


def in_child(body: Callable[[], object]) -> int:
    """Run the body in a forked child; a hang ends by SIGALRM. Return its exit status."""

    def limited() -> None:
        signal.alarm(30)
        body()
        exit_as_a_program()

    child = os.fork()
    if child == 0:
        finish(limited)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def damaged(first: str, last: str) -> None:
    """Trials `first` ... `last`: spoil files that a dead process left, then use the namespace."""
    with victim.made():
        failed = [
            (trial, status) for trial in range(int(first), int(last)) if (status := _trial(trial))
        ]
    assert not failed, f"trials and how they ended: {failed}"


def _trial(trial: int) -> int:
    """Return how the process ended that met the damage."""
    random_ = random.Random(trial)
    os.environ["PYKCOV_NAMESPACE"] = name = f"damaged-{os.getpid()}-{trial}"
    assert in_child(leave_files) == -signal.SIGKILL
    names = sorted(path.name for path in (BASE / name).iterdir())
    assert len(names) > 1, names
    way = WAYS[trial % len(WAYS)]
    spoilt = names[trial // len(WAYS) % len(names)]
    # Names differ by process: a trial that failed is told by its number.
    print(f"trial {trial}: {way}: {spoilt.partition('.')[0]}", file=sys.stderr, flush=True)
    damage(BASE / name / spoilt, way, random_)
    order = random_.choice(["annotations first", "verbs first"])
    status = in_child(lambda: probe(order))
    assert victim.is_untouched(), f"trial {trial}: written through a link"
    for path in (BASE / name).glob("*"):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if (BASE / name).exists():
        (BASE / name).rmdir()
    return status


def spoilt_words() -> None:
    """Every word of the registry's header and of a device's slot, with values of all sizes."""
    failed = []
    for number in [*range(16), *range(512, 531)]:
        for value in (0, 1, 2**48, 2**64 - 1):
            name = f"words-{os.getpid()}-{number}-{value:x}"
            os.environ["PYKCOV_NAMESPACE"] = name
            assert in_child(leave_files) == -signal.SIGKILL
            with (BASE / name / "registry").open("r+b") as file:
                file.seek(8 * number)
                file.write(value.to_bytes(8, sys.byteorder))
            print(f"word {number} = {value:#x}", file=sys.stderr, flush=True)
            status = in_child(lambda: probe("verbs first"))
            if status != 0:
                failed.append((number, hex(value), status))
            shutil.rmtree(BASE / name, ignore_errors=True)
    assert not failed, f"words, values and how it ended: {failed}"


def full() -> None:
    """Meet a file system that fills up while sections record, and that has room again later."""
    with pykcov.open(include=[__file__]) as device:
        device.init_trace(4096)
        area = device.mmap()
        device.remote_enable(area_size=1 << 16, handles=[HANDLE])
        with open("/dev/shm/filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
        texts = annotate()
        assert texts, "a section that could not be collected is told"
        before = area[0]
        os.unlink("/dev/shm/filler")
        assert annotate() == []
        assert area[0] > before, "with room again, sections are collected again"
        device.disable()
        print(json.dumps({"warnings": texts}))


def slow_reader() -> None:
    """Stay in the namespace until standard input ends."""
    with pykcov.open(include=[__file__]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=16, handles=[HANDLE], common_handle=COMMON)
        print("ready", flush=True)
        while sys.stdin.readline():
            time.sleep(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
