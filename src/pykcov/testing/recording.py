"""Who executes now: a test in one of its phases, a fixture that tests share, an import, or nobody of these."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from ..scope import Scope
from ..task import quietly
from .bits import encode
from .collection import Collection, Collections, Lines

__all__ = ["Context", "Recording", "Row"]


# The name by which tests ask for a fixture, and which definition of it that is.
FixtureKey: TypeAlias = tuple[str, int]


class Context(NamedTuple):
    """On whose behalf lines were executed.

    ``kind``: 'test' (``name`` is its node id, ``phase`` 'setup', 'call' or 'teardown'), 'fixture' (its file and
    name), 'import' (the module's file) or 'session' (nobody's: a conftest's hooks, threads that an import has started).
    """

    kind: str
    name: str = ""
    phase: str = ""


class Row(NamedTuple):
    """What one context has executed: the lines of each file, by its absolute name, as bits.py has them."""

    context: Context
    lines: dict[str, bytes]


class Recording:
    """What the tests of this process execute; each find goes to ``found`` and is forgotten."""

    @quietly
    def __init__(self, scope: Scope, found: Callable[[Row], None]) -> None:
        self._found = found
        self._collections = Collections(scope)
        self._session = Collection(self._collections)
        self._imports = Collection(self._collections)
        self._importing = _Importing()
        # An import in one thread cuts what is found at the beginning and end of another's. Reentrant: imports nest.
        self._lock = threading.RLock()
        self._test: Collection | None = None
        self._nodeid = ""
        self._closed = False
        self._fixtures: dict[FixtureKey, tuple[Context, Collection]] = {}
        self._process = os.getpid()
        self._session.__enter__()

    @property
    def scope(self) -> Scope:
        """The files that are recorded."""
        return self._collections.scope

    @contextmanager
    def importing(self, file: str) -> Iterator[None]:
        """Record the block as the import of a module."""
        if os.getpid() != self._process:  # a forked child: what it does is its test's
            yield
            return
        stack = self._importing.files
        self._cut_imports()
        stack.append(file)
        try:
            with self._imports:
                yield
        finally:
            self._cut_imports()
            stack.pop()

    @contextmanager
    def phase(self, nodeid: str, phase: str) -> Iterator[None]:
        """Record the block as a phase of a test; what it has started is collected until the test's teardown ends."""
        if self._test is not None and self._nodeid != nodeid:  # it has had no teardown
            self._end_test(self._nodeid, "teardown")
        if self._test is None:
            self._test, self._nodeid = Collection(self._collections), nodeid
        test = self._test
        try:
            with test:
                yield
        finally:
            if phase == "teardown":
                self._end_test(nodeid, phase)
            else:
                self._add(Context("test", nodeid, phase), test.take())

    def _end_test(self, nodeid: str, phase: str) -> None:
        test, self._test = self._test, None
        if test is not None:
            self._add(Context("test", nodeid, phase), test.close())

    @contextmanager
    def fixture(self, key: FixtureKey, name: str) -> Iterator[None]:
        """Record the block as the work of a fixture; what it has started is collected until end_fixture()."""
        if key not in self._fixtures:
            self._fixtures[key] = Context("fixture", name), Collection(self._collections)
        context, collection = self._fixtures[key]
        try:
            with collection:
                yield
        finally:
            self._add(context, collection.take())

    def end_fixture(self, key: FixtureKey) -> None:
        """End what fixture() began."""
        if key in self._fixtures:
            context, collection = self._fixtures.pop(key)
            self._add(context, collection.close())

    def live_fixtures(self) -> Iterator[tuple[FixtureKey, str]]:
        """Yield key and file and name of the fixtures that are set up."""
        for key, (context, _) in self._fixtures.items():
            yield key, context.name

    @quietly
    def close(self) -> None:
        """End everything that is open."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        for key in list(self._fixtures):
            self.end_fixture(key)
        self._end_test(self._nodeid, "teardown")
        self._cut_imports()
        self._add(Context("session"), self._imports.close())
        self._add(Context("session"), self._session.close())
        self._collections.close()

    @property
    def dropped(self) -> int:
        """How many events did not fit; known after close()."""
        return self._collections.dropped

    def _cut_imports(self) -> None:
        """What has been imported so far is of the module that this thread imports, if it does."""
        stack = self._importing.files
        with self._lock:
            context = Context("import", stack[-1]) if stack else Context("session")
            self._add(context, self._imports.take())

    @quietly
    def _add(self, context: Context, lines: Lines) -> None:
        if lines:
            self._found(Row(context, {file: encode(found) for file, found in lines.items()}))


class _Importing(threading.local):
    """The files of the modules that this thread is importing, the innermost last."""

    def __init__(self) -> None:
        self.files: list[str] = []
