"""Bad namespaces: other people's directories, links, damaged files, no space: no harm is done."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.mounting import needs_mount, private

HOSTILE = Path(__file__).with_name("hostile.py")
BASE = Path(f"/dev/shm/pykcov-{os.geteuid()}")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


# The namespace's directory. Each case is a process of its own: a process opens its namespace once.


def run(
    *args: str, namespace: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run hostile.py; a crash and a hang fail here."""
    done = subprocess.run(
        [*before, sys.executable, str(HOSTILE), *args],
        env={**os.environ, "PYKCOV_NAMESPACE": namespace},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


def refused(namespace: str, *words: str, order: str = "annotations first") -> None:
    """The namespace must be refused: KcovError from verbs, one KcovWarning from all annotations."""
    said = json.loads(run("probe", order, namespace=namespace).stdout)
    for word in words:
        assert word in said["verbs"], said
    assert len(said["warnings"]) == 1, said
    assert words[-1] in said["warnings"][0]


@pytest.fixture
def place() -> Iterator[Path]:
    """A name in the user's directory of namespaces that nobody else uses."""
    BASE.mkdir(0o700, exist_ok=True)
    path = BASE / f"bad-{os.getpid()}"
    yield path
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_the_programs_of_these_tests_are_fine_in_a_good_namespace(place: Path) -> None:
    for order in ("annotations first", "verbs first"):
        said = json.loads(run("probe", order, namespace=place.name).stdout)
        assert said == {"verbs": "ok", "warnings": [], "beside": []}
    assert not place.exists(), "the last process removes the files"


@pytest.mark.parametrize("order", ["annotations first", "verbs first"])
@pytest.mark.parametrize("mode", [0o770, 0o720, 0o750, 0o707, 0o701])
def test_a_directory_that_is_open_to_others_is_refused(place: Path, mode: int, order: str) -> None:
    place.mkdir()
    place.chmod(mode)
    refused(place.name, str(errno.EPERM), f"{mode:o}", place.name, order=order)
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert not list(place.iterdir()), "nothing was made in it"


@root_only
def test_a_directory_of_somebody_else_is_refused(place: Path) -> None:
    place.mkdir(0o700)
    os.chown(place, 12345, 12345)
    refused(place.name, str(errno.EPERM), "12345", place.name)


@pytest.mark.parametrize("target", ["good", "nowhere"])
def test_a_link_in_the_directorys_place_is_not_followed(
    place: Path, tmp_path: Path, target: str
) -> None:
    good = tmp_path / "good"
    good.mkdir(0o700)
    place.symlink_to(tmp_path / target)
    refused(place.name, "link", place.name)
    assert not list(good.iterdir())
    assert not (tmp_path / "nowhere").exists()
    assert place.is_symlink(), "what was there is left alone"


def test_a_file_in_the_directorys_place_is_refused_and_kept(place: Path) -> None:
    place.write_text("mine")
    refused(place.name, str(errno.ENOTDIR), place.name)
    assert place.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["../escape", "a/b", ".", "..", ".hidden", "a b", "a\nb", "x" * 65, "ü", "-", "/tmp/x"]
)
def test_a_name_that_cannot_be_a_namespaces_is_refused(name: str) -> None:
    said = json.loads(run("probe", namespace=name).stdout)
    assert str(errno.EINVAL) in said["verbs"]
    assert len(said["warnings"]) == 1


def test_an_empty_name_is_the_default_one() -> None:
    code = "from pykcov import namespace; print(namespace.get().name)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYKCOV_NAMESPACE": ""},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "default\n"


# Damaged files


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_give_a_clear_error_or_do_no_harm(part: int) -> None:
    """Every way of hostile.WAYS, on every file that a killed process left. Not one may crash."""
    run("damaged", str(part * 39), str(part * 39 + 39), namespace="unused")


def test_no_value_of_any_word_of_the_registry_does_harm() -> None:
    run("spoilt_words", namespace="unused")


SECTION = """
import pykcov, warnings
with warnings.catch_warnings(record=True) as seen, pykcov.remote(9):
    warnings.simplefilter("always")
    n = 1
print(*(str(warning.message) for warning in seen))
"""


@pytest.mark.parametrize("size", [0, 1, 1 << 48, 1 << 61, (1 << 63) - 1, (1 << 64) - 1])
def test_a_size_of_areas_that_cannot_be_is_damage(size: int, place: Path) -> None:
    """A worker made a file of it that it could not use, or met an OverflowError, which was told as pykcov's own."""
    program = f"""
import pykcov, subprocess, sys
from pykcov.registry import Word
with pykcov.open() as device:
    device.init_trace(64)
    device.remote_enable(area_size=64, handles=[9])
    device._slot[Word.REMOTE_SIZE] = {size}
    subprocess.run([sys.executable, "-c", {SECTION!r}], check=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYKCOV_NAMESPACE": place.name},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert f"[Errno {errno.EUCLEAN}]" in done.stdout
    assert f"areas of {size} words" in done.stdout
    assert done.stderr == ""
    assert not place.exists()


def test_a_section_ends_whose_file_is_gone_and_whose_header_is_spoilt(place: Path) -> None:
    """Its table of operands, which it has not, was looked for in the file when the area went back to the pool."""
    program = """
import pykcov
from pykcov import task
from pykcov.area import Head
with pykcov.collect() as collection:
    n = 1
    (section,) = task.current().sections
    section.area.head[Head.OPERANDS] = 4096
    section.area.unlink()
print(len(collection.trace) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYKCOV_NAMESPACE": place.name},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_files_that_are_damaged_while_a_process_uses_them_do_not_crash_it(place: Path) -> None:
    """Flipped in place. A file that its own user cuts short under a process is a SIGBUS for it."""
    for seed in range(6):
        name = f"{place.name}-{seed}"
        with subprocess.Popen(
            [sys.executable, str(HOSTILE), "slow_reader"], text=True,
            env={**os.environ, "PYKCOV_NAMESPACE": name},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout and process.stderr
            assert process.stdout.readline() == "ready\n"
            random_ = random.Random(seed)
            for path in (BASE / name).iterdir():
                with path.open("r+b") as file:
                    size = path.stat().st_size
                    for _ in range(64 if size else 0):
                        file.seek(random_.randrange(min(size, random_.choice([128, size]))))
                        file.write(random_.randbytes(1))
            run("probe", namespace=name)
            process.communicate(timeout=60)
            assert process.returncode >= 0, f"seed {seed}: signal {-process.returncode}"
        shutil.rmtree(BASE / name, ignore_errors=True)


# A shared-memory file system of our own


@needs_mount
@pytest.mark.parametrize(
    "options",
    [*(f"size={size}k" for size in (4, 8, 16, 64, 128, 160, 192, 256, 512, 1024)),
     *(f"size=4m,nr_inodes={number}" for number in range(1, 12))],
)  # fmt: skip
def test_without_space_verbs_and_annotations_speak_up_and_nothing_crashes(options: str) -> None:
    """A page that cannot be had when it is first touched would be a SIGBUS."""
    for order in ("annotations first", "verbs first"):
        said = json.loads(run("probe", order, namespace="full", before=private(options)).stdout)
        if said["verbs"] == "nothing was recorded":
            assert any("KcovWarning" in text for text in said["beside"]), said
        elif said["verbs"] != "ok":
            assert said["verbs"].split()[0] in (str(errno.ENOMEM), str(errno.ENOSPC)), said
            assert "/dev/shm" in said["verbs"]


@needs_mount
def test_a_section_without_space_warns_and_later_sections_are_collected() -> None:
    done = run("full", namespace="full", before=private("size=4m"))
    texts = json.loads(done.stdout)["warnings"]
    assert any("remote_start" in text for text in texts)


OWN = f"/dev/shm/pykcov-{0}"  # unshare --map-root-user: uid 0 inside


@needs_mount
@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ((f"mkdir -m 770 {OWN}",), ("770", OWN)),
        ((f"mkdir -m 1777 {OWN}",), (OWN,)),
        ((f"touch {OWN}",), (str(errno.ENOTDIR), OWN)),
        (("mkdir -m 700 /dev/shm/target", f"ln -s target {OWN}"), ("link", OWN)),
        ((f"ln -s nowhere {OWN}",), (OWN,)),
        ((f"mkfifo -m 600 {OWN}",), (OWN,)),
        ((f"mkdir -m 700 {OWN} {OWN}/bad", f"mkfifo -m 600 {OWN}/bad/lock"), (OWN,)),
        ((f"mkdir -m 700 {OWN} {OWN}/bad {OWN}/bad/lock",), (OWN,)),
        ((f"mkdir -m 700 {OWN} {OWN}/bad", f"install -m 666 /dev/null {OWN}/bad/lock"), (OWN,)),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) and len(value) < 3 else "",
)
def test_a_base_directory_or_lock_that_is_not_the_users_alone_is_refused(
    commands: tuple[str, ...], words: tuple[str, ...]
) -> None:
    for order in ("annotations first", "verbs first"):
        said = json.loads(
            run("probe", order, namespace="bad", before=private("size=4m", *commands)).stdout
        )
        for word in words:
            assert word in said["verbs"], said
        assert len(said["warnings"]) == 1, said


@needs_mount
@pytest.mark.parametrize("order", ["annotations first", "verbs first"])
def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path, order: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o600)
    before = private("size=4m", f"mkdir -m 700 {OWN} {OWN}/bad", f"ln -s {victim} {OWN}/bad/lock")
    said = json.loads(run("probe", order, namespace="bad", before=before).stdout)
    assert "link" in said["verbs"] and OWN in said["verbs"], said
    assert len(said["warnings"]) == 1, said
    assert victim.read_text() == "mine"


@needs_mount
def test_nothing_is_made_behind_a_link_in_the_base_directorys_place() -> None:
    look = f'python() {{ {sys.executable} "$@"; }}; ls -A /dev/shm/target'
    commands = ("mkdir -m 700 /dev/shm/target", f"ln -s target {OWN}")
    before = private("size=4m", *commands)
    script = before[-2].replace('exec "$@"', f'"$@" && {{ {look}; }}')
    done = run("probe", namespace="bad", before=(*before[:-2], script, "sh"))
    assert done.stdout.count("\n") == 1, f"something was made behind the link: {done.stdout}"


@root_only
@needs_mount
def test_a_base_directory_of_somebody_else_is_refused() -> None:
    commands = (f"mkdir -m 700 {OWN}", f"chown 12345 {OWN}")
    before = tuple(x for x in private("size=4m", *commands) if x != "--map-root-user")
    said = json.loads(run("probe", namespace="bad", before=before).stdout)
    assert "12345" in said["verbs"]
    assert len(said["warnings"]) == 1
