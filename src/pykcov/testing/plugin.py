"""pytest's hooks: a process that runs tests records them, and the one that reports keeps what was found.

Without pytest-xdist that is one process. With it, workers record and what they find travels with their reports.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from ..errors import KcovError
from ..probes import compiled
from ..scope import Scope
from . import changes, options, results, traces
from .changes import ChangeError, Changes, Hunk
from .impact import Impact
from .imports import Finder
from .recording import Context, Recording, Row
from .store import Kept, RunStore, is_below
from .traces import Unsaved

__all__ = ["begin"]

_KEY = "pykcov"  # of what travels: in a report, and in what a worker gets and gives


def begin(config: pytest.Config) -> None:
    """Begin to record. Raises UsageError for options that cannot work."""
    given = config.known_args_namespace
    began = time.time_ns()
    is_distributed = bool(getattr(given, "numprocesses", None) or getattr(given, "tx", None))
    scope = options.scope(config)
    # What pytest-xdist's workers execute, they record; the process that gives them work has no tests.
    if "PYTEST_XDIST_WORKER" in os.environ or not is_distributed:
        try:
            # Before the finder of Running, which has to be in front.
            compiled.install(scope)
            running = Running(config, scope)
        except KcovError as error:  # of the namespace
            raise pytest.UsageError(options.said(error)) from None
        config.pluginmanager.register(running, "pykcov-running")
    config.pluginmanager.register(_Beginning(began), "pykcov-beginning")


class _Beginning:
    """Makes the one that reports, when it is known whether this process is a worker."""

    def __init__(self, began: int) -> None:
        self._began = began

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Begin to report, unless another process does."""
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Reporting(config, self._began), "pykcov-reporting")


class Running:
    """Records the tests of this process."""

    def __init__(self, config: pytest.Config, scope: Scope) -> None:
        self._config = config
        self._root = str(config.rootpath)
        self._found: list[Row] = []
        self._recording = Recording(scope, self._found.append)
        self._finder = Finder(scope, self._recording.importing)
        self._finder.install()
        self._traces = config.known_args_namespace.pykcov_traces
        self._unsaved = Unsaved()
        self._fixtures: list[str] = []

    # -- which tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests that the change touches."""
        chosen = _chosen_changes(config)
        if chosen is None:
            return
        path, changed = chosen
        kept = Kept(path, self._root)
        try:
            impact = Impact(kept, changed, self._root)
            reasons = {}
            for item in items:
                reasons[item.nodeid] = impact.why(
                    item.nodeid, os.path.realpath(item.path), _configuration(config, item)
                )
            unknown = impact.unknown()
        finally:
            kept.close()
        deselected = [item for item in items if not reasons[item.nodeid]]
        if deselected:
            config.hook.pytest_deselected(items=deselected)
            items[:] = [item for item in items if reasons[item.nodeid]]
        config.stash[_REASONS] = (
            {nodeid: reason for nodeid, reason in reasons.items() if reason},
            len(reasons),
            unknown,
        )

    # -- what each executes

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Save a trace, if that was asked for."""
        if not self._traces:
            return (yield)
        with options.collecting(item.config) as collection:
            result = yield
        try:
            traces.save(collection.trace, self._traces, item.nodeid)
        except KcovError as error:
            self._unsaved = self._unsaved.add(options.said(error))
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a test's setup."""
        with self._recording.phase(item.nodeid, "setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a test itself."""
        with self._recording.phase(item.nodeid, "call"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a test's teardown, and end its collection."""
        used = set(getattr(item, "fixturenames", ()))
        self._fixtures = [
            name for (fixture, _), name in self._recording.live_fixtures() if fixture in used
        ]
        with self._recording.phase(item.nodeid, "teardown"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Record a fixture that tests share: its setup, its teardown, and what it has started."""
        if fixturedef.scope == "function":
            return (yield)
        key = (fixturedef.argname, id(fixturedef))
        name = _fixture_name(fixturedef, request, self._root)
        teardown = ExitStack()
        # Finalizers run in reverse: this one after the fixture's own, the other one before.
        teardown.callback(self._recording.end_fixture, key)
        request.addfinalizer(teardown.close)
        with self._recording.fixture(key, name):
            result = yield
        request.addfinalizer(lambda: teardown.enter_context(self._recording.fixture(key, name)))
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send what was found along with the report."""
        report = yield
        found, self._found[:] = self._found[:], []
        report.__dict__[_KEY] = {
            "rows": [(*row.context, row.lines) for row in found],
            "path": str(item.path),
            "fixtures": self._fixtures if call.when == "teardown" else [],
        }
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """End the recording, before the other process or the other half of the plugin reports."""
        self._end()
        last = {
            "rows": [(*row.context, row.lines) for row in self._found],
            "modules": _modules(session.config, self._recording.scope),
            "dropped": self._recording.dropped,
            "unsaved": tuple(self._unsaved),
            "reasons": session.config.stash.get(_REASONS, None),
        }
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_KEY] = last
        else:
            session.config.stash[_LAST] = last
        return (yield)

    def pytest_unconfigure(self) -> None:
        """End the recording, if there was no session."""
        self._end()

    def _end(self) -> None:
        self._finder.remove()
        self._recording.close()


class Reporting:
    """Keeps what was found, and tells what became of it."""

    def __init__(self, config: pytest.Config, began: int) -> None:
        self._config = config
        self._root = str(config.rootpath)
        self._options = options.read(config.option, self._root)
        if self._options.impact:
            config.stash[_CHANGED] = self._options.data, self._changes()
        self._store = RunStore(self._root, began)
        self._reasons: _Reasons | None = None
        self._running: dict[str, _State] = {}  # tests that have begun
        self._dropped = 0
        self._unsaved = Unsaved()
        self._written = ""

    def _changes(self) -> Changes:
        directory = str(self._config.invocation_params.dir)
        try:
            Kept(self._options.data, self._root).close()
            return changes.parse(self._options.impact, directory)
        except ChangeError as error:
            raise pytest.UsageError(f"pykcov: --pykcov-impact: {error}") from None
        except KcovError as error:
            hint = ": run `pytest --pykcov` first" if error.errno == errno.ENOENT else ""
            raise pytest.UsageError(f"{options.said(error)}{hint}") from None

    # -- pytest-xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what has changed."""
        chosen = self._config.stash.get(_CHANGED, None)
        if chosen is not None:
            path, changed = chosen
            hunks = {name: [tuple(hunk) for hunk in found] for name, found in changed.hunks.items()}
            node.workerinput[_KEY] = (path, hunks, sorted(changed.whole))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has found last; one that has crashed gives nothing."""
        output = getattr(node, "workeroutput", None)
        if output and _KEY in output:
            self._take(output[_KEY])

    # -- what was found

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came with a report: on the disk, and out of memory."""
        found = report.__dict__.pop(_KEY, {})
        self._add(found.get("rows", ()))
        # A worker that has crashed leaves its test without a teardown.
        path = found.get("path", os.path.join(self._root, report.location[0]))
        state = self._running.setdefault(report.nodeid, _State(path))
        is_expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
        if report.outcome == "failed" or (report.outcome == "skipped" and not is_expected):
            state.outcome = "failed" if "failed" in (report.outcome, state.outcome) else "skipped"
        if report.when not in ("setup", "call"):
            del self._running[report.nodeid]
            self._store.add_test(report.nodeid, path, state.outcome, found.get("fixtures", ()))

    def _take(self, last: dict[str, Any]) -> None:
        self._add(last["rows"])
        self._store.add_modules(last["modules"])
        self._dropped += last["dropped"]
        self._unsaved = self._unsaved.add(*last["unsaved"])
        if last["reasons"] is not None:
            self._reasons = _Reasons(*last["reasons"])

    def _add(self, rows: list[Any]) -> None:
        for kind, name, phase, lines in rows:
            self._store.add(Row(Context(kind, name, phase), lines))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write everything."""
        last = self._config.stash.get(_LAST, None)
        if last is not None:
            self._take(last)
        for nodeid, state in self._running.items():  # Ctrl-C
            self._store.add_test(nodeid, state.path, "failed", ())
        nothing = session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        if nothing and self._reasons is not None and self._reasons.of and not self._reasons.why:
            session.exitstatus = pytest.ExitCode.OK  # nothing had to run
        if self._config.option.collectonly:
            return
        try:
            self._store.keep(self._options.data)
            results.write_coverage(self._store, self._options, self._root)
            if self._options.json:
                results.write_json(self._store, self._options, self._root)
        except KcovError as error:
            self._written = options.said(error)
        else:
            self._written = self._unsaved.text()
        if self._written:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_unconfigure(self) -> None:
        """Forget what is not kept."""
        self._store.close()

    # -- what people see

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say which tests were chosen, and why."""
        found = self._config.stash.get(_REASONS, None)
        return _Reasons(*found).text() if found is not None else []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the results are."""
        if self._config.option.collectonly:
            return
        distributed = self._reasons is not None and _REASONS not in self._config.stash
        lines = self._reasons.text() if self._reasons is not None and distributed else []
        if self._dropped:
            lines.append(f"{self._dropped} events did not fit, and are missing")
        if self._written:
            lines.append(f"ERROR: {self._written}")
        elif self._config.option.verbose >= 0:
            where = [self._options.output, self._options.json, self._options.traces]
            names = [os.path.relpath(path) for path in where if path]
            lines.append(f"lines of each test written to {', '.join(names)}")
        if lines:
            terminalreporter.section("pykcov", sep="-")
            for line in lines:
                terminalreporter.line(line)


@dataclass
class _State:
    """What is known of a test that is not over: its file, its outcome so far."""

    path: str
    outcome: str = "passed"


class _Reasons(NamedTuple):
    """Why each test was chosen."""

    why: dict[str, str]
    of: int
    unknown: list[str]

    def text(self) -> list[str]:
        """Return a line for each test, and one for what is not known."""
        found = [f"pykcov: {len(self.why)} of {self.of} tests chosen"]
        found += [f"  {nodeid}: {reason}" for nodeid, reason in self.why.items()]
        if self.unknown:
            found.append(
                f"  no test executed anything of {', '.join(map(os.path.relpath, self.unknown))}"
            )
        return found


_CHANGED: pytest.StashKey[tuple[str, Changes]] = pytest.StashKey()
_REASONS: pytest.StashKey[tuple[dict[str, str], int, list[str]]] = pytest.StashKey()
_LAST: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def _chosen_changes(config: pytest.Config) -> tuple[str, Changes] | None:
    """Return where the data is and what has changed; None if all tests are to run."""
    given = getattr(config, "workerinput", {}).get(_KEY)
    if given is None:
        return config.stash.get(_CHANGED, None)
    path, hunks, whole = given
    found = {name: [Hunk(*hunk) for hunk in every] for name, every in hunks.items()}
    return path, Changes(found, set(whole))


def _configuration(config: pytest.Config, item: pytest.Item) -> set[str]:
    """Return the files that concern a test whatever it executes."""
    directory = os.path.dirname(os.path.realpath(item.path))
    found = {
        path
        for path in _conftests(config)
        if is_below(directory + "/", os.path.dirname(path)) or os.path.dirname(path) == directory
    }
    return found | ({os.path.realpath(config.inipath)} if config.inipath else set())


def _conftests(config: pytest.Config) -> set[str]:
    files = (getattr(plugin, "__file__", None) for plugin in config.pluginmanager.get_plugins())
    return {os.path.realpath(file) for file in files if file and file.endswith("conftest.py")}


def _modules(config: pytest.Config, scope: Scope) -> dict[str, str]:
    """Return name and file of the project's modules."""
    projects = Scope()
    found = {path: path for path in _conftests(config)}  # pytest hides some from sys.modules
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (
            isinstance(file, str)
            and file.endswith(".py")
            and (scope.contains(file) or projects.contains(file))
        ):
            found[name] = os.path.abspath(file)
    return found


def _fixture_name(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, root: str
) -> str:
    """Return the file of a fixture, its name, and its parameter if it has one."""
    try:
        path = os.path.abspath(inspect.getfile(inspect.unwrap(fixturedef.func)))
    except TypeError:
        path = ""
    where = os.path.relpath(path, root) if is_below(path, root) else path
    name = f"{where}::{fixturedef.argname}"
    if hasattr(request, "param"):
        is_plain = isinstance(request.param, str | int | float | None)
        name += f"[{str(request.param)[:40] if is_plain else getattr(request, 'param_index', '')}]"
    return name
