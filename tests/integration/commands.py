"""How the tests of the command run it: as a user would, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PYKCOV = [sys.executable, "-m", "pykcov"]
CONSOLE_SCRIPT = [sys.executable, str(Path(sys.executable).with_name("pykcov"))]

# Some of the programs are killed, or end themselves, and leave a device for others to find.
NAMESPACE = f"cli-{os.getpid()}"


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


def write(directory: Path, name: str, source: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = source.splitlines(keepends=True)
    indent = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
    path.write_text("".join(s[indent:] if s.strip() else s for s in lines).lstrip("\n"))
    return path
