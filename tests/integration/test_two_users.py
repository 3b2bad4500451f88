"""Two users: the second cannot read, enable or disturb what is the first one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pykcov

USERS = Path(__file__).with_name("users.py")
FIRST, SECOND, ROOT = 60001, 65534, 0
BASE = f"/dev/shm/pykcov-{FIRST}"

# The interpreter and pykcov may be where only root can read them: they are shown once more, in a /dev/shm of our own.
_PREPARE = """
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
cd /dev/shm
mkdir python pykcov programs
mount --bind "$1" python
mount --bind "$2" pykcov
mount --bind "$3" programs
echo ready
read line
"""


def _can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    try:
        done = subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


pytestmark = pytest.mark.skipif(not _can_mount(), reason="only root can be two users, and mount")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program of users.py as one of the users; all of a test's share a /dev/shm that is theirs alone."""
    package = Path(pykcov.__file__).parent.parent
    places = [sys.base_prefix, str(package), str(USERS.parent)]
    with ExitStack() as stack:
        keeper = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-e", "-c", _PREPARE, "sh", *places],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        python = f"/dev/shm/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"

        def start(uid: int, *command: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [
                    "nsenter", f"--target={keeper.pid}", "--mount", "--wd=/",
                    "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                    python, "/dev/shm/programs/users.py", *command,
                ],
                env={
                    "PYTHONPATH": "/dev/shm/pykcov", "LD_LIBRARY_PATH": "/dev/shm/python/lib",
                    "PYTHONDONTWRITEBYTECODE": "1", "PYKCOV_NAMESPACE": "two",
                },
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(_end, process)
            return process

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    if process.returncode is None:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], line: str | None = None) -> Any:
    """Say a line, if there is one, and return what is answered."""
    assert process.stdin and process.stdout and process.stderr
    if line is not None:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, process.stderr.read()
    return json.loads(answer)


def finish(process: subprocess.Popen[str]) -> Any:
    """Let a program come to its end, which has to be a good one, and return what it printed last."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, f"status {process.returncode}\n{out}\n{err}"
    assert not err, err
    return json.loads(out.splitlines()[-1]) if out else None


def names(process: subprocess.Popen[str], pid: int) -> list[str]:
    """Return what is in the first user's directory, as that process sees it."""
    base = Path(f"/proc/{pid}/root{BASE}")
    return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


def test_another_user_can_do_nothing_with_any_file_of_a_namespace(start: Start) -> None:
    first = start(FIRST, "serve")
    pid = ask(first)["pid"]
    files = names(first, pid)
    kinds = {name.partition("/")[2].partition(".")[0] for name in files}
    assert {"lock", "registry", "handles", "codemap", "area", "section"} <= kinds
    assert finish(start(FIRST, "modes", BASE)) == [], "all of it is its owner's alone"

    second = start(SECOND, "intrude", BASE, str(pid))
    assert ask(second, json.dumps(files)) == []
    finish(second)
    assert names(first, pid) == files
    worker = start(FIRST, "worker")
    ask(worker)
    assert ask(first, "look")["words"] > 0, "and the first user goes on"
    finish(worker)
    finish(first)


@pytest.mark.parametrize("other", [SECOND, ROOT])
def test_the_same_handle_of_another_user_is_another_handle(start: Start, other: int) -> None:
    """Root could look at everybody's files, but root's own namespace is one like any other."""
    first, second = start(FIRST, "serve"), start(other, "serve")
    ask(first)
    ask(second)  # else remote_enable had been refused: EEXIST
    before = ask(first, "look"), ask(second, "look")
    worker = start(FIRST, "worker")
    ask(worker)
    ask(worker, "go")
    after = ask(first, "look"), ask(second, "look")
    assert after[0]["words"] > before[0]["words"]
    assert after[1] == before[1]
    workers = start(other, "worker")
    ask(workers)
    ask(workers, "go")
    last = ask(first, "look"), ask(second, "look")
    assert last[0] == after[0]
    assert last[1]["words"] > after[1]["words"]
    for process in (worker, workers, first, second):
        finish(process)


@pytest.mark.parametrize("what", ["700", "755", "777", "1777", "file", "link", "dangling", "pipe"])
def test_who_takes_the_place_of_anothers_directory_gets_nothing_of_his(
    start: Start, what: str
) -> None:
    finish(start(SECOND, "squat", BASE, what))
    met = finish(start(FIRST, "meet"))
    assert BASE in met["verb"]
    if what.isdigit() and what != "700":  # that one cannot even be looked at
        assert str(SECOND) in met["verb"], "the error says whose it is"
    assert len(met["warnings"]) == 1, "all annotations together warn once"
    assert BASE in met["warnings"][0]
    assert finish(start(ROOT, "inside", BASE, f"/dev/shm/own-{SECOND}")) == []
    assert finish(start(SECOND, "meet")) == {"verb": "ok", "warnings": []}, "his own is fine"


@pytest.mark.parametrize(
    "when",
    [
        "itself",
        "in a child",
        "and closes",
    ],
)
def test_a_process_that_becomes_another_user_is_not_harmed(start: Start, when: str) -> None:
    """Servers open their ports as root and go on as nobody, some of them in forked children."""
    met = finish(start(ROOT, "become", str(SECOND), when))
    assert met["before"] > 0
    assert met["after"] >= met["before"]
