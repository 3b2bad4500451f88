"""Find the Pythons of this machine and run a make target on them.

    pythons.py each TARGET VERSION...      make TARGET-VERSION on each found, then a line for each
    pythons.py newest TARGET VERSION...    make TARGET-VERSION on the last one found
    pythons.py install VERSION DIRECTORY   an environment with this package, editable

An interpreter counts if it runs, is the version that it is called, and can make an environment and
compile the recorder. PATH is searched first, then pyenv. This file runs on whichever python3 the
machine has, from 3.8 on, so it uses nothing newer.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an interpreter says of itself. `missing` is what keeps it from an environment with the
# recorder in it.
PROBE = """
import importlib.util, json, os, shlex, shutil, sys, sysconfig
compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
modules = ("ensurepip", "venv", "_ssl", "zlib", "_sqlite3")
missing = [name for name in modules if not importlib.util.find_spec(name)]
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    missing.append("Python.h")
if not shutil.which(compiler):
    missing.append(compiler)
if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    missing.append("a CPython with the GIL")
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "release": sys.version.split()[0],
    # The interpreter behind a virtual environment or a pyenv shim.
    "path": getattr(sys, "_base_executable", sys.executable),
    "missing": missing,
}))
"""

# Prints what pyproject.toml needs to build; run by the environment's Python, which has tomllib.
BUILD_REQUIRES = """
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\\n")
"""

NONE = "pykcov needs one of these Pythons, complete, on PATH or under pyenv"

# What to install on Debian for what may be missing.
PACKAGES = {
    "ensurepip": "python{0}-venv",
    "venv": "python{0}-venv",
    "Python.h": "python{0}-dev",
    "gcc": "gcc",
    "x86_64-linux-gnu-gcc": "gcc",
    "aarch64-linux-gnu-gcc": "gcc",
}


class Python(NamedTuple):
    """An interpreter that was asked."""

    version: str
    release: str
    path: str
    missing: list[str]

    @property
    def lacks(self) -> str:
        """What keeps it from being used, and the packages that have it on Debian."""
        names = [PACKAGES[m].format(self.version) for m in self.missing if m in PACKAGES]
        install = f" (Debian: apt-get install {' '.join(dict.fromkeys(names))})" if names else ""
        return f"lacks {', '.join(self.missing)}{install}"


def ask(path: Path) -> Python | None:
    """Run an interpreter; None if it does not run (a pyenv shim may have nothing behind it)."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60, check=True
        )
        return Python(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def candidates(version: str) -> Iterator[Path]:
    """Every path that may be an interpreter of the version, the preferred first."""
    folders = [Path(f) for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    for name in (f"python{version}", "python3"):
        yield from (folder / name for folder in folders)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")

    def release(folder: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", folder.name)]

    for folder in sorted(pyenv.glob(f"versions/{version}.*"), key=release, reverse=True):
        yield folder / "bin" / f"python{version}"


def find(version: str) -> tuple[Python | None, list[str]]:
    """The first usable interpreter of the version, and for each that was passed over, why."""
    passed_over: dict[str, str] = {}
    for path in candidates(version):
        python = ask(path) if os.access(path, os.X_OK) else None
        if python is None or python.version != version:
            continue
        if not python.missing:
            return python, list(passed_over.values())
        # By its real path: an interpreter may have several names on PATH.
        passed_over.setdefault(os.path.realpath(python.path), f"{python.path} {python.lacks}")
    return None, list(passed_over.values())


def make(target: str) -> int:
    """Run `make TARGET`, and give its exit status."""
    command = shlex.split(os.environ.get("MAKE", "make"))
    sys.stdout.flush()
    return subprocess.run([*command, "--no-print-directory", target], check=False).returncode


def each(target: str, versions: list[str]) -> int:
    """Run the target on every version found: 0 if there is one and it succeeded on all of them."""
    lines, statuses = [], []
    for version in versions:
        python, passed_over = find(version)
        if python is None:
            lines += [f"  {version:8}{why}" for why in passed_over or ["not found"]]
            continue
        print(f"=== {target}: Python {python.release} ({python.path})")
        print(*(f"    passed over: {why}\n" for why in passed_over), sep="", end="")
        began = time.monotonic()
        status = make(f"{target}-{version}")
        seconds = time.monotonic() - began
        result = "passed" if status == 0 else f"FAILED (make exits with {status})"
        lines.append(f"  {python.release:8}{result}, {seconds:.0f} s")
        statuses.append(status)
    print(f"=== {target}", *lines, sep="\n")
    if not statuses:
        print(NONE, file=sys.stderr)
    return 0 if statuses and not any(statuses) else 1


def newest(target: str, versions: list[str]) -> int:
    """Run the target on the last version that is found."""
    problems: list[str] = []
    for version in reversed(versions):
        python, passed_over = find(version)
        if python is not None:
            return make(f"{target}-{version}")
        problems = [f"  {version:8}{why}" for why in passed_over or ["not found"]] + problems
    print(*problems, NONE, sep="\n", file=sys.stderr)
    return 1


def install(version: str, directory: Path) -> int:
    """Make the environment if it is not there, and install the package and its extra `dev`."""
    run = directory / "bin" / "python"
    there = ask(run)
    # Without pip it is what an interrupted start has left.
    if there is None or there.version != version or not (directory / "bin" / "pip").exists():
        python, passed_over = find(version)
        if python is None:
            print(f"Python {version}:", *passed_over or ["not found"], file=sys.stderr)
            return 1
        print(f"=== {directory}: a new environment of {python.path}", flush=True)
        subprocess.run([python.path, "-m", "venv", "--clear", directory], check=True)
    # Without build isolation a rebuild takes seconds and no network; so what builds comes first.
    requires = subprocess.run(
        [run, "-c", BUILD_REQUIRES], stdout=subprocess.PIPE, text=True, check=True
    )
    pip: list[str | Path] = [run, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    print(f"=== {directory}: pip install --editable .[dev]", flush=True)
    subprocess.run([*pip, *requires.stdout.split()], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--editable", ".[dev]"], check=True)
    return 0


def main(arguments: list[str]) -> int:
    """The command line."""
    command, *rest = arguments or ["help"]
    if command == "each" and len(rest) > 1:
        return each(rest[0], rest[1:])
    if command == "newest" and len(rest) > 1:
        return newest(rest[0], rest[1:])
    if command == "install" and len(rest) == 2:
        try:
            return install(rest[0], Path(rest[1]))
        except subprocess.CalledProcessError as error:
            print(f"{shlex.join(map(str, error.cmd))}: status {error.returncode}", file=sys.stderr)
            return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
