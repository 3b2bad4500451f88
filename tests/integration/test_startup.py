"""A process that inherits a handle, or only imports pykcov, begins fast; and what comes later does no harm."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pykcov

# What may be imported before the program begins: built in, or next to nothing. late.py has the rule.
LIGHT = {
    "__future__",
    "_contextvars",
    "atexit",
    "contextvars",
    "errno",
    "itertools",
    "mmap",
    "time",
}
# What looks at code, and what only verbs need.
LATE = {"choices", "codemap", "collect", "device", "gathering", "inventory", "reading", "trace"}
LATE_PROBES = {"bytecode", "decisions", "places", "source", "units"}

MODULES = "import sys; print(*sys.modules)"


def python(*arguments: str, cwd: Path | None = None) -> str:
    """Run a Python as a child would be: warnings are errors, and said errors."""
    command = [sys.executable, "-W", "error::RuntimeWarning", *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def added(program: str, plain: str = MODULES) -> tuple[set[str], set[str]]:
    """What modules of the library and of pykcov a program has that a plain one has not."""
    new = set(python("-c", program).split()) - set(python("-c", plain).split())
    ours = {name.removeprefix("pykcov.") for name in new if name.startswith("pykcov.")}
    return new - {f"pykcov.{name}" for name in ours} - {"pykcov"}, ours


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(text))


def test_importing_pykcov_imports_next_to_nothing() -> None:
    assert added("import pykcov; " + MODULES) == ({"__future__"}, {"_recorder", "late"})


def test_a_child_imports_next_to_nothing_until_code_runs_that_is_no_librarys(
    tmp_path: Path,
) -> None:
    plain = python("-c", MODULES)
    with pykcov.collect(source=[str(tmp_path)]):
        new = set(python("-c", MODULES).split()) - set(plain.split())
    assert new - {"sitecustomize"} == {
        "__future__", "pykcov", *(f"pykcov.{name}" for name in ("_recorder", "late", "carry", "carry.waiting")),
    }  # fmt: skip


def test_a_child_that_joins_imports_nothing_heavy(tmp_path: Path) -> None:
    write(tmp_path, prog=MODULES)
    (tmp_path / "wanted").mkdir()
    plain = python("prog.py", cwd=tmp_path)
    with pykcov.collect(source=[str(tmp_path / "wanted")]):
        new = set(python("prog.py", cwd=tmp_path).split()) - set(plain.split())
    ours = {name.removeprefix("pykcov.") for name in new if name.startswith("pykcov")}
    assert new - {f"pykcov.{name}" for name in ours} - {"pykcov", "sitecustomize"} <= LIGHT
    assert "remote" in ours
    assert not ours & LATE
    assert not {name.removeprefix("probes.") for name in ours} & LATE_PROBES


def test_a_section_that_somebody_listens_to_imports_nothing_heavy(tmp_path: Path) -> None:
    with pykcov.open(source=[str(tmp_path)]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=64, handles=[0x57A7])
        library, ours = added(
            f"import pykcov\nwith pykcov.remote(0x57A7): n = len(pykcov.__all__)\n{MODULES}"
        )
        device.disable()
    assert library <= LIGHT
    assert "remote" in ours
    assert not ours & LATE
    assert not {name.removeprefix("probes.") for name in ours} & LATE_PROBES


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_of_multiprocessing_imports_no_more_than_it_would(
    tmp_path: Path, method: str
) -> None:
    write(
        tmp_path,
        prog="""
        import multiprocessing, sys

        def job(queue):
            queue.put(list(sys.modules))

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            queue = context.SimpleQueue()

            def child():
                process = context.Process(target=job, args=(queue,))
                process.start()
                found = queue.get()
                process.join()
                return set(found)

            plain = child()
            import pykcov
            with pykcov.collect(source=["pyflakes"]):
                print(*child() - plain)
        """,
    )
    new = set(python("prog.py", method, cwd=tmp_path).split())
    ours = {name.removeprefix("pykcov.") for name in new if name.startswith("pykcov")}
    assert new - {f"pykcov.{name}" for name in ours} - {"pykcov"} <= LIGHT
    assert "remote" in ours
    assert not {name.removeprefix("probes.") for name in ours} & LATE_PROBES


CHILDREN = {
    "the first line": "x = 1",
    "in a thread": """
        import threading
        thread = threading.Thread(target=f)
        thread.start()
        thread.join()
    """,
    "by the library": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            pool.submit(f).result()
    """,
    "a fork": """
        import os
        if not os.fork():
            f()
            os._exit(0)
        os.wait()
    """,
    "what has annotations": """
        import pykcov
        with pykcov.remote(5):
            f()
        assert pykcov.common_handle()
    """,
}


@pytest.mark.parametrize("how", ["file", "module", "imported", "runpy", "instrumented"])
@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_waits_loses_nothing(tmp_path: Path, kind: str, how: str) -> None:
    body = textwrap.dedent(CHILDREN[kind])
    write(tmp_path, prog=f"import unittest\ndef f():\n    return 1\nf()\n{body}\nlast = f\n")
    text = (tmp_path / "prog.py").read_text()
    start = {
        "file": ["prog.py"],
        "module": ["-m", "prog"],
        "imported": ["-c", "import prog; prog.f()"],
        "runpy": ["-m", "runpy", "prog"],
        "instrumented": ["-c", "import pykcov; pykcov.instrument(source=['prog']); import prog"],
    }[how]
    with pykcov.collect(source=[str(tmp_path)]) as c:
        assert python(*start, cwd=tmp_path) == ""
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line and "_exit" not in line}
    assert c.trace.lines()[str(tmp_path / "prog.py")] >= lines


SHADOWS = ["array", "ast", "dataclasses", "dis", "json", "logging", "struct", "token", "zlib"]


def test_a_module_of_the_childs_wins_over_one_that_pykcov_imports_later(tmp_path: Path) -> None:
    write(tmp_path, **{name: f"MINE = {name!r}\n" for name in SHADOWS})
    write(
        tmp_path,
        prog=f"""
        def f():
            return 1
        f()
        import {", ".join(SHADOWS)}
        print([module.MINE for module in ({", ".join(SHADOWS)})])
        """,
    )
    with pykcov.collect(source=[str(tmp_path)]) as c:
        assert python("prog.py", cwd=tmp_path) == f"{SHADOWS}\n"
    lines = c.trace.lines()
    assert lines[str(tmp_path / "prog.py")] == {2, 3, 4, 5, 6}
    assert all(lines[str(tmp_path / f"{name}.py")] == {1} for name in SHADOWS)


@pytest.mark.parametrize("module", ["threading", "ast", "re", "json", "dis", "tokenize"])
def test_a_child_may_import_what_pykcov_needs_later(tmp_path: Path, module: str) -> None:
    """pykcov's own import of it would have come into the middle of the program's."""
    write(tmp_path, prog=f"import {module}\nprint({module}.__name__)\n")
    with pykcov.collect() as c:
        assert python("prog.py", cwd=tmp_path) == f"{module}\n"
    assert c.trace.lines()[str(tmp_path / "prog.py")] == {1, 2}


@pytest.mark.parametrize("options", [{"source": ["ast"]}, {"include": ["*/ast.py"]}])
def test_what_pykcov_needs_later_may_be_in_scope(options: dict[str, list[str]]) -> None:
    with pykcov.collect(**options) as c:
        assert python("-c", "import ast; ast.parse('1')") == ""
    assert next(iter(c.trace.functions().values())) >= {"parse"}


def test_a_file_that_has_the_name_of_a_public_function_does_not_take_its_place() -> None:
    program = """
        import pykcov.collect, pykcov.symbolize, pykcov.remote, pykcov.trace
        from pykcov.collect import collect
        assert pykcov.collect is collect
        assert pykcov.symbolize(1).kind == "unknown"
        with pykcov.remote(1):
            pass
        assert {*pykcov.__all__} <= {*dir(pykcov)}
        assert not hasattr(pykcov, "nothing")
    """
    assert python("-c", textwrap.dedent(program)) == ""


def test_a_child_that_logs_hears_of_its_sections(tmp_path: Path) -> None:
    program = (
        "import logging, pykcov\nlogging.basicConfig(level=10)\nwith pykcov.remote(0x57A8): pass"
    )
    with pykcov.open(source=[str(tmp_path)]) as device:
        device.init_trace(64)
        device.remote_enable(area_size=64, handles=[0x57A8])
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        device.disable()
    assert (
        f"DEBUG:pykcov:remote_start: handle 0x57a8, device {os.fspath(str(device.number))}"
        in done.stderr
    )


def test_a_fork_in_the_middle_of_what_pykcov_imports_later_leaves_a_child_that_can(
    tmp_path: Path,
) -> None:
    """The child waited for ever for the thread that had begun the import."""
    write(tmp_path, slow="import time\ntime.sleep(0.5)\nMINE = 1\n")
    write(
        tmp_path,
        prog="""
        import os, signal, sys, threading
        from pykcov.late import load

        thread = threading.Thread(target=load, args=("slow",))
        thread.start()
        while "slow" not in sys.modules:
            pass
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(load("slow").MINE)
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    )
    warns = ["-W", "ignore::DeprecationWarning"]  # of a fork with threads
    assert python(*warns, "prog.py", cwd=tmp_path) == "1\n"
