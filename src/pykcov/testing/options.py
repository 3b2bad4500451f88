"""What pytest was asked for, checked before anything runs."""

from __future__ import annotations

import argparse
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import NamedTuple

import pytest

from .. import wholefile
from ..choices import absolute
from ..collect import collect
from ..errors import KcovError
from ..report import coveragepy
from ..scope import Scope

__all__ = ["Options", "collecting", "read", "scope"]

_SCOPE: pytest.StashKey[Scope] = pytest.StashKey()


class Options(NamedTuple):
    """The options of a run; paths are absolute, and ``json`` and ``traces`` are '' for none.

    ``named`` gives the names of files in ``output``, a data file of coverage.py: as its configuration has it where
    pytest begins, whatever directory a test leaves it in.
    """

    output: str
    named: Callable[[str], str]
    data: str
    json: str
    traces: str
    add_fixtures: bool
    impact: tuple[str, ...]


def read(given: argparse.Namespace, root: str) -> Options:
    """Return the options; ``root`` is pytest's root directory. Raises UsageError for what cannot work."""
    found = Options(
        output=os.path.abspath(
            given.pykcov_output or os.environ.get("COVERAGE_FILE") or ".coverage"
        ),
        named=_naming(),
        data=os.path.abspath(given.pykcov_data or os.path.join(root, ".pykcovdata")),
        json=_path(given.pykcov_json),
        traces=given.pykcov_traces or "",
        add_fixtures=given.pykcov_add_fixtures,
        impact=tuple(given.pykcov_impact),
    )
    try:
        for path in filter(None, (found.output, found.data, found.json)):
            wholefile.check_writable(path, "pykcov")
        _check_unused(found.output)
        if found.traces:
            os.makedirs(found.traces, exist_ok=True)
    except KcovError as error:
        raise pytest.UsageError(said(error)) from None
    except OSError as error:
        raise pytest.UsageError(f"pykcov: {error.filename}: {error.strerror}") from None
    if getattr(given, "cov_source", None) and found.output == os.path.abspath(
        os.environ.get("COVERAGE_FILE") or ".coverage"
    ):
        raise pytest.UsageError(
            f"pykcov: --cov writes {found.output}, too: give --pykcov-output another name"
        )
    return found


def scope(config: pytest.Config) -> Scope:
    """Return the files that are recorded, the same whatever directory the tests go to.

    Raises UsageError for what means nothing.
    """
    found = config.stash.get(_SCOPE, None)
    if found is None:
        start = str(config.invocation_params.dir)
        given = config.known_args_namespace
        source = [(name, os.path.join(start, name)) for name in _split(given.pykcov_source)]
        try:
            found = config.stash[_SCOPE] = Scope(
                [
                    path if os.path.isdir(path) or name.endswith(".py") else name
                    for name, path in source
                ],
                absolute(_split(given.pykcov_include), start),
                absolute(_split(given.pykcov_omit), start),
            )
        except ValueError as error:
            raise pytest.UsageError(f"pykcov: {error}") from None
    return found


def collecting(config: pytest.Config) -> collect:
    """Return a collection of the files that are recorded, in order of execution."""
    return collect._of(scope(config))


def said(error: KcovError) -> str:
    """Return one line for an error: without its number, with the program's name."""
    text = error.strerror or str(error)
    return text if text.startswith("pykcov") else f"pykcov: {text}"


def _naming() -> Callable[[str], str]:
    """Return what names files in the data file. UsageError without coverage.py, and for its configuration."""
    try:
        return coveragepy.naming()
    except KcovError as error:
        raise pytest.UsageError(said(error)) from None


def _check_unused(path: str) -> None:
    """Find out whether the data file is in use."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return
    try:
        with closing(sqlite3.connect(path, timeout=2)) as database:
            database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise pytest.UsageError(f"pykcov: {path} is in use: {error}") from None
    except sqlite3.DatabaseError:
        pass  # something else, and will be replaced


def _path(text: str | None) -> str:
    return os.path.abspath(text) if text else ""


def _split(values: Iterable[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]
