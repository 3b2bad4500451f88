"""`pykcov trace`: any program under kcov, its system calls and what the kernel did for each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.marks import PATIENCE
from kernel.names import system_call
from kernel.usb import Bus

TRACE = [sys.executable, "-m", "pykcov", "trace"]
CALL = "import os; os.getsid(0); os.getppid()"


def trace(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRACE, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )  # type: ignore[call-overload, no-any-return]


def calls(text: str) -> list[list[str]]:
    """The lines of the report: the name of the call, then what it went through."""
    return [
        [words[0].removesuffix(":"), *words[1:]]
        for line in text.splitlines()
        if (words := line.split())
    ]


def test_each_system_call_is_a_line_with_the_functions_that_it_went_through() -> None:
    done = trace("--", "cat", "/etc/hostname")
    assert done.returncode == 0
    assert done.stdout == Path("/etc/hostname").read_text()
    found = calls(done.stderr)
    assert found[0][0] == "execve"
    assert "load_elf_binary" in found[0]
    assert found[-1][0] == "exit_group"
    reads = [call for call in found if call[0] == "read"]
    assert reads
    assert all(
        system_call(call[1]) == "sys_read" and "ksys_read" in call and "ksys_write" not in call
        for call in reads
    )
    assert all("ksys_write" in call for call in found if call[0] == "write")


def test_the_order_is_that_of_the_calls() -> None:
    done = trace("-e", "getsid,getppid", "--", sys.executable, "-c", CALL)
    assert [call[0] for call in calls(done.stderr)] == ["getsid", "getppid"]


def test_lines_are_those_of_the_kernels_source(tmp_path: Path) -> None:
    out = tmp_path / "calls"
    done = trace("--lines", "-e", "getsid", "-o", str(out), "--", sys.executable, "-c", CALL)
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = calls(out.read_text())
    assert call[0] == "getsid"
    assert all(word.rpartition(":")[2].isdigit() for word in call[1:])
    assert any(word.startswith("kernel/sys.c:") for word in call)


def test_a_table_counts_the_calls() -> None:
    done = trace(
        "-c",
        "-e",
        "getsid",
        "--",
        sys.executable,
        "-c",
        "import os\nfor i in range(5): os.getsid(0)",
    )
    head, rule, row = done.stderr.splitlines()
    assert head.split() == ["call", "calls", "PCs", "functions"]
    assert set(rule) == {"-", " "}
    assert row.split()[:2] == ["getsid", "5"]


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_exit_status_is_the_programs(status: int) -> None:
    assert trace("-o", "/dev/null", "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_program_that_a_signal_ends_is_followed_into_death(number: int) -> None:
    done = trace("-o", "/dev/null", "--", "sh", "-c", f"kill -{number:d} $$")
    assert done.returncode == -number


def test_ctrl_c_is_for_the_program_and_its_calls_are_printed_all_the_same(tmp_path: Path) -> None:
    out = tmp_path / "calls"
    program = (
        "import os\ntry:\n os.getsid(0)\n print('ready', flush=True)\n while True: pass\n"
        "except KeyboardInterrupt: os._exit(5)"
    )
    running = subprocess.Popen(
        [*TRACE, "-c", "-o", str(out), "--", sys.executable, "-c", program],
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(120) == 5
    running.stdout.close()
    assert "getsid" in out.read_text()


def test_a_signal_for_pykcov_is_passed_on() -> None:
    program = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(6)); print('ready', flush=True)\nwhile True: time.sleep(0.1)"
    running = subprocess.Popen(
        [*TRACE, "-o", "/dev/null", "--", sys.executable, "-c", program], stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.terminate()
    assert running.wait(60) == 6
    running.stdout.close()


def test_more_than_fits_the_area_is_taken_while_the_program_is_stopped() -> None:
    """Each call is there: the area is emptied when it is half full, and the program stands meanwhile."""
    program = (
        "import os, time\nfor i in range(400):\n os.getsid(0)\n if i % 20 == 0: time.sleep(0.1)"
    )
    done = trace(
        "-c", "-e", "getsid", "--area-size", "1048576", "--", sys.executable, "-c", program
    )
    assert "--area-size" not in done.stderr
    assert done.stderr.splitlines()[-1].split()[:2] == ["getsid", "400"]


def test_an_area_that_was_full_is_told() -> None:
    done = trace("-c", "--area-size", "512", "--", "ls", "/")
    assert "an area was full, and what came then is lost: see --area-size" in done.stderr


def test_a_reader_that_goes_away_does_not_end_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(TRACE)} -- sh -c 'ls / >/dev/null; echo done > {tmp_path}/done' 2>&1 | head -1"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "done").exists()


def test_what_the_worker_of_the_program_does_is_collected_by_the_common_handle() -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n" + (
        "from contextlib import closing\nfrom kernel.vhost import SEND, Vhost\n"
        "with closing(Vhost()) as vhost: vhost.kick(SEND)\n"
    )
    done = trace("-e", "ioctl", "--remote", "common", "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    found = {call[0]: call for call in calls(done.stderr)}
    assert "handle_tx_kick" in found["remote"]
    assert "handle_tx_kick" not in found["ioctl"]
    done = trace("-e", "ioctl", "--", sys.executable, "-c", program)
    assert "handle_tx_kick" not in done.stderr


@pytest.mark.parametrize("own", [True, False])
def test_remote_usb_has_hub_event_of_that_bus_and_of_no_other(own: bool) -> None:
    busy, other = Bus(0), Bus(1)
    listened = busy if own else other
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n" + (
        "from kernel.usb import Bus\nBus(0).cycle()\n"
    )
    done = trace(
        "-e", "none", "--remote", f"usb:{listened.number}", "--", sys.executable, "-c", program
    )
    assert ("hub_event" in done.stderr) is own


# What a user gets wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "no-such-program"], "pykcov: trace: no-such-program: no such command"),
        (["--lines", "--vmlinux", "/etc/hostname", "--", "true"], "pykcov: /etc/hostname: not an ELF file"),
        (["--vmlinux", sys.executable, "--", "true"], f"pykcov: {sys.executable}: "),
        (["-o", "/no/such/folder", "--", "true"], "pykcov: trace: /no/such/folder: No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    done = trace(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)


def test_a_file_that_cannot_be_executed_is_one_line_and_status_2(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program\n")
    program.chmod(0o755)
    done = trace("--", str(program))
    assert done.returncode == 2
    assert done.stderr == f"pykcov: {program}: Exec format error\n"
