"""The command `pykcov`: what it records, prints and says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pykcov
from integration.commands import NAMESPACE, PYKCOV, pykcov_run, run, write
from integration.programs import PROGRAMS
from pykcov import Trace, cli


def test_interruption_ends_the_process_by_the_signal_and_the_trace_is_written(
    tmp_path: Path,
) -> None:
    write(tmp_path, "prog.py", PROGRAMS["SIGINT"])
    done = pykcov_run(tmp_path, "prog.py")
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
    assert "prog.py" in done.stderr.split("KeyboardInterrupt")[1]
    assert done.stdout == "atexit\n"
    assert Trace.load(tmp_path / "pykcov.trace").lines() == {str(tmp_path / "prog.py"): {1, 2, 3}}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.py", "No such file or directory"), ("locked/x.py", "Not a directory")],
)
def test_a_script_that_cannot_be_opened_is_one_line_and_status_2(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "locked").touch()
    done = pykcov_run(tmp_path, "-q", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"pykcov: can't open file '{tmp_path}/{name}': \[Errno \d+\] {reason}\n", done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["gone.py"], 2), (["-m", "gone"], 1), (["-m", "email"], 1), (["bad.py"], 1), (["folder"], 1)],
)
def test_where_nothing_was_run_the_trace_of_another_run_stays(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    write(tmp_path, "prog.py", "x = 1")
    write(tmp_path, "bad.py", "x = (")
    (tmp_path / "folder").mkdir()
    pykcov_run(tmp_path, "-q", "prog.py")
    before = (tmp_path / "pykcov.trace").read_bytes()
    done = pykcov_run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert "trace written" not in done.stderr
    assert (tmp_path / "pykcov.trace").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "bad.py", "folder", "prog.py", "pykcov.trace",
    }  # fmt: skip


def test_a_package_that_has_run_before_its_module_was_not_found_leaves_its_trace(
    tmp_path: Path,
) -> None:
    write(tmp_path, "package/__init__.py", "x = 1")
    assert pykcov_run(tmp_path, "-q", "-m", "package.gone").returncode == 1
    assert Trace.load(tmp_path / "pykcov.trace").lines() == {
        str(tmp_path / "package" / "__init__.py"): {1}
    }


# ------------------------------------------------------------------------------ what run records

PROGRAM = """\
import sys
def double(x):
    return 2 * x
def unused():
    return None
for i in range(int(sys.argv[1])):
    double(i)
print("done")
"""


def test_the_trace_has_every_line_in_order(tmp_path: Path) -> None:
    prog = write(tmp_path, "prog.py", PROGRAM)
    done = pykcov_run(tmp_path, "-o", "my.trace", "prog.py", "2")
    assert (done.returncode, done.stdout) == (0, "done\n")
    trace = Trace.load(tmp_path / "my.trace")
    assert trace.lines() == {str(prog): {1, 2, 3, 4, 6, 7, 8}}
    assert trace.functions() == {str(prog): {"double"}}
    places = [trace.symbolize(pc) for pc in trace]
    assert [(p.kind, p.line) for p in places] == [
        ("entry", 1), ("line", 1), ("line", 2), ("line", 4), ("line", 6), ("line", 7),
        ("entry", 2), ("line", 3), ("line", 6), ("line", 7), ("entry", 2), ("line", 3),
        ("line", 6), ("line", 8),
    ]  # fmt: skip


def test_the_summary_is_on_standard_error_and_report_prints_it_again(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", PROGRAM)
    done = pykcov_run(tmp_path, "prog.py", "2")
    assert done.stdout == "done\n"
    table, _, rest = (
        done.stderr.partition("\n\n") if "\n\n" in done.stderr else (done.stderr, "", "")
    )
    assert rest == ""
    assert (
        table
        == """
file           lines  functions  events
-------------  -----  ---------  ------
prog.py            7          1      14
-------------  -----  ---------  ------
total, 1 file      7          1      14
dropped                               0
trace written to pykcov.trace
"""
    )
    again = run([*PYKCOV, "report"], tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "\n" + again.stdout + "trace written to pykcov.trace\n" == done.stderr


def test_pcs_of_a_report_are_in_order_of_execution(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", PROGRAM)
    pykcov_run(tmp_path, "-q", "prog.py", "1")
    done = run([*PYKCOV, "report", "pykcov.trace", "--pcs"], tmp_path)
    assert done.returncode == 0
    rows = [row.split("  ") for row in done.stdout.splitlines()]
    assert [row[1:] for row in rows] == [
        ["prog.py:1", "<module>", "entry"],
        *[[f"prog.py:{n}", "<module>", "line"] for n in (1, 2, 4, 6, 7)],
        ["prog.py:2", "double", "entry"],
        ["prog.py:3", "double", "line"],
        *[[f"prog.py:{n}", "<module>", "line"] for n in (6, 8)],
    ]
    assert [int(row[0], 16) for row in rows] == list(Trace.load(tmp_path / "pykcov.trace"))


def test_threads_and_atexit_handlers_of_the_program_are_recorded(tmp_path: Path) -> None:
    prog = write(
        tmp_path,
        "prog.py",
        """
        import atexit, threading, time
        def late():
            return 1
        def work():
            time.sleep(0.2)
            return 2
        atexit.register(late)
        threading.Thread(target=work).start()
        """,
    )
    pykcov_run(tmp_path, "-q", "prog.py")
    assert Trace.load(tmp_path / "pykcov.trace").functions() == {str(prog): {"late", "work"}}


def test_a_pool_that_the_program_imports_carries_the_handle(tmp_path: Path) -> None:
    """Two finders that ask each other wrapped one module twice, and its import failed."""
    prog = write(
        tmp_path,
        "prog.py",
        """
        from concurrent.futures import ThreadPoolExecutor
        def work():
            return 2
        with ThreadPoolExecutor() as pool:
            print(pool.submit(work).result())
        """,
    )
    done = pykcov_run(tmp_path, "-q", "prog.py")
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert Trace.load(tmp_path / "pykcov.trace").functions() == {str(prog): {"work"}}


def test_branch_records_the_arms(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", PROGRAM)
    for option in ([], ["--branch"]):
        pykcov_run(tmp_path, "-q", *option, "prog.py", "1")
        trace = Trace.load(tmp_path / "pykcov.trace")
        kinds = {place.kind for place in trace.places.values()}
        assert ("arm" in kinds) == bool(option)


def test_source_include_and_omit_take_lists_and_repeats(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        write(tmp_path, f"{name}/mod_{name}.py", "x = 1")
    write(
        tmp_path,
        "prog.py",
        "import sys; sys.path += list('abcd')\nimport mod_a, mod_b, mod_c, mod_d",
    )
    for options, expected in [
        ([], {"prog", "mod_a", "mod_b", "mod_c", "mod_d"}),
        (["--source", "a,b", "--source", "c"], {"mod_a", "mod_b", "mod_c"}),
        (["--source=a, b", "--omit", "*/mod_b.py"], {"mod_a"}),
        (["--include", "*/mod_b.py,*/mod_c.py", "--omit=b/*", "--omit=x"], {"mod_c"}),
    ]:
        pykcov_run(tmp_path, "-q", *options, "prog.py")
        lines = Trace.load(tmp_path / "pykcov.trace").lines()
        assert {Path(file).stem for file in lines} == expected


def test_sections_with_a_handle_of_the_command_line_are_recorded(tmp_path: Path) -> None:
    prog = write(
        tmp_path,
        "prog.py",
        """
        import sys, threading, contextvars, pykcov
        def work(handle):
            with pykcov.remote(handle):
                return 1
        for handle in (0x42, 7, 8):
            work(handle)
        """,
    )
    done = pykcov_run(tmp_path, "-q", "--handle", "0x42", "--handle=7", "prog.py")
    assert (done.returncode, done.stderr) == (0, "")
    trace = Trace.load(tmp_path / "pykcov.trace")
    assert trace.lines()[str(prog)] == {1, 2, 3, 4, 5, 6}
    assert trace.functions() == {str(prog): {"work"}}


def test_the_default_trace_is_in_the_directory_where_the_program_started(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", "import os; os.mkdir('d'); os.chdir('d')")
    done = pykcov_run(tmp_path, "prog.py")
    assert (tmp_path / "pykcov.trace").exists()
    assert "\nprog.py " in done.stderr


@pytest.mark.parametrize("name", ["exception", "exit text", "KeyboardInterrupt", "SIGINT"])
def test_a_program_that_fails_leaves_its_trace_and_summary(tmp_path: Path, name: str) -> None:
    write(tmp_path, "prog.py", PROGRAMS[name])
    done = pykcov_run(tmp_path, "prog.py")
    assert done.returncode != 0
    assert "trace written to pykcov.trace" in done.stderr
    assert len(Trace.load(tmp_path / "pykcov.trace")) > 0


def test_a_forked_child_leaves_the_trace_to_its_parent(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", PROGRAMS["fork"])
    done = pykcov_run(tmp_path, "prog.py")
    assert done.stderr.count("trace written") == 1
    assert done.stdout == "child\nstatus 3\n"


def test_nothing_in_scope_is_said(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", "x = 1")
    done = pykcov_run(tmp_path, "--source", "elsewhere", "prog.py")
    assert done.returncode == 0
    assert "nothing that was executed is in scope" in done.stderr


# --------------------------------------------------------------------------- what can go wrong


def test_a_trace_that_cannot_be_written_is_found_out_before_the_program_runs(
    tmp_path: Path,
) -> None:
    write(tmp_path, "prog.py", "print('it ran')")
    done = pykcov_run(tmp_path, "-o", "no/such/place", "prog.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"pykcov: Trace.save: {tmp_path}/no/such/place: No such file or directory\n"
    )


@pytest.mark.parametrize(("code", "status"), [("0", 2), ("5", 5)])
def test_a_trace_that_can_no_longer_be_written_is_status_2_if_the_program_had_0(
    tmp_path: Path, code: str, status: int
) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path, "prog.py", f"import os, sys; os.rmdir('out'); print('x'); sys.exit({code})")
    done = pykcov_run(tmp_path, "-q", "-o", "out/x.trace", "prog.py")
    assert (done.returncode, done.stdout) == (status, "x\n")
    assert done.stderr == f"pykcov: Trace.save: {tmp_path}/out/x.trace: No such file or directory\n"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, "prog.py", "x = 1")
    done = pykcov_run(tmp_path, "-q", "-o", "/dev/full", "prog.py")
    assert done.returncode == 2
    assert done.stderr == "pykcov: Trace.save: /dev/full: No space left on device\n"


def test_the_trace_survives_what_a_program_does_to_the_interpreter(tmp_path: Path) -> None:
    write(
        tmp_path,
        "prog.py",
        """
        import builtins, os, sys
        sys.stderr.close()
        sys.stdout = sys.stderr = sys.excepthook = None
        sys.path.clear(); sys.argv = None
        sys.modules.pop("json"); sys.modules["__main__"] = None
        os.chdir("/")
        """,
    )
    done = pykcov_run(tmp_path, "prog.py")
    assert done.returncode == 0
    assert Trace.load(tmp_path / "pykcov.trace").lines() == {
        str(tmp_path / "prog.py"): {1, 2, 3, 4, 5, 6}
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: pykcov run"),
        (["nonsense"], "no such command: 'nonsense'"),
        (["run"], "a SCRIPT or -m MODULE is required"),
        (["run", "-m"], "a SCRIPT or -m MODULE is required"),
        (["run", "--"], "a SCRIPT or -m MODULE is required"),
        (["run", "--handle", "x", "prog.py"], "invalid handle value: 'x'"),
        (["run", "--handle", "0", "prog.py"], "invalid handle value: '0'"),
        (["run", "--handle", "-1", "prog.py"], "handle"),
        (["run", "--handle", "0x10000000000000000", "prog.py"], "invalid handle value"),
        (["run", "--no-such-option", "prog.py"], "pykcov run: error:"),
        (["report", "--format", "nothing"], "pykcov report: error:"),
        (["report", "none.trace"], "pykcov: Trace.load: none.trace: No such file or directory"),
        (["report", __file__], f"pykcov: Trace.load: {__file__}: not a pykcov trace"),
        (["report", "."], "pykcov: Trace.load: .: Is a directory"),
        (["doctor", "x"], "pykcov doctor: error:"),
        (["ls", "x"], "pykcov ls: error:"),
        (["ls", "--watch", "soon"], "invalid seconds value: 'soon'"),
        (["ls", "--watch", "nan"], "from 0.1 seconds to a day"),
        (["ls", "--watch", "0"], "from 0.1 seconds to a day"),
    ],
)
def test_a_mistake_is_status_2_and_no_traceback(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["examples:", "run", "report", "doctor"]),
        (["run", "--help"], ["--source", "--handle", "exit status", "examples:"]),
        (["report", "--help"], ["--pcs"]),
        (["doctor", "--help"], ["--clean"]),
        (["ls", "--help"], ["--watch [SECONDS]", "--sections", "examples:"]),
        (["--version"], [f"pykcov {pykcov.__version__}"]),
    ],
)
def test_help_and_version_are_status_0(
    arguments: list[str], words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for word in words:
        assert word in out


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    Trace(range(1 << 20), places={}).save(tmp_path / "long.trace")
    with subprocess.Popen(
        [*PYKCOV, "report", "--pcs", "long.trace"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0x0000000000000000  ?  ?  unknown\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_hostile_trace_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.trace").write_bytes(b"\x89pykcov\n\x01\0\0\0\x03\0\0\0abcdefgh")
    done = run([*PYKCOV, "report", "x.trace"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("pykcov: Trace.load: x.trace: damaged: ")
    assert done.stderr.count("\n") == 1


# --------------------------------------------------------------------------------------- doctor


def test_doctor_names_the_probe_the_namespace_and_nothing_stale(tmp_path: Path) -> None:
    done = run([*PYKCOV, "doctor"], tmp_path, PYKCOV_NAMESPACE=f"{NAMESPACE}-doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pykcov {pykcov.__version__}" in done.stdout
    assert "\nprobes\n" in done.stdout
    assert f"{NAMESPACE}-doctor" in done.stdout
    assert "\ndevices\n  none\n" in done.stdout
    assert done.stdout.endswith("\nstale\n  nothing\n")


def test_doctor_takes_a_directory_for_no_package(tmp_path: Path) -> None:
    for name in ("rich", "coverage"):
        (tmp_path / name).mkdir()
    (tmp_path / "pykcov-1.dist-info").mkdir()
    write(
        tmp_path, "pykcov-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: pykcov\nVersion: 1\n"
    )
    # Without site-packages, -S, neither is installed.
    done = run(
        [sys.executable, "-S", "-m", "pykcov", "doctor"],
        tmp_path,
        PYTHONPATH=str(Path(pykcov.__file__).parents[1]),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  rich +not installed \(optional\)$", done.stdout, re.M)
    assert re.search(r"^  coverage +not installed \(optional\)$", done.stdout, re.M)


def test_doctor_shows_the_devices_of_other_processes(tmp_path: Path) -> None:
    with pykcov.open() as device:
        device.init_trace(64)
        device.remote_enable(area_size=32, handles=[0x42, 0x43])
        done = run([*PYKCOV, "doctor"], tmp_path, PYKCOV_NAMESPACE=os.environ["PYKCOV_NAMESPACE"])
        device.disable()
    row = next(r for r in done.stdout.splitlines() if r.startswith(f"  {device.number} "))
    assert str(os.getpid()) in row
    assert row.split()[-4:] == ["64", "0x42", "0x43", "0"]
    assert "(gone)" not in row


def test_doctor_says_what_is_wrong_with_a_namespace(tmp_path: Path) -> None:
    done = run([*PYKCOV, "doctor"], tmp_path, PYKCOV_NAMESPACE="../elsewhere")
    assert done.returncode == 1
    assert "unusable" in done.stdout
    assert done.stderr == ""


def test_doctor_cleans_up_after_a_dead_process(tmp_path: Path) -> None:
    space = f"{NAMESPACE}-doctor"
    died = run(
        [
            sys.executable, "-c",
            "import os, signal, pykcov; d = pykcov.open(); d.init_trace(64); d.mmap();"
            "d.remote_enable(area_size=32, handles=[1]); os.kill(os.getpid(), signal.SIGKILL)",
        ],
        tmp_path, PYKCOV_NAMESPACE=space,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    seen = run([*PYKCOV, "doctor"], tmp_path, PYKCOV_NAMESPACE=space).stdout
    assert "(gone)" in seen or "--clean" in seen
    cleaned = run([*PYKCOV, "doctor", "--clean"], tmp_path, PYKCOV_NAMESPACE=space).stdout
    assert "(gone)" not in cleaned
    after = run([*PYKCOV, "doctor"], tmp_path, PYKCOV_NAMESPACE=space).stdout
    assert after.endswith("\nstale\n  nothing\n")
    assert "\ndevices\n  none\n" in after
