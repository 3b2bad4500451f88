"""The command `pykcov ls`: what it shows of processes that collect, work, die and spoil files."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.actors import ENABLE, OPEN, PLACE, SECTION, SPACE, Start, actors, ls, rows
from integration.commands import PYKCOV, run, write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with actors(tmp_path) as start_one:
        yield start_one


def test_nothing_open_is_a_sentence_and_no_namespace_is_made() -> None:
    assert ls() == f"No device is open in {PLACE}.\n"
    assert ls("--sections") == f"No section is open in {PLACE}.\n"
    assert not PLACE.exists()


def test_a_namespace_that_nobody_uses_is_left_as_it_is(start: Start) -> None:
    actor = start()
    actor.does(OPEN)
    before = sorted(os.listdir(PLACE))
    ls()
    assert sorted(os.listdir(PLACE)) == before
    actor.does("d.close()")
    assert ls() == f"No device is open in {PLACE}.\n"


def test_each_mode_of_a_device_is_shown(start: Start) -> None:
    actor = start()
    actor.does("d = pykcov.open(include=[__file__])")
    (row,) = rows(ls())
    assert row == {
        "device": "0", "mode": "DISABLED", "owner": str(actor.pid), "sections": "0", "waiting": "0",
        "used": "-", "size": "-", "fill": "-", "dropped": "0", "handles": "-",
        "program": row["program"],
    }  # fmt: skip
    assert re.fullmatch(r"python\S* \S*/actor\.py", row["program"])
    actor.does("d.init_trace(5)")
    (row,) = rows(ls())
    assert (row["mode"], row["used"], row["size"], row["fill"]) == ("INIT", "0", "5", "0%")
    actor.does("d.enable(); work(9)")
    (row,) = rows(ls())
    assert (row["mode"], row["used"], row["size"], row["fill"]) == ("TRACE_PC", "4", "5", "100%")
    assert int(row["dropped"]) > 0


def test_a_device_is_shown_with_its_handles_and_the_sections_of_all_processes(start: Start) -> None:
    collector, worker = start(), start()
    collector.does(OPEN)
    collector.does(ENABLE)
    collector.does("threading.current_thread().name = 'a  [bold]\\nname'; " + SECTION)
    worker.does(SECTION)
    (row,) = rows(ls())
    assert (row["mode"], row["owner"], row["sections"]) == ("TRACE_PC", str(collector.pid), "2")
    assert (row["used"], row["fill"], row["dropped"], row["waiting"]) == ("0", "0%", "0", "0")
    assert row["handles"] == "0x1,0x2,0x3,+2"

    shown = {row["pid"]: row for row in rows(ls("--sections"))}
    assert set(shown) == {str(collector.pid), str(worker.pid)}
    for pid, thread in [(collector.pid, "a [bold] name"), (worker.pid, "MainThread")]:
        row = shown[str(pid)]
        assert (row["device"], row["state"], row["tid"]) == ("0", "open", str(pid))
        assert (row["handle"], row["moved"], row["lost"]) == ("0x42", "0", "0")
        assert row["thread"] == thread
        assert int(row["records"]) > 0

    worker.does("pykcov.remote_stop()")
    (row,) = rows(ls())
    assert row["sections"] == "1"
    assert int(row["used"]) > 0
    (row,) = rows(ls("--sections"))
    assert row["pid"] == str(collector.pid)


def test_without_section_records_no_thread_is_claimed(start: Start) -> None:
    actor = start()
    # The section's area has been used before, by one of a device that keeps records.
    for more in (", sections=9", ""):
        actor.does(f"d = pykcov.open(include=[__file__]{more}); d.init_trace(64)")
        actor.does(ENABLE)
        actor.does(SECTION)
        (row,) = rows(ls("--sections"))
        assert (row["thread"], row["tid"]) == (
            ("MainThread", str(actor.pid)) if more else ("-", "-")
        )
        actor.does("pykcov.remote_stop(); d.disable(); d.close()")


def test_what_a_killed_worker_has_left_waits_until_the_collector_reads(start: Start) -> None:
    collector, worker = start(), start()
    collector.does(OPEN)
    collector.does(ENABLE)
    worker.does(SECTION)
    worker.dies()
    (row,) = rows(ls())
    assert (row["sections"], row["waiting"]) == ("0", "1")
    (row,) = rows(ls("--sections"))
    assert (row["state"], row["pid"], row["program"]) == ("left", str(worker.pid), "(gone)")
    records = int(row["records"])
    collector.does("d.trace()")
    (row,) = rows(ls())
    assert (row["waiting"], row["used"]) == ("0", str(records))


def test_parked_areas_wait(start: Start) -> None:
    collector, worker = start(), start()
    collector.does("c = pykcov.collect(0x42, include=[__file__], area_size=16); c.__enter__()")
    worker.does("pykcov.remote_start(0x42); work(40)")
    found = rows(ls("--sections"))
    parked = [row for row in found if row["state"] == "parked"]
    assert parked
    assert {(row["pid"], row["handle"], row["records"]) for row in parked} == {
        (str(worker.pid), "0x42", "15")
    }
    (row,) = rows(ls())
    assert row["waiting"] == str(len(parked))
    assert row["dropped"] == "0"
    worker.does("pykcov.remote_stop()")
    collector.does("c.__exit__(None, None, None)")
    assert ls().startswith("No device")


def test_a_section_whose_device_was_disabled_is_over(start: Start) -> None:
    collector, worker = start(), start()
    collector.does(OPEN)
    collector.does(ENABLE)
    worker.does(SECTION)
    collector.does("d.disable()")
    (row,) = rows(ls("--sections"))
    assert (row["state"], row["pid"]) == ("over", str(worker.pid))
    (row,) = rows(ls())
    assert (row["mode"], row["sections"], row["handles"]) == ("INIT", "0", "-")


def test_a_killed_owner_is_gone(start: Start) -> None:
    collector, other = start(), start()
    other.does("e = pykcov.open()")  # so that the namespace stays
    collector.does(OPEN)
    collector.does(ENABLE)
    collector.dies()
    found = {row["owner"]: row for row in rows(ls())}
    assert found[str(collector.pid)]["program"] == "(gone)"
    assert found[str(other.pid)]["program"].endswith("actor.py")


def test_another_process_may_keep_all_locks_and_be_stopped(start: Start) -> None:
    actor = start()
    actor.does(OPEN)
    actor.does(
        "from pykcov import registry; r = registry.get(); s = r.namespace;"
        "s.registry_lock.__enter__(); r.device_lock(0).__enter__(); s.codemap_lock.__enter__()"
    )
    os.kill(actor.pid, signal.SIGSTOP)
    try:
        (row,) = rows(ls())
        assert row["owner"] == str(actor.pid)
    finally:
        os.kill(actor.pid, signal.SIGCONT)


# ---------------------------------------------------------------------------------- damaged files


def only(pattern: str) -> Path:
    (path,) = PLACE.glob(pattern)
    return path


@pytest.mark.parametrize("size", [0, 100, 4100])
def test_a_damaged_area_is_said_and_the_other_devices_are_shown(start: Start, size: int) -> None:
    actor = start()
    actor.does("e = pykcov.open(); e.init_trace(8)")
    other = only("area.*")
    actor.does(OPEN)
    (path,) = set(PLACE.glob("area.*")) - {other}
    os.truncate(path, size)
    first, second = rows(ls())
    assert (first["used"], first["size"]) == ("0", "8")
    assert (second["used"], second["size"], second["fill"]) == ("damaged", "64", "-")


def test_a_damaged_section_is_said_with_its_process(start: Start) -> None:
    actor = start()
    actor.does(OPEN)
    actor.does(ENABLE)
    actor.does(SECTION)
    with only("section.*").open("r+b") as file:
        file.write(b"nonsense")
    (row,) = rows(ls("--sections"))
    assert (row["device"], row["state"], row["pid"]) == ("-", "damaged", str(actor.pid))
    assert rows(ls())[0]["sections"] == "0"


def test_an_area_that_is_away_is_no_error(start: Start) -> None:
    actor = start()
    actor.does(OPEN)
    only("area.*").unlink()
    only("handles.*").unlink()
    (row,) = rows(ls())
    assert (row["used"], row["size"], row["fill"]) == ("-", "64", "-")


def test_a_pipe_in_a_files_place_is_not_waited_for(start: Start) -> None:
    actor = start()
    actor.does(OPEN)
    path = only("area.*")
    path.unlink()
    os.mkfifo(path, 0o600)
    (row,) = rows(ls())
    assert row["used"] == "damaged"


def test_a_damaged_registry_is_one_line_and_status_2(start: Start) -> None:
    start().does(OPEN)
    with (PLACE / "registry").open("r+b") as file:
        file.write(b"nonsense")
    done = run([*PYKCOV, "ls"], Path("/"), PYKCOV_NAMESPACE=SPACE)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"pykcov: namespace: \S+/registry is damaged \(.*\n", done.stderr)


@pytest.mark.parametrize("name", ["../elsewhere", "a b", "x" * 65])
def test_a_name_that_cannot_be_a_namespaces_is_one_line_and_status_2(name: str) -> None:
    for watch in ([], ["--watch"]):
        done = run([*PYKCOV, "ls", *watch], Path("/"), PYKCOV_NAMESPACE=name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("pykcov: namespace: ")
        assert done.stderr.count("\n") == 1


def test_a_namespace_that_is_open_to_others_and_a_link_are_refused(tmp_path: Path) -> None:
    PLACE.parent.mkdir(0o700, exist_ok=True)
    for make in (lambda: PLACE.mkdir(0o750), lambda: PLACE.symlink_to(tmp_path)):
        make()
        try:
            done = run([*PYKCOV, "ls"], Path("/"), PYKCOV_NAMESPACE=SPACE)
        finally:
            PLACE.unlink() if PLACE.is_symlink() else PLACE.rmdir()
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search("is open to others|is a link", done.stderr)


LOOK = """
    import sys
    from pykcov import KcovError, cli, listing
    for line in sys.stdin:
        try:
            listing.read()
            for view in (["ls"], ["ls", "--sections"]):
                assert cli.main(view) in (0, 2)
        except KcovError as error:
            print(error)
        print("looked", flush=True)
    """


def test_random_damage_in_any_file_is_survived(start: Start, tmp_path: Path) -> None:
    collector, worker = start(), start()
    collector.does(OPEN)
    collector.does(ENABLE)
    worker.does(SECTION)
    saved = {path: path.read_bytes() for path in PLACE.iterdir()}
    # They would clean up, or trip over the damage.
    os.kill(collector.pid, signal.SIGSTOP)
    os.kill(worker.pid, signal.SIGSTOP)
    chosen = random.Random(1)
    with subprocess.Popen(
        [sys.executable, str(write(tmp_path, "look.py", LOOK))],
        env={**os.environ, "PYKCOV_NAMESPACE": SPACE}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as looking:  # fmt: skip
        assert looking.stdin and looking.stdout and looking.stderr
        for _ in range(300):
            for path in chosen.sample(sorted(saved), 2):
                data = bytearray(saved[path])
                if not data:
                    continue
                if chosen.random() < 0.2:
                    del data[chosen.randrange(len(data)) :]
                for _ in range(chosen.choice([1, 8]) if data else 0):
                    at = chosen.randrange(min(len(data), chosen.choice([256, 4300, len(data)])))
                    data[at : at + 8] = chosen.randbytes(8)
                path.write_bytes(data)
            looking.stdin.write("\n")
            looking.stdin.flush()
            for said in looking.stdout:
                if said == "looked\n":
                    break
            else:
                pytest.fail(looking.stderr.read())
            for path, kept in saved.items():
                path.write_bytes(kept)
        looking.stdin.close()
        assert "Traceback" not in looking.stderr.read()
    assert looking.returncode == 0
