"""How the tests of the pytest plugin run pytest: as a user would, in a process of its own."""

from __future__ import annotations

import atexit
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from integration.commands import run

__all__ = ["ENVIRONMENT", "collected", "load", "pytest_run"]


ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": ""}


@cache
def _compiled() -> str:
    """Where the compiled modules of all runs are: most of the time is theirs."""
    directory = tempfile.mkdtemp(prefix="pykcov-tests-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def pytest_run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return run(command, directory, PYTHONPYCACHEPREFIX=_compiled(), **ENVIRONMENT)


def collected(directory: Path, *options: str) -> dict[str, Any]:
    """Run the tests of a directory, which have to pass; return the JSON."""
    done = pytest_run(directory, "--pykcov", "--pykcov-json=found.json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((directory / "found.json").read_text())
    return found


def load(path: Path) -> ModuleType:
    """Import a module of the benchmarks by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
