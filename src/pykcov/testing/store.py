"""What is kept of a run for the next one: which test executed which lines of which version of a file.

A run writes into a temporary database, on the disk, and becomes part of the file at its end, in one
transaction. A test keeps what its latest run has found, and that run's fixtures and imports with it, so that its lines
are always those of the sources that it ran with.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from ..errors import KcovError
from .bits import decode, merge
from .recording import Context, Row

__all__ = ["Kept", "KeptTest", "RunStore", "is_below", "python"]

_FORMAT = 1  # PRAGMA user_version
_APPLICATION = 0x70796B63  # 'pykc'
_PATIENCE = 5  # seconds that another run's merge is waited for

_SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY, python TEXT NOT NULL);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, digest TEXT NOT NULL, text BLOB, UNIQUE (path, digest));
CREATE TABLE module (run INTEGER NOT NULL, name TEXT NOT NULL, file INTEGER NOT NULL, PRIMARY KEY (run, name))
    WITHOUT ROWID;
CREATE TABLE test (
    nodeid TEXT PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL, outcome TEXT NOT NULL, fixtures TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE context (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, phase TEXT NOT NULL,
    UNIQUE (run, kind, name, phase));
CREATE TABLE executed (
    context INTEGER NOT NULL, file INTEGER NOT NULL, lines BLOB NOT NULL, PRIMARY KEY (context, file)) WITHOUT ROWID;
"""

# What the temporary one does without.
_INDEXES = """
CREATE INDEX context_name ON context (kind, name);
CREATE INDEX executed_file ON executed (file);
"""

_RUN = 1  # of the temporary database, which has but one


class KeptTest(NamedTuple):
    """What is known of a test: its latest run, its file, its outcome, the shared fixtures that it used."""

    run: int
    path: str
    outcome: str
    fixtures: tuple[str, ...]

    @classmethod
    def read(cls, row: list[Any]) -> KeptTest:
        """Return a test from its row, without the node id."""
        run, path, outcome, fixtures = row
        return cls(run, path, outcome, tuple(json.loads(fixtures)))


class RunStore:
    """What this run has found so far, in a temporary database. ``began``: in ns since 1970, before any import."""

    def __init__(self, root: str, began: int) -> None:
        self._root = os.path.realpath(root)
        self._began = began
        self._database = sqlite3.connect("")  # on the disk, where it has no name
        self._database.executescript(f"PRAGMA journal_mode=OFF;{_SCHEMA}")
        self._database.execute("INSERT INTO run VALUES (?, ?)", (_RUN, python()))
        self._files: dict[str, int] = {}
        self._names: dict[str, str] = {}  # of files, as they are kept

    def add(self, row: Row) -> None:
        """Take what a context has executed, by absolute file name. Several times for one context is fine."""
        context = self._context(row.context)
        for path, new in row.lines.items():
            file = self.file(path)
            known = self._database.execute(
                "SELECT lines FROM executed WHERE context = ? AND file = ?", (context, file)
            ).fetchone()
            bits = new if known is None else merge(known[0], new)
            self._database.execute(
                "INSERT OR REPLACE INTO executed VALUES (?, ?, ?)", (context, file, bits)
            )

    def add_test(self, nodeid: str, path: str, outcome: str, fixtures: Iterable[str]) -> None:
        """Take a test that is over: file, outcome ('passed', 'failed', 'skipped') and the shared fixtures it used."""
        self._database.execute(
            "INSERT OR REPLACE INTO test VALUES (?, ?, ?, ?, ?)",
            (nodeid, _RUN, self._relative(path), outcome, json.dumps(sorted(fixtures))),
        )

    def add_modules(self, modules: Mapping[str, str]) -> None:
        """Take the modules that were imported, by name, with their files."""
        self._database.executemany(
            "INSERT OR IGNORE INTO module VALUES (?, ?, ?)",
            [(_RUN, name, self.file(path)) for name, path in modules.items()],
        )

    def contexts(self) -> Iterator[tuple[Context, dict[str, bytes]]]:
        """Yield every context that has executed anything, with the lines of each file by its absolute name, as bits."""
        names = {number: path for path, number in self._files.items()}
        every = self._database.execute("SELECT id, kind, name, phase FROM context ORDER BY id")
        for number, *context in every:
            rows = self._database.execute(
                "SELECT file, lines FROM executed WHERE context = ?", (number,)
            )
            yield Context(*context), {names[file]: lines for file, lines in rows}

    def tests(self) -> Iterator[tuple[str, KeptTest]]:
        """Yield the tests that have run, by node id."""
        for nodeid, *test in self._database.execute("SELECT * FROM test ORDER BY nodeid"):
            yield nodeid, KeptTest.read(test)

    def lines(self, context: Context) -> dict[str, bytes]:
        """Return the lines of one context, as bits."""
        number = self._find(context)
        names = {number: path for path, number in self._files.items()}
        rows = self._database.execute(
            "SELECT file, lines FROM executed WHERE context = ?", (number,)
        )
        return {names[file]: lines for file, lines in rows}

    def keep(self, path: str) -> None:
        """Make the run a part of the file at ``path``. KcovError if that cannot be written."""
        self._database.commit()
        with _errors(path), closing(_open(path, write=True)) as kept:
            _merge(self._database, kept, self._root)

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def file(self, path: str) -> int:
        """Return the number of a file, taking its text when it is first heard of."""
        number = self._files.get(path)
        if number is None:
            text = self._text(path)
            digest = "" if text is None else hashlib.sha256(text).hexdigest()
            number = self._files[path] = len(self._files) + 1
            self._database.execute(
                "INSERT INTO file VALUES (?, ?, ?, ?)", (number, self._relative(path), digest, text)
            )
        return number

    def _context(self, context: Context) -> int:
        number = self._find(context)
        if number is None:
            made = self._database.execute(
                "INSERT INTO context (run, kind, name, phase) VALUES (?, ?, ?, ?)", (_RUN, *context)
            )
            number = made.lastrowid
            assert number is not None
        return number

    def _find(self, context: Context) -> int | None:
        # Not in memory: that would grow with the number of tests.
        found = self._database.execute(
            "SELECT id FROM context WHERE run = ? AND kind = ? AND name = ? AND phase = ?",
            (_RUN, *context),
        ).fetchone()
        return None if found is None else int(found[0])

    def _text(self, path: str) -> bytes | None:
        """Return what a file contains, None if that may not be what was executed."""
        try:
            if os.stat(path).st_mtime_ns > self._began:
                return None
            with open(path, "rb") as file:
                return file.read()
        except (OSError, ValueError):
            return None

    def _relative(self, path: str) -> str:
        """Return a path below the root as relative to it: the whole may be moved."""
        known = self._names.get(path)
        if known is None:
            known = self._names[path] = self._relative_path(os.path.realpath(path))
        return known

    def _relative_path(self, path: str) -> str:
        found = os.path.relpath(path, self._root) if is_below(path, self._root) else path
        return found.encode(errors="replace").decode()


def is_below(path: str, directory: str) -> bool:
    """Tell whether a path is in a directory."""
    return path.startswith(directory.rstrip("/") + "/")


class Kept:
    """What earlier runs have found. KcovError ENOENT if there is nothing, EINVAL if it is something else."""

    def __init__(self, path: str, root: str) -> None:
        self._root = root
        if not os.path.isfile(path):
            raise KcovError(errno.ENOENT, f"no recorded data in {path}")
        with _errors(path):
            self._database = _open(path, write=False)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def tests(self) -> dict[str, KeptTest]:
        """Return all tests, by node id."""
        found = {}
        for nodeid, *test in self._database.execute("SELECT * FROM test"):
            found[nodeid] = KeptTest.read(test)
        return found

    def pythons(self) -> dict[int, str]:
        """Return the Python of each run."""
        return dict(self._database.execute("SELECT id, python FROM run").fetchall())

    def versions(self) -> Iterator[tuple[int, str, bytes | None]]:
        """Yield number, path and text of each version of each file."""
        rows = self._database.execute("SELECT id, path, text FROM file ORDER BY path")
        for number, path, text in rows:
            yield number, os.path.join(self._root, path), text

    def executed(self, file: int) -> Iterator[tuple[int, Context, set[int]]]:
        """Yield run, context and lines of whatever executed a version of a file."""
        rows = self._database.execute(
            "SELECT run, kind, name, phase, lines FROM executed JOIN context ON context = id WHERE file = ?",
            (file,),
        )
        for run, kind, name, phase, lines in rows:
            yield run, Context(kind, name, phase), decode(lines)

    def files_of(self, run: int, kind: str, name: str) -> set[int]:
        """Return the numbers of the file versions that a test or a fixture executed."""
        rows = self._database.execute(
            "SELECT DISTINCT file FROM executed JOIN context ON context = id"
            " WHERE run = ? AND kind = ? AND name = ?",
            (run, kind, name),
        )
        return {file for (file,) in rows}

    def modules(self, run: int) -> dict[str, int]:
        """Return the modules of a run, by name, with the numbers of their files."""
        return dict(
            self._database.execute("SELECT name, file FROM module WHERE run = ?", (run,)).fetchall()
        )


def python() -> str:
    """Return which Python this is: another one may execute other lines."""
    return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"


def _open(path: str, *, write: bool) -> sqlite3.Connection:
    """Open a file of ours, with ``write`` making it."""
    mode = "rwc" if write else "ro"
    uri = f"file:{path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode={mode}"
    database = sqlite3.connect(uri, uri=True, timeout=_PATIENCE)
    try:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        is_new = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new and write:
            with database:
                database.executescript(
                    f"BEGIN IMMEDIATE;{_SCHEMA}{_INDEXES}PRAGMA application_id={_APPLICATION};"
                    f"PRAGMA user_version={_FORMAT};COMMIT;"
                )
        elif application != _APPLICATION:
            raise KcovError(errno.EINVAL, f"{path} is not what pytest --pykcov writes")
        elif version != _FORMAT:
            raise KcovError(errno.EINVAL, f"{path} is of another version of pykcov: remove it")
    except BaseException:
        database.close()
        raise
    return database


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        number = errno.EBUSY if "locked" in str(error) else errno.EIO
        raise KcovError(number, f"{path}: {error}") from None
    except sqlite3.DatabaseError:
        raise KcovError(errno.EINVAL, f"{path} is not what pytest --pykcov writes") from None


def _merge(new: sqlite3.Connection, kept: sqlite3.Connection, root: str) -> None:
    """Copy a run; its tests lose what they had from an earlier one, and what nobody needs any more goes."""
    with kept:
        kept.execute("BEGIN IMMEDIATE")
        run = kept.execute("SELECT coalesce(max(id), 0) + 1 FROM run").fetchone()[0]
        kept.execute("INSERT INTO run VALUES (?, ?)", (run, python()))
        files = {}
        for number, *file in new.execute("SELECT * FROM file"):
            kept.execute("INSERT OR IGNORE INTO file (path, digest, text) VALUES (?, ?, ?)", file)
            files[number] = kept.execute(
                "SELECT id FROM file WHERE path = ? AND digest = ?", file[:2]
            ).fetchone()[0]
        for nodeid, _, *test in new.execute("SELECT * FROM test"):
            for old in kept.execute(
                "SELECT id FROM context WHERE kind = 'test' AND name = ?", (nodeid,)
            ).fetchall():
                kept.execute("DELETE FROM executed WHERE context = ?", old)
                kept.execute("DELETE FROM context WHERE id = ?", old)
            kept.execute("INSERT OR REPLACE INTO test VALUES (?, ?, ?, ?, ?)", (nodeid, run, *test))
        first = kept.execute("SELECT coalesce(max(id), 0) FROM context").fetchone()[0]
        kept.executemany(
            "INSERT INTO context VALUES (?, ?, ?, ?, ?)",
            (
                (first + number, run, *context)
                for number, _, *context in new.execute("SELECT * FROM context")
            ),
        )
        kept.executemany(
            "INSERT INTO executed VALUES (?, ?, ?)",
            (
                (first + context, files[file], lines)
                for context, file, lines in new.execute("SELECT * FROM executed")
            ),
        )
        kept.executemany(
            "INSERT INTO module VALUES (?, ?, ?)",
            ((run, name, files[file]) for _, name, file in new.execute("SELECT * FROM module")),
        )
        _forget(kept, root)


def _forget(kept: sqlite3.Connection, root: str) -> None:
    """Remove tests whose file is gone, runs that are no test's latest, and all that was only theirs."""
    for (path,) in kept.execute("SELECT DISTINCT path FROM test").fetchall():
        if not os.path.exists(os.path.join(root, path)):
            kept.execute("DELETE FROM test WHERE path = ?", (path,))
    for statement in (
        "DELETE FROM run WHERE id NOT IN (SELECT run FROM test)",
        "DELETE FROM module WHERE run NOT IN (SELECT id FROM run)",
        "DELETE FROM context WHERE run NOT IN (SELECT id FROM run)"
        " OR (kind = 'test' AND name NOT IN (SELECT nodeid FROM test))",
        "DELETE FROM executed WHERE context NOT IN (SELECT id FROM context)",
        "DELETE FROM file WHERE id NOT IN (SELECT file FROM executed)"
        " AND id NOT IN (SELECT file FROM module)",
    ):
        kept.execute(statement)
