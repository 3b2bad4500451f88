"""coverage.py's data file, ``.coverage``: each collection is a context.

``coverage report``, ``coverage html --show-contexts``, ``coverage json``, ``coverage combine`` and
whatever else reads that file then know what every collection executed. It is written by coverage.py
itself, so that it is what the installed one reads.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .. import wholefile
from ..errors import KcovError
from ..trace import Trace
from . import sources
from .options import Options, Traces

if TYPE_CHECKING:
    from coverage import Coverage, CoverageData

__all__ = [
    "Found",
    "arcs_of",
    "lines_of",
    "missing",
    "naming",
    "report",
    "reporting",
    "statements",
    "write",
    "writing",
    "written",
    "writing_bits",
]

Lines = Mapping[str, Set[int]]
Arcs = Mapping[str, Set[tuple[int, int]]]
Bits = Mapping[str, bytes]
Found = Trace | Lines | Arcs

_PATIENCE = 2  # seconds that a data file may be locked: coverage.py holds it for moments


def write(
    path: str | os.PathLike[str], contexts: Mapping[str, Found], *, arcs: bool = False
) -> None:
    """Write a data file with these contexts, by name; see ``writing``."""
    with writing(path, arcs=arcs) as add:
        for context, found in contexts.items():
            add(context, found)


@contextmanager
def writing(
    path: str | os.PathLike[str], *, arcs: bool = False
) -> Iterator[Callable[[str, Found], None]]:
    """Give ``add(context, found)`` for a data file that takes the place of ``path`` at the end.

    ``found`` is a ``Trace``, or for each file its lines; with ``arcs`` for each file its arcs, as
    ``Trace.arcs()`` gives them: a data file has lines or arcs (then coverage.py reports branches),
    never both. A context may be added to again. What was added is on the disk: memory does not grow
    with it. If the block raises, ``path`` is as it was.

    Files are called as the configuration of coverage.py here wants it: see ``naming``.

    KcovError: ENOPKG without coverage.py, EINVAL for its configuration, EBUSY if the file is in use, else the
    system's errno.
    """
    named = naming()
    with _replacing(os.fsdecode(path)) as (data, _):
        yield lambda context, found: _add(data, context, found, arcs, named)


@contextmanager
def writing_bits(
    path: str | os.PathLike[str], named: Callable[[str], str]
) -> Iterator[Callable[[str, Bits], None]]:
    """Give ``add(context, found)`` as ``writing`` does, for lines that are bits already, as coverage.numbits has them.

    ``named`` is what ``naming`` gave. A context can be added once. A hundred times as fast where there are many: all in
    one transaction, by the schema of coverage.py's documentation. KcovError as ``writing`` does.
    """
    with _replacing(os.fsdecode(path)) as (data, temporary):
        data.add_lines({})  # says what kind of data it is
        _close(data)
        with closing(sqlite3.connect(temporary)) as database, database:
            database.executescript("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF;")
            files: dict[str, int] = {}

            def add(context: str, found: Bits) -> None:
                made = database.execute("INSERT INTO context (context) VALUES (?)", (context,))
                for file in filter(os.path.isabs, found):
                    if file not in files:
                        row = database.execute("INSERT INTO file (path) VALUES (?)", (named(file),))
                        files[file] = row.lastrowid or 0
                    database.execute(
                        "INSERT INTO line_bits (file_id, context_id, numbits) VALUES (?, ?, ?)",
                        (files[file], made.lastrowid, found[file]),
                    )

            yield add


@contextmanager
def _replacing(name: str) -> Iterator[tuple[CoverageData, str]]:
    """Give a new data file, and its name until it takes the place of ``name``."""
    try:
        from coverage import CoverageData
        from coverage.exceptions import ConfigError, CoverageException
    except ImportError:
        raise missing() from None
    try:
        with wholefile.temporary(name) as (_, temporary):
            data = CoverageData(temporary)
            data.read()  # else it would remove the file, which is empty, as a stale one
            try:
                yield data, temporary
            finally:
                _close(data)
            _wait_for(name)
    except (CoverageException, ConfigError, sqlite3.Error) as error:
        # Of its database coverage.py passes some errors on as they are, and wraps others.
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            said = f"report: {name}: {os.strerror(errno.ENOSPC)}"
            raise KcovError(errno.ENOSPC, said) from error
        raise KcovError(errno.EIO, f"report: {name}: {error}") from error
    except UnicodeEncodeError as error:  # a name that is no text: its database has no way to say it
        raise KcovError(errno.EILSEQ, f"report: not for coverage.py: {error.object!r}") from error
    except OSError as error:
        if isinstance(error, KcovError):
            raise
        raise wholefile.failed("report", name, error) from error


def naming() -> Callable[[str], str]:
    """Return what gives a file the name that it has in the data files of coverage.py in this directory.

    With ``relative_files`` in its configuration it finds a file below the directory by its relative name, and by no
    other. KcovError as ``writing`` does, for the configuration.
    """
    try:
        from coverage import Coverage
    except ImportError:
        raise missing() from None
    with _configured():
        is_relative = Coverage(data_file=None, messages=False).get_option("run:relative_files")
    if not is_relative:
        return str
    inside = os.path.join(os.path.realpath(os.curdir), "")
    return lambda file: file.removeprefix(inside)


@contextmanager
def _configured() -> Iterator[None]:
    """Make a KcovError of what coverage.py raises for its configuration, and where it cannot report."""
    from coverage.exceptions import ConfigError, CoverageException

    try:
        yield
    except (CoverageException, ConfigError) as error:
        raise KcovError(errno.EINVAL, f"report: {error}") from error
    except ImportError as error:
        raise KcovError(errno.EINVAL, f"report: a plugin of coverage.py: {error}") from error
    except OSError as error:  # of the file that it writes, before we take over the text
        if isinstance(error, KcovError):
            raise
        raise wholefile.failed(
            "report", str(error.filename or tempfile.gettempdir()), error
        ) from error


def report(traces: Traces, path: str, options: Options) -> None:
    """Write the data file of these traces. KcovError ESTALE for files that have changed since."""
    find: Callable[[Trace], Mapping[str, Any]] = arcs_of if options.branch else lines_of
    found = {name: dict(find(trace)) for name, trace in traces.items()}
    stale = sources.changed(traces, {file for files in found.values() for file in files})
    sources.refuse(stale, errno.ESTALE, "changed since it ran", options)
    for files in found.values():
        for file in stale:
            files.pop(file, None)
    write(path, found, arcs=options.branch)


def written(
    traces: Traces, options: Options, write: Callable[[Coverage, list[str], str], object]
) -> list[str]:
    """Return the lines of the file that ``write(coverage, files, path)`` makes."""
    with (
        reporting(traces, options) as (coverage, files),
        tempfile.TemporaryDirectory() as directory,
    ):
        path = os.path.join(directory, "report")
        write(coverage, files, path)
        with open(path, encoding="utf-8") as file:
            return file.readlines()


@contextmanager
def reporting(traces: Traces, options: Options) -> Iterator[tuple[Coverage, list[str]]]:
    """Give coverage.py with the data of these traces, and the files that it can report on, as it calls them.

    It reads its configuration as always, so that what is excluded, or omitted from reports, is the same. What it
    raises becomes a KcovError; so does that there is no file.
    """
    files = sources.usable(traces, options)
    named = naming()
    if not files:
        raise KcovError(errno.ENODATA, "report: no line of a source file was executed")
    from coverage import Coverage

    with tempfile.TemporaryDirectory(prefix="pykcov-") as directory:
        data = os.path.join(directory, "data")
        write(data, traces, arcs=options.branch)
        with _configured():
            reporter = Coverage(data_file=data, messages=False)
            reporter.set_option("report:ignore_errors", options.ignore_errors)
            reporter.load()
            try:
                yield reporter, [*map(named, files)]
            finally:
                _close(reporter.get_data())


def statements(files: Iterable[str]) -> dict[str, list[int]]:
    """Return the first lines of the statements of each file, as coverage.py and its configuration have it.

    Nothing without coverage.py, and nothing for what is no Python.
    """
    try:
        from coverage import Coverage
        from coverage.exceptions import NotPython
    except ImportError:
        return {}
    result = {}
    with _configured():
        reader = Coverage(data_file=None, messages=False)
        try:
            for file in files:
                with suppress(NotPython):
                    result[file] = reader.analysis2(file)[1]
        finally:
            _close(reader.get_data())
    return result


def missing() -> KcovError:
    """Return the error that says that coverage.py is not installed."""
    return KcovError(
        errno.ENOPKG, "report: this needs coverage.py: python -m pip install 'pykcov[coverage]'"
    )


def lines_of(found: Trace | Lines) -> Lines:
    """Return the lines of each file; what is not in a file, a ``<string>`` say, is left out.

    A module without a statement that was imported has none, and is there all the same.
    """
    lines: dict[str, Set[int]] = {}
    if isinstance(found, Trace):
        lines.update((file, set()) for file in sources.files_of(found))
        found = found.lines()
    lines.update(found)
    return {file: own for file, own in lines.items() if os.path.isabs(file)}


def arcs_of(found: Trace | Arcs) -> Arcs:
    """Return the arcs of each file; what is not in a file is left out.

    A line that has no arc, because it is all that was seen of a frame that ran already, gets one to
    itself: coverage.py takes the executed lines from the arcs.
    """
    if not isinstance(found, Trace):
        return {file: found[file] for file in found if os.path.isabs(file)}
    arcs = found.arcs()
    result = {}
    for file, lines in lines_of(found).items():
        own = arcs.get(file, set())
        result[file] = own | {(n, n) for n in set(lines).difference(*own)}
    return result


def _add(
    data: CoverageData, context: str, found: Found, arcs: bool, named: Callable[[str], str]
) -> None:
    data.set_context(context)
    if arcs:
        own = {named(file): own for file, own in arcs_of(found).items()}  # type: ignore[arg-type]
        data.add_arcs(own)
        data.touch_files([file for file in own if not own[file]])
    else:
        data.add_lines({named(file): own for file, own in lines_of(found).items()})  # type: ignore[arg-type]


def _close(data: CoverageData) -> None:
    """Close the database: before 7.10.7 there is no such call, and it is closed after each use."""
    if hasattr(data, "close"):
        data.close(force=True)


def _wait_for(name: str) -> None:
    """Wait until nobody writes to the data file ``name``. KcovError EBUSY if that does not end."""
    if not os.path.isfile(name) or not os.path.getsize(name):
        return
    try:
        with closing(sqlite3.connect(name, timeout=_PATIENCE)) as database:
            database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            return
        raise KcovError(
            errno.EBUSY, f"report: {name}: another process is writing to it ({error})"
        ) from None
    except sqlite3.DatabaseError:
        pass  # it is something else, and is replaced
