"""Programs for test_two_users.py, run as `python users.py NAME ARGUMENTS` by whichever user the test says.

A program ends with status 0 if all was as it should be, and prints what the test wants to know, in JSON.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pykcov

HANDLE, COMMON = 0x42, 0x77


def record() -> int:
    """Something to collect."""
    return 1


def section() -> None:
    """Do annotated work."""
    with pykcov.remote(HANDLE):
        record()
    with pykcov.remote(COMMON):
        record()


def serve() -> None:
    """Listen, with an open section and a device that collects locally; say what was collected at each line."""
    with pykcov.open(include=[__file__]) as device, pykcov.open(include=[__file__]) as local:
        device.init_trace(1024)
        device.remote_enable(area_size=64, handles=[HANDLE], common_handle=COMMON)
        words = device.mmap()
        local.init_trace(1024)
        local.enable()
        record()
        with pykcov.remote(HANDLE):
            print(json.dumps({"pid": os.getpid()}), flush=True)
            for _ in sys.stdin:
                print(json.dumps({"words": words[0], "dropped": device.dropped}), flush=True)
        local.disable()
        device.disable()


def worker() -> None:
    """Do annotated work for each line of input."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        section()
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            section()
            print(json.dumps("done"), flush=True)


def intrude(base: str, pid: str) -> None:
    """Try whatever reads, changes or replaces the files of another user; print what could be done."""
    there = Path(base)
    # The names are no secret where the processes' own are not: the test passes them on.
    names = json.loads(sys.stdin.readline())
    files = [there, *(there / name for name in names)]
    files += [Path(f"/proc/{pid}/{name}") for name in ("mem", "map_files", "fd/3", "fd/4", "maps")]
    attempts: dict[str, Callable[[Path], object]] = {
        "read": lambda path: os.close(os.open(path, os.O_RDONLY)),
        "write": lambda path: os.close(os.open(path, os.O_RDWR)),
        "make": lambda path: os.close(os.open(path / "mine", os.O_RDWR | os.O_CREAT)),
        "make beside": lambda path: os.close(
            os.open(path.with_name("mine"), os.O_RDWR | os.O_CREAT)
        ),
        "truncate": lambda path: os.truncate(path, 0),
        "list": os.listdir,
        "unlink": os.unlink,
        "rmdir": os.rmdir,
        "rename": lambda path: os.rename(path, "/dev/shm/stolen"),
        "link": lambda path: os.link(path, "/dev/shm/stolen"),
        "chmod": lambda path: path.chmod(0o777),
        "chown": lambda path: os.chown(path, os.getuid(), -1),
        "touch": os.utime,
    }
    could = []
    for path in files:
        for attempt, function in attempts.items():
            if path == there and attempt == "make beside":
                continue  # beside the user's directory anybody may make files of his own
            try:
                function(path)
            except OSError:
                continue
            could.append(f"{attempt} {path}")
    print(json.dumps(could))


def squat(path: str, what: str) -> None:
    """Put something of one's own in the place of another user's directory."""
    place = Path(path)
    own = Path(f"/dev/shm/own-{os.getuid()}")
    own.mkdir(exist_ok=True)
    own.chmod(0o777)
    if what == "file":
        place.touch()
        place.chmod(0o666)
    elif what == "link":
        place.symlink_to(own)
    elif what == "dangling":
        place.symlink_to(own / "nowhere")
    elif what == "pipe":
        os.mkfifo(place)
        place.chmod(0o666)
    else:
        place.mkdir()
        place.chmod(int(what, 8))


def meet() -> None:
    """Print what a verb and two annotations say in a namespace that cannot be had."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        section()
        section()
    try:
        pykcov.open().close()
        verb = "ok"
    except pykcov.KcovError as error:
        verb = str(error)
    assert all(issubclass(w.category, pykcov.KcovWarning) for w in seen)
    print(json.dumps({"verb": verb, "warnings": [str(w.message) for w in seen]}))


def become(uid: str, when: str) -> None:
    """Use pykcov, become another user as servers do, go on: annotations harm nothing.

    ``when``: sections have been collected here before; or in the parent, and this is a forked child. Or the device is
    closed as the other user, too: its files cannot be removed, and that is all.
    """
    device = pykcov.open(include=[__file__])
    device.init_trace(1024)
    device.remote_enable(area_size=64, handles=[HANDLE])
    section()
    words = device.mmap()
    before = words[0]
    child = os.fork() if when == "in a child" else 0
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        os.setgid(int(uid))
        os.setuid(int(uid))
        # What the user may not have is told by warnings, at most; it never raises.
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            section()
            section()
        assert all(issubclass(w.category, pykcov.KcovWarning) for w in seen), seen
        if when == "in a child":
            return  # the device is the parent's
    device.disable()
    print(json.dumps({"before": before, "after": words[0]}))
    if when == "and closes":
        device.close()
    else:
        warnings.simplefilter("ignore", ResourceWarning)


def modes(base: str) -> None:
    """Print what is not its owner's alone below a directory."""
    found = []
    for path in [Path(base), *Path(base).rglob("*")]:
        status = path.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            found.append(str(path))
    print(json.dumps(found))


def inside(*directories: str) -> None:
    """Print what is in directories."""
    print(json.dumps([str(path) for name in directories for path in Path(name).rglob("*")]))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
