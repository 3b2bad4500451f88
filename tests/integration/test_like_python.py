"""A program does not notice `pykcov run`: checked against python itself."""

from __future__ import annotations

import py_compile
import re
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from integration.commands import CONSOLE_SCRIPT, PYKCOV, pykcov_run, run, write
from integration.programs import PROGRAMS, VIEW


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


def test_a_script_is_warned_of_at_each_start(tmp_path: Path) -> None:
    """What the cache of compiled code has was warned of before."""
    write(tmp_path, "program.py", "assert (1, 'always true')\nprint('ok')\n")
    kept = {"PYTHONDONTWRITEBYTECODE": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for flags in ((), (), ("-W", "error")):
        plain = run([sys.executable, *flags, "program.py"], tmp_path, **kept)
        found = run(
            [sys.executable, *flags, *PYKCOV[1:], "run", "-q", "program.py"], tmp_path, **kept
        )
        assert "always true" in plain.stderr
        assert (found.stdout, found.stderr, found.returncode) == (
            plain.stdout, plain.stderr, plain.returncode,
        )  # fmt: skip


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
