"""The plugin that pytest loads. It costs nothing unless it is asked for: pykcov is imported only then.

Not a module of the package, because importing one of those imports pykcov. All else is in ``pykcov.testing``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import pykcov


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; ``pykcov.testing.options`` reads them."""
    group = parser.getgroup("pykcov", "coverage of each test, with all that works for it")

    def add(name: str, metavar: str, text: str, **more: Any) -> None:
        group.addoption(name, metavar=metavar, help=text, **more)

    group.addoption(
        "--pykcov",
        action="store_true",
        help="collect what each test executes, in whatever thread, task or process; into .coverage, a context for each",
    )
    files = {"action": "append", "default": []}
    add("--pykcov-source", "SOURCE", "only these directories and packages: A,B or again", **files)
    add("--pykcov-include", "PATTERN", "only files that match", **files)
    add("--pykcov-omit", "PATTERN", "no files that match", **files)
    group.addoption(
        "--pykcov-add-fixtures",
        action="store_true",
        help="add the lines of fixtures that tests share to each test that uses them",
    )
    add("--pykcov-output", "FILE", "the data file for coverage.py (default: .coverage)")
    add("--pykcov-json", "FILE", "also write the lines of each test as JSON")
    add(
        "--pykcov-traces",
        "DIR",
        "also save a trace of each test, in order of execution",
        # Now: a conftest, a test or a worker of pytest-xdist may be in another directory.
        type=_absolute,
    )
    add(
        "--pykcov-data",
        "FILE",
        "what is kept for --pykcov-impact (default: .pykcovdata in the root directory)",
    )
    add(
        "--pykcov-impact",
        "CHANGED",
        "run only tests that the change touches, and say why: FILE, FILE:LINES (shop.py:3,7-9), or what `git diff` "
        "takes (main, HEAD~2..HEAD); again for more",
        **files,
    )


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin, before anything of the project is imported."""
    options = early_config.known_args_namespace
    if options.pykcov or options.pykcov_impact:
        from pykcov.testing import plugin

        plugin.begin(early_config)
        return
    for name in ("json", "traces"):
        if getattr(options, f"pykcov_{name}"):
            raise pytest.UsageError(f"pykcov: --pykcov-{name} needs --pykcov")


@pytest.fixture(name="pykcov")
def pykcov_fixture(request: pytest.FixtureRequest) -> Iterator[pykcov.collect]:
    """Collect this test: ``pykcov.trace`` is what it has executed since the fixture was set up, and all that it caused.

    Works without ``--pykcov``. ``pykcov.trace.lines()`` are the lines of each file; the files are those of
    ``--pykcov-source``, ``--pykcov-include`` and ``--pykcov-omit``.
    """
    from pykcov.testing.options import collecting

    with collecting(request.config) as collection:
        yield collection
