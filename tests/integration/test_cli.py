"""The command `pykcov`. What it promises about programs is checked against python itself."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import zipapp
from collections.abc import Iterator
from pathlib import Path

import pytest

import pykcov
from pykcov import Trace, cli

PYKCOV = [sys.executable, "-m", "pykcov"]
CONSOLE_SCRIPT = [sys.executable, str(Path(sys.executable).with_name("pykcov"))]

# Some of the programs are killed, or end themselves, and leave a device for others to find.
NAMESPACE = f"cli-{os.getpid()}"


@pytest.fixture(autouse=True, scope="module")
def namespace_of_the_programs() -> Iterator[None]:
    yield
    for name in (NAMESPACE, f"{NAMESPACE}-doctor"):
        shutil.rmtree(f"/dev/shm/pykcov-{os.geteuid()}/{name}", ignore_errors=True)


def run(
    command: list[str], directory: Path, *, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYKCOV_NAMESPACE": NAMESPACE,
            **environment,
        },
    )


def pykcov_run(
    directory: Path, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return run([*PYKCOV, "run", *arguments], directory, stdin=stdin)


# -------------------------------------------------------------------- a program does not notice

PROGRAMS = {
    "its own view of itself": """
        import json, sys
        print(sys.argv, sys.path[0], __name__, __file__)
        print([(k, v if k in ("__doc__", "__package__", "__cached__") else type(v).__name__)
               for k, v in list(globals().items())])
        print(__loader__.name, __loader__.path, __loader__.get_source("__main__")[:8])
        print(sys.modules["__main__"].__dict__ is globals(), __builtins__.__name__)
    """,
    "its __main__ is importable": """
        import pickle, __main__
        class Thing: pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, __main__.Thing is Thing)
    """,
    "if __name__": """
        def main(): print("main")
        if __name__ == "__main__": main()
    """,
    "exit None": "import sys; sys.exit()",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit 256": "import sys; sys.exit(256)",
    "exit True": "import sys; sys.exit(True)",
    "exit text": "import sys; sys.exit('no such thing: é')",
    "exit tuple": "import sys; sys.exit((1, 'two'))",
    "exit object": """
        import sys
        class Reason:
            def __str__(self): return "because"
        sys.exit(Reason())
    """,
    "exit without stderr": "import sys; sys.stderr = None; sys.exit('nowhere')",
    "os._exit": "import os; os._exit(5)",
    "exception": """
        def f(): g()
        def g(): raise ValueError("bad")
        f()
    """,
    "chained exceptions": """
        try:
            try: 1 / 0
            except ZeroDivisionError: [][0]
        except IndexError as e:
            raise RuntimeError("third") from e
    """,
    "exception group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "exception with notes": "e = ValueError(1); e.add_note('a note'); raise e",
    "exception that is not an Exception": "class Odd(BaseException): pass\nraise Odd('x')",
    "exception without text": """
        class Bad(Exception):
            def __str__(self): raise ValueError
        raise Bad
    """,
    "GeneratorExit": "raise GeneratorExit",
    "KeyboardInterrupt": "raise KeyboardInterrupt('stop')",
    "SIGINT": """
        import atexit, os, signal, time
        atexit.register(print, "atexit")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    """,
    "SIGINT handled": """
        import os, signal
        signal.signal(signal.SIGINT, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.SIGINT)
    """,
    "SIGTERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "syntax error": "x = 1\ndef f(:\n    pass\n",
    "indentation error": "if 1:\nx = 1\n",
    "syntax error found by the compiler": "x = 1\nreturn 3\n",
    "syntax error in an import": """
        import pathlib, sys
        pathlib.Path("broken.py").write_text("def f(:")
        import broken
    """,
    "unknown name": "x = 1\nprint(undefined)\n",
    "import error": "import no_such_module_at_all",
    "empty": "",
    "comment only": "# nothing",
    "no newline at the end": "print('x')\nprint('y')",
    "excepthook": """
        import sys
        def hook(kind, error, trace):
            print("hook", kind.__name__, error, trace.tb_lineno, trace.tb_next, sys.exc_info())
        sys.excepthook = hook
        1 / 0
    """,
    "excepthook that fails": """
        import sys
        def hook(kind, error, trace): raise ValueError("in hook")
        sys.excepthook = hook
        1 / 0
    """,
    "excepthook that exits": """
        import sys
        sys.excepthook = lambda *_: sys.exit(7)
        1 / 0
    """,
    "excepthook that is gone": "import sys; del sys.excepthook; 1 / 0",
    "last exception": """
        import atexit, sys
        atexit.register(lambda: print(repr(sys.last_value), sys.last_traceback.tb_frame.f_code))
        1 / 0
    """,
    "exception in a thread": """
        import threading
        def work(): raise ValueError("in thread")
        t = threading.Thread(target=work, name="worker"); t.start(); t.join()
        print("main goes on")
    """,
    "a thread outlives main": """
        import atexit, threading, time
        def work():
            time.sleep(0.2); print("thread", threading.main_thread().is_alive(), flush=True)
        atexit.register(lambda: print("atexit", flush=True))
        threading.Thread(target=work).start()
        print("main ends", flush=True)
        raise ValueError("main fails")
    """,
    "a daemon thread does not": """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """,
    "a pool is joined at exit": """
        import concurrent.futures, time
        pool = concurrent.futures.ThreadPoolExecutor(2)
        for i in range(2): pool.submit(lambda i=i: (time.sleep(0.1 * i), print(i, flush=True)))
    """,
    "atexit handlers": """
        import atexit
        atexit.register(print, "first registered")
        atexit.register(lambda: 1 / 0)
        atexit.register(print, "last registered")
    """,
    "__del__ at the end": """
        class Thing:
            def __del__(self): print("gone", __name__)
        thing = Thing()
    """,
    "unraisable": """
        class Thing:
            def __del__(self): raise ValueError("in del")
        Thing(); print("goes on")
    """,
    "standard input": "import sys; print(input(), sys.stdin.read().upper())",
    "end of input": "input(); input(); input()",
    "closed stdout": "import sys; print('x'); sys.stdout.close()",
    "broken pipe": """
        import os, sys
        r, w = os.pipe(); os.close(r); os.dup2(w, 1)
        print("x")
    """,
    "another directory": "import os; os.mkdir('d'); os.chdir('d'); print(os.getcwd())",
    "a deprecated call": "import warnings; warnings.warn('old', DeprecationWarning)",
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0); print("async")
            raise ValueError("in task")
        asyncio.run(main())
    """,
    "fork": """
        import os, sys
        pid = os.fork()
        if pid == 0:
            print("child", flush=True); sys.exit(3)
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    """,
    "fork that fails": """
        import os, sys
        pid = os.fork()
        if pid == 0: raise ValueError("in child")
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    """,
    "multiprocessing spawn": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
    "multiprocessing fork": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
    "dataclass, namedtuple, enum": """
        import collections, dataclasses, enum
        @dataclasses.dataclass
        class D: x: int = 1
        print(D(), collections.namedtuple("N", "a")(1).__class__.__module__)
        print(enum.Enum("E", "A").__module__)
    """,
    "unittest": """
        import sys, unittest
        class Case(unittest.TestCase):
            def test(self): self.assertEqual(1, 1)
        print(unittest.main(exit=False, verbosity=0, testRunner=unittest.TextTestRunner(
            stream=open("log", "w"))).result.testsRun)
    """,
}


def write(directory: Path, name: str, source: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = source.splitlines(keepends=True)
    indent = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
    path.write_text("".join(s[indent:] if s.strip() else s for s in lines).lstrip("\n"))
    return path


def same_as_python(
    tmp_path: Path,
    *target: str,
    stdin: str = "one\ntwo\n",
    pykcov: list[str] = PYKCOV,
    flags: tuple[str, ...] = (),
) -> None:
    """Run python and pykcov, each in a fresh copy of what is in tmp_path/files."""
    results = []
    for command in (
        [sys.executable, *flags, *target],
        [pykcov[0], *flags, *pykcov[1:], "run", "-q", "-o", "../x.trace", *target],
    ):
        work = tmp_path / "work"
        subprocess.run(["rm", "-rf", str(work)], check=True)
        subprocess.run(["cp", "-a", str(tmp_path / "files"), str(work)], check=True)
        done = run(command, work, stdin=stdin)
        texts = (re.sub(r" at 0x[0-9a-f]+", "", text) for text in (done.stdout, done.stderr))
        results.append((*texts, done.returncode))
    expected, found = results
    assert found == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script_runs_as_python_would_run_it(tmp_path: Path, name: str) -> None:
    write(tmp_path, "files/prog.py", PROGRAMS[name])
    same_as_python(tmp_path, "prog.py", "a", "--branch", "-o", "--", "-m", "x")


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("import sys; sys.exit(1 << 70)", 255),
        ("class Odd:\n def __str__(self): 1 / 0\nraise SystemExit(Odd())", 1),
    ],
)
def test_an_exit_that_confuses_python_itself_has_pythons_status(
    tmp_path: Path, source: str, status: int
) -> None:
    # 3.12 and 3.13 leave an error behind and print it wherever they next look for one.
    write(tmp_path, "prog.py", source)
    assert run([sys.executable, "prog.py"], tmp_path).returncode == status
    assert pykcov_run(tmp_path, "-q", "prog.py").returncode == status


VIEW = """
    import os, sys
    print(sys.argv, sys.path[0], __name__, __file__, __package__, __cached__, list(globals()))
    print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent))
    if len(sys.argv) > 1: raise ValueError("with a traceback")
"""


@pytest.mark.parametrize(
    "target",
    [
        ["./prog.py"], ["sub/../prog.py"], [".//prog.py"], ["sub/inner.py"], ["link.py"],
        ["sub"], ["sub/"], ["./sub", "fail"], ["app.pyz"], ["app.pyz", "fail"],
        ["-m", "prog"], ["-m", "prog", "fail"], ["-m", "package"], ["-m", "package", "fail"],
        ["-m", "package.module", "fail", "-m", "-o"], ["-m", "package.sub"],
        ["-m", "no_such_module"], ["-m", "no_such.module"], ["-m", "prog.py"], ["-m", "sub"],
        ["-m", "failing.module"], ["-m", "this"], ["-m", "json.tool", "no-such-file"],
        ["-"], ["-", "fail"], ["empty"], ["compiled.pyc"], ["compiled.pyc", "fail"],
        ["bad.pyc"], ["no_suffix"], ["latin.py"], ["bom.py"], ["crlf.py"],
    ],
)  # fmt: skip
def test_every_kind_of_target_runs_as_python_would_run_it(
    tmp_path: Path, target: list[str]
) -> None:
    files = tmp_path / "files"
    for name in ("prog.py", "sub/inner.py", "sub/__main__.py", "package/module.py", "no_suffix"):
        write(files, name, VIEW)
    write(files, "package/__init__.py", "print('package', __name__)")
    write(files, "package/__main__.py", VIEW + "\n    from . import module")
    write(files, "package/sub/__init__.py", "")
    write(files, "failing/__init__.py", "1 / 0")
    write(files, "zip/__main__.py", VIEW)
    zipapp.create_archive(files / "zip", files / "app.pyz")
    py_compile.compile(str(files / "prog.py"), str(files / "compiled.pyc"), doraise=True)
    (files / "bad.pyc").write_bytes(b"not a pyc at all")
    (files / "empty").mkdir()
    (files / "link.py").symlink_to("sub/inner.py")
    (files / "latin.py").write_bytes(b"# coding: latin-1\nprint(ascii('\xe9'))\n")
    (files / "bom.py").write_bytes(b"\xef\xbb\xbfprint('bom')\n")
    (files / "crlf.py").write_bytes(b"print('''a\r\nb''')\r\n1 / 0\r\n")
    source = (files / "prog.py").read_text() if target[0] == "-" else ""
    same_as_python(tmp_path, *target, stdin=source)


SHADOWS = ["argparse", "secrets", "json", "tempfile", "queue", "random", "logging", "os", "time"]


@pytest.mark.parametrize("target", [["prog.py"], ["-m", "prog"], ["app"], ["-"]])
def test_a_module_of_the_program_wins_over_one_that_pykcov_has_imported(
    tmp_path: Path, target: list[str]
) -> None:
    source = f"""
        import {", ".join(SHADOWS)}, struct
        print([getattr(module, "MINE", None) for module in ({", ".join(SHADOWS)}, struct)])
    """
    for directory in ("files", "files/app"):
        for name in SHADOWS:
            write(tmp_path, f"{directory}/{name}.py", f"MINE = {name!r}")
        (tmp_path / directory / "struct").mkdir()
    for name in ("prog.py", "app/__main__.py"):
        prog = write(tmp_path, f"files/{name}", source)
    stdin = prog.read_text() if target == ["-"] else ""
    # Not `python -m pykcov`: that looks for pykcov's own modules in the current directory first.
    same_as_python(tmp_path, *target, stdin=stdin, pykcov=CONSOLE_SCRIPT)


@pytest.mark.parametrize("target", [["prog.py"], ["-m", "prog"], ["sub"]])
def test_python_with_a_safe_path_adds_no_directory_of_ours(
    tmp_path: Path, target: list[str]
) -> None:
    for name in ("files/prog.py", "files/sub/__main__.py"):
        write(tmp_path, name, "import sys; print(sys.argv, sys.path)")
    same_as_python(tmp_path, *target, flags=("-P",))


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
        (["report", "a", "b"], "pykcov report: error:"),
        (["report", "none.trace"], "pykcov: Trace.load: none.trace: No such file or directory"),
        (["report", "/etc/passwd"], "pykcov: Trace.load: /etc/passwd: not a pykcov trace"),
        (["report", "."], "pykcov: Trace.load: .: Is a directory"),
        (["doctor", "x"], "pykcov doctor: error:"),
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
