"""Programs that close descriptors which are not their own, or start without standard ones. Neither harms the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pykcov
from pykcov.spool import Spool

BASE = Path(f"/dev/shm/pykcov-{os.geteuid()}")

# The idiom of daemons; then the program has files of its own under all the numbers that were pykcov's: a directory where
# that had one. At the very end, behind pykcov, it looks whether it still has them.
CLOSE = """
import atexit, fcntl, os, stat, sys

def take_over():
    for number in os.listdir("/proc/self/fd"):
        number = int(number)
        try:
            is_directory = stat.S_ISDIR(os.fstat(number).st_mode)
        except OSError:
            continue  # it was the one that read /proc
        if number > 2:
            theirs[number] = is_directory
    os.closerange(3, 4096)
    for number, is_directory in theirs.items():
        name = f"own.{number}"
        if is_directory:
            os.mkdir(name)
            for file in ("registry", "lock", "area.1", "precious"):
                with open(f"{name}/{file}", "w") as opened:
                    opened.write("mine")
            fd = os.open(name, os.O_RDONLY)
        else:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.write(fd, b"mine")
        high = fcntl.fcntl(fd, fcntl.F_DUPFD, 3000)
        os.close(fd)
        theirs[number] = high
    for number, high in theirs.items():
        os.dup2(high, number)
    return theirs

def look():
    for number, high in theirs.items():
        if not os.path.sameopenfile(number, high):
            print("lost:", number)
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if os.path.isfile(f"own.{number}"):
                print("locked:", number, error)
    print("theirs:", len(theirs))

theirs = {}
atexit.register(look)
import pykcov, warnings
"""

WORK = "def work():\n    n = 1\n    return n\n"


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"descriptors-{os.getpid()}"
    yield name
    assert not (BASE / name).exists(), "the last process removes the files"


def run(
    directory: Path, program: str, namespace: str, *before: str, shell: str = 'exec "$@"'
) -> subprocess.CompletedProcess[str]:
    for name in ("work", "other", "third"):
        (directory / f"{name}.py").write_text(WORK)
    (directory / "prog.py").write_text(program)
    return subprocess.run(
        ["sh", "-c", f"ulimit -n 4096; {shell}", "sh", sys.executable, *before, "prog.py"],
        cwd=directory, env={**os.environ, "PYKCOV_NAMESPACE": namespace},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def unharmed(directory: Path, done: subprocess.CompletedProcess[str]) -> list[str]:
    """Check that the program's files are as it wrote them; return what it said before the end."""
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    own = list(directory.glob("own.*"))
    assert last == f"theirs: {len(own)}"
    for path in own:
        files = [path]
        if path.is_dir():
            files = sorted(path.iterdir())
            assert [f.name for f in files] == ["area.1", "lock", "precious", "registry"]
        for file in files:
            assert file.read_text() == "mine", file
    return said


def test_the_directory_whose_number_was_the_namespaces_keeps_its_files(
    tmp_path: Path, namespace: str
) -> None:
    """They were all deleted at exit."""
    done = run(tmp_path, CLOSE + "with pykcov.remote(0x42): pass\ntake_over()\n", namespace)
    assert unharmed(tmp_path, done) == []
    assert len(list(tmp_path.glob("own.*"))) >= 2
    assert done.stderr == ""


def test_nothing_is_written_into_the_programs_files_and_its_modules_are_recorded_all_the_same(
    tmp_path: Path, namespace: str
) -> None:
    """Records of the code map went into the file that had its number."""
    program = CLOSE + "import work\nwork.work()\ntake_over()\nimport other\nother.work()\n"
    command = ["-m", "pykcov", "run", "--quiet", "--events", "--source", str(tmp_path)]
    done = run(tmp_path, program, namespace, *command)
    assert unharmed(tmp_path, done) == []
    assert done.stderr == ""
    lines = pykcov.Trace.load(tmp_path / "pykcov.trace").lines()
    assert lines[str(tmp_path / "work.py")] == lines[str(tmp_path / "other.py")] == {1, 2, 3}


def test_who_collects_afterwards_collects(tmp_path: Path, namespace: str) -> None:
    """collect() raised NotADirectoryError."""
    program = f"""{CLOSE}
import work, other, third
with pykcov.collect():
    work.work()
take_over()
with pykcov.collect() as collection:
    other.work()
    with pykcov.remote(pykcov.common_handle()):
        third.work()
print(sorted(os.path.basename(name) for name in collection.trace.lines()))
"""
    done = run(tmp_path, program, namespace)
    assert unharmed(tmp_path, done) == ["['other.py', 'prog.py', 'third.py']"]
    assert done.stderr == ""


def test_a_block_in_which_they_are_closed_is_collected(tmp_path: Path, namespace: str) -> None:
    program = f"""{CLOSE}
import work, other
with pykcov.collect(include=["*/work.py", "*/other.py"]) as collection:
    work.work()
    take_over()
    other.work()
print([sorted(lines) for lines in collection.trace.lines().values()])
"""
    done = run(tmp_path, program, namespace)
    assert unharmed(tmp_path, done) == ["[[2, 3], [2, 3]]"]
    assert done.stderr == ""


def test_who_goes_on_is_seen_to_live(tmp_path: Path, namespace: str) -> None:
    """What says that a process lives was closed: its devices were everybody's."""
    program = f"""{CLOSE}
import subprocess
look_at = "from pykcov import listing; print([device.alive for device in listing.read().devices])"
device = pykcov.open()
device.init_trace(64)
take_over()
device.remote_enable(area_size=64, handles=[5])
sys.stdout.flush()
subprocess.run([sys.executable, "-c", look_at], check=True)
device.disable()
device.close()
"""
    done = run(tmp_path, program, namespace)
    assert unharmed(tmp_path, done) == ["[True]"]
    assert done.stderr == ""


@pytest.mark.parametrize("starts", [False, True], ids=["forks", "starts"])
def test_a_program_that_has_a_child_afterwards_keeps_its_namespace(
    tmp_path: Path, namespace: str, starts: bool
) -> None:
    """As the last one it removed what its parent still had, which could not be seen to live."""
    program = f"""{CLOSE}
import subprocess, work
with pykcov.collect(include=["*/work.py"]) as collection:
    take_over()
    if {starts}:
        subprocess.run([sys.executable, "-c", "import work; work.work()"], check=True)
    elif os.fork():
        os.wait()
    else:
        work.work()
        atexit.unregister(look)
        sys.exit()
print([sorted(lines) for lines in collection.trace.lines().values()])
"""
    done = run(tmp_path, program, namespace)
    assert unharmed(tmp_path, done) == [f"[{[1, 2, 3] if starts else [2, 3]}]"]
    assert done.stderr == ""


def test_what_cannot_be_opened_again_is_said_and_harms_nobody(tmp_path: Path) -> None:
    program = f"""{CLOSE}
import shutil, work, other
from pykcov import namespace
with pykcov.collect():
    work.work()
path = namespace.get().path
shutil.rmtree(path)
os.mkdir(path, 0o700)
take_over()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(3):
        with pykcov.remote(5):
            other.work()
        pykcov.remote_start(5)
        pykcov.remote_stop()
for warning in seen:
    print(warning.message)
for verb in (pykcov.open, pykcov.collect().__enter__):
    try:
        verb()
    except pykcov.KcovError as error:
        print(error)
os.rmdir(path)
"""
    name = f"descriptors-gone-{os.getpid()}"
    done = run(tmp_path, program, name)
    said = unharmed(tmp_path, done)
    assert done.stderr == ""
    assert len(said) in (2, 3), "two verbs, and at most one warning"
    for text in said:
        assert f"namespace: {BASE / name}: this program has closed descriptors" in text
        assert "cannot be had again: another file is in its place" in text


def test_a_device_that_ends_without_its_namespace_says_so_once(tmp_path: Path) -> None:
    """Code in scope for the first time, the device, and its end: the program goes on."""
    program = f"""{CLOSE}
import shutil, work, other
from pykcov import namespace
device = pykcov.open(include=["*/work.py", "*/other.py"])
device.init_trace(64)
device.enable()
work.work()
path = namespace.get().path
shutil.rmtree(path)
take_over()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    print(other.work())
print(len(seen), *(warning.message for warning in seen))
device.disable()
try:
    device.close()
except pykcov.KcovError as error:
    print(error)
"""
    done = run(tmp_path, program, f"descriptors-gone-{os.getpid()}")
    said = unharmed(tmp_path, done)
    assert said[0] == "1"
    assert said[1].startswith("1 ") and "closed" in said[1], said
    assert all("this program has closed descriptors" in text for text in said[2:])
    assert "Exception ignored" not in done.stderr


def test_annotations_of_a_process_that_somebody_listens_to_warn_once(
    tmp_path: Path, namespace: str
) -> None:
    """Whatever they are, and wherever: it would be a warning for each of them."""
    program = f"""{CLOSE}
import time, work
from pykcov import namespace
with pykcov.remote(5):
    work.work()
path = namespace.get().path
os.rename(path, path + "-away")
take_over()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(5):
        time.sleep(0.01)  # longer than a listener is taken to be there without a look
        with pykcov.remote(5):
            work.work()
        pykcov.remote_start(5)
        work.work()
        pykcov.remote_stop()
print(len(seen), seen[0].message)
os.rename(path + "-away", path)
time.sleep(0.01)
with pykcov.remote(5):
    work.work()
"""
    listener = """
import subprocess, sys
import pykcov
with pykcov.open(include=["*/work.py"]) as device:
    device.init_trace(64)
    device.remote_enable(area_size=64, handles=[5])
    status = subprocess.run([sys.executable, "worker.py"]).returncode
    device.sync()
    assert len(device.trace().lines()) == 1
    assert len(device.trace()) == 6, device.trace()  # of two calls: an entry and two lines each
    device.disable()
sys.exit(status)
"""
    (tmp_path / "worker.py").write_text(program)
    done = run(tmp_path, listener, namespace)
    (said,) = unharmed(tmp_path, done)
    assert said.startswith("1 remote_start: handle 0x5: nothing is collected: "), said
    assert "this program has closed descriptors that are pykcov's" in said
    assert done.stderr == ""


def test_what_pykcov_has_not_made_is_not_removed_with_its_files(tmp_path: Path) -> None:
    """Not at the first device, and not by the last process."""
    name = f"descriptors-others-{os.getpid()}"
    path = BASE / name
    names = ["Lock", "area", "area.x", "handles.1.2", "notes.txt", "section.1.2"]
    try:
        program = "import pykcov\nwith pykcov.collect() as collection: pass\n"
        BASE.mkdir(0o700, exist_ok=True)
        path.mkdir(0o700)
        for other in names:
            (path / other).touch()
        (path / "area.7").touch()
        done = run(tmp_path, program, name)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(file.name for file in path.iterdir()) == names
    finally:
        shutil.rmtree(path)


STANDARD = """
import os, sys
import pykcov, work
with pykcov.collect() as collection:
    work.work()
found = []
for number in range(3):
    try:
        os.write(number, b"the program's own words")
        found.append(number)
    except OSError:
        pass
with open("said", "w") as file:
    print(found, len(collection.trace) > 0, file=file)
"""


@pytest.mark.parametrize("command", [(), ("-m", "pykcov", "run")], ids=["python", "pykcov run"])
def test_a_program_without_standard_descriptors_has_none_of_pykcovs(
    tmp_path: Path, namespace: str, command: tuple[str, ...]
) -> None:
    """What it wrote to standard error went into the code map."""
    done = run(tmp_path, STANDARD, namespace, *command, shell='exec "$@" <&- >&- 2>&-')
    assert done.returncode == 0
    assert (tmp_path / "said").read_text() == "[] True\n"
    if command:
        trace = pykcov.Trace.load(tmp_path / "pykcov.trace")
        assert {2, 3} <= trace.lines()[str(tmp_path / "work.py")]


HELD = """
import os
before = set(os.listdir("/proc/self/fd"))
import pykcov, work
with pykcov.open() as device, pykcov.collect() as collection:
    device.init_trace(64)
    device.remote_enable(area_size=64, handles=[5])
    with pykcov.remote(5):
        work.work()
    found = {int(number) for number in set(os.listdir("/proc/self/fd")) - before}
    device.disable()
print(len(collection.trace) > 0, sorted(found)[0] >= LOWEST, len(found))
"""


def test_descriptors_of_pykcovs_are_high_and_few(tmp_path: Path, namespace: str) -> None:
    """The directory, the lock and the code map. Each file that was mapped had one more."""
    done = run(tmp_path, HELD.replace("LOWEST", "100"), namespace)
    assert (done.stdout, done.stderr) == ("True True 3\n", "")


def test_a_process_that_may_not_have_many_has_them_lower(tmp_path: Path, namespace: str) -> None:
    program = HELD.replace("LOWEST", "12")
    done = run(tmp_path, program, namespace, shell='ulimit -n 40; exec "$@"')
    assert (done.stdout, done.stderr) == ("True True 3\n", "")


def test_a_file_of_what_was_recorded_whose_number_is_anothers_is_lost_and_that_is_said(
    tmp_path: Path,
) -> None:
    spool = Spool()
    spool.parts.append((bytes(1 << 26), b"operands"))
    spool.make_room()
    assert spool.read() == (bytes(1 << 26), b"operands")
    with (tmp_path / "own").open("w+b", buffering=0) as own:
        own.write(b"mine")
        number = spool._files[0]._fd
        assert number >= 100
        os.dup2(own.fileno(), number)
        spool.parts.append((bytes(1 << 26), b""))
        with pytest.raises(pykcov.KcovError, match="has closed descriptors"):
            spool.make_room()
        with pytest.raises(pykcov.KcovError, match="has closed descriptors"):
            spool.read()
        spool.close()
        assert os.path.sameopenfile(number, own.fileno())
        os.close(number)
        assert (tmp_path / "own").read_bytes() == b"mine"
