"""Which tests a change touches, and why: by what each executed itself, by its fixtures, and by what it imports."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .changes import Changes, lines_of
from .store import Kept, KeptTest, is_below, python
from .touched import Touched, touched

__all__ = ["Impact"]


class _File(NamedTuple):
    """A version of a file that is not what it was, for who executed it."""

    path: str
    touched: Touched


class Impact:
    """What has changed since the tests were recorded, and what the user says has."""

    def __init__(self, kept: Kept, changes: Changes, root: str) -> None:
        self._kept = kept
        self._changes = changes
        self._root = os.path.realpath(root)
        self._tests = kept.tests()
        self._pythons = kept.pythons()
        self._graphs: dict[int, _Imports] = {}
        self._files: dict[int, _File] = {}
        self._paths: dict[int, str] = {}
        self._texts: dict[int, bytes | None] = {}
        for number, path, text in kept.versions():
            self._paths[number], self._texts[number] = path, text
            found = self._compare(path, text)
            if found:
                self._files[number] = _File(path, found)
        self._recorded = set(self._paths.values())
        self._gone = [
            path
            for path in self._recorded
            if os.path.basename(path) == "conftest.py" and not os.path.exists(path)
        ]
        # Of each test: why it has to run.
        self._why: dict[str, str] = {}
        # Of a run, what an import or no test in particular has executed: not all of it is a module's.
        self._nobodys: set[tuple[int, int]] = set()
        self._by_import: dict[int, list[tuple[int, str]]] = {}
        for number, file in self._files.items():
            self._spread(number, file)

    def unknown(self) -> list[str]:
        """Return the files that are said to have changed, and of which nothing was recorded."""
        return sorted(self._changes.files() - self._recorded)

    def why(self, nodeid: str, path: str, configuration: Iterable[str]) -> str:
        """Return why a test, in a file, has to run; '' if nothing that has changed concerns it.

        ``configuration``: files that concern it whatever it executes, conftest.py and pytest's own.
        """
        known = self._tests.get(nodeid)
        if known is None:
            return "new: nothing was recorded of it"
        if known.outcome == "failed":
            return "did not pass when it ran last"
        if self._pythons.get(known.run) != python():
            return f"recorded with {self._pythons.get(known.run)}"
        reason = self._why.get(nodeid)
        if reason:
            return reason
        for file in set(configuration) - self._recorded:
            if file in self._changes.files() or os.path.basename(file) == "conftest.py":
                return f"{self._name(file)} changed"
        if known.outcome == "skipped" and self._has_changed(path):
            return f"{self._name(path)} changed, and it was skipped"
        gone = [file for file in self._gone if is_below(path, os.path.dirname(file))]
        begin = {*configuration, *gone, path, *self._executed_by(nodeid, known)}
        return self._why_imported(begin, known.run)

    # -- what has changed

    def _compare(self, path: str, text: bytes | None) -> Touched:
        """Return what is touched of a version of a file."""
        try:
            with open(path, "rb") as file:
                now: bytes | None = file.read()
        except OSError:
            now = None
        if text is None:
            # Not what was executed, or made by a test itself: only what is the project's can be compared.
            return (
                Touched(_EVERY, 1) if now is not None and is_below(path, self._root) else Touched()
            )
        if now is None or path in self._changes.whole:
            return Touched(_EVERY, 1)
        said = self._changes.hunks.get(path, ())
        if now == text and not said:
            return Touched()
        return touched(lines_of(text), lines_of(now), said)

    def _has_changed(self, path: str) -> bool:
        return any(file.path == path for file in self._files.values())

    def _spread(self, number: int, file: _File) -> None:
        """Find who executed what is touched of a file."""
        by_fixture: dict[tuple[int, str], str] = {}
        is_recorded = False
        for run, context, lines in self._kept.executed(number):
            is_recorded = True
            if context.kind not in ("test", "fixture"):
                self._nobodys.add((run, number))
            hit = _first(file.touched, lines)
            if not hit:
                continue
            where = f"{self._name(file.path)}:{hit} changed"
            if context.kind == "test":
                self._why.setdefault(context.name, f"{where}, executed in its {context.phase}")
            elif context.kind == "fixture":
                by_fixture[run, context.name] = f"{where}, executed by the fixture {context.name}"
            else:
                by = "an import" if context.kind == "import" else "no test in particular"
                self._by_import.setdefault(run, []).append((number, f"{where}, executed by {by}"))
        if file.touched.module or not is_recorded:
            first = file.touched.module or min(file.touched.lines.values())
            by = "executed by an import" if is_recorded else "which is not recorded"
            where = f"{self._name(file.path)}:{first} changed, {by}"
            for run in self._pythons:
                self._by_import.setdefault(run, []).append((number, where))
        for nodeid, test in self._tests.items():
            for name in test.fixtures:
                if (test.run, name) in by_fixture:
                    self._why.setdefault(nodeid, by_fixture[test.run, name])

    # -- imports

    def _why_imported(self, begin: Iterable[str], run: int) -> str:
        """Return why what imports execute concerns a test that ``begin`` with these files: one of them imports it."""
        changed = self._by_import.get(run)
        if not changed:
            return ""
        imports = self._imports(run)
        reached = imports.reach(begin)
        for number, reason in changed:
            if number in imports.files:
                if self._paths[number] in reached:
                    return reason
            elif (run, number) in self._nobodys:  # of a child process that a hook has started, say
                return reason
        return ""

    def _imports(self, run: int) -> _Imports:
        if run not in self._graphs:
            modules = self._kept.modules(run)
            entries = {os.path.join(self._root, test.path) for test in self._tests.values()}
            self._graphs[run] = _Imports(modules, self._paths, self._texts, entries)
        return self._graphs[run]

    def _executed_by(self, nodeid: str, known: KeptTest) -> set[str]:
        contexts = [("test", nodeid), *(("fixture", name) for name in known.fixtures)]
        return {
            self._paths[number]
            for kind, name in contexts
            for number in self._kept.files_of(known.run, kind, name)
        }

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._root) if is_below(path, self._root) else path


class _Everything(dict[int, int]):
    """Every line, of a file that is gone or was replaced as a whole."""


_EVERY = _Everything()


def _first(found: Touched, lines: set[int]) -> int:
    """Return the line now of the first of ``lines`` that is touched, 0 if none is."""
    if found.lines is _EVERY:
        return min(lines)
    hits = lines.intersection(found.lines)
    if hits:
        return found.lines[min(hits)]
    return found.module if lines & found.top else 0


_IMPORT_BY_NAME = ("import_module", "__import__", "importorskip")


class _Imports:
    """Which file of a run imports which: by the statements in its source, wherever they are.

    A file that imports by a name which only it knows (``importlib.import_module(name)``) may import all, and
    what no statement imports may have been imported by anybody, but for ``entries``, which pytest imports.
    """

    def __init__(
        self,
        modules: Mapping[str, int],
        paths: Mapping[int, str],
        texts: Mapping[int, bytes | None],
        entries: set[str],
    ) -> None:
        self.files = set(modules.values())
        self._modules = {name: paths[number] for name, number in modules.items()}
        self._edges: dict[str, set[str]] = {}
        self._every = set(self._modules.values())
        for name, number in modules.items():
            edges = self._edges.setdefault(paths[number], set())
            edges |= self._imported(name, paths[number], texts[number])
        imported: set[str] = set().union(*self._edges.values())
        self._anybodys = {
            path
            for path in self._every - imported - entries
            if os.path.basename(path) != "conftest.py"
        }

    def reach(self, begin: Iterable[str]) -> set[str]:
        """Return all files that these import, directly or not, and themselves."""
        found: set[str] = set()
        waiting = [*begin, *self._anybodys]
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self._edges.get(path, ())
        return found

    def _imported(self, name: str, path: str, text: bytes | None) -> set[str]:
        if text is None:
            return self._every
        tree = None
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            tree = ast.parse(text)
        if tree is None:
            return self._every
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= self._of(alias.name)
            elif isinstance(node, ast.ImportFrom):
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1] if node.level else []
                base = ".".join([*parts, *([node.module] if node.module else [])])
                found |= self._of(base)
                for alias in node.names:
                    found |= self._of(f"{base}.{alias.name}")
            elif isinstance(node, ast.Call) and _name_of(node.func) in _IMPORT_BY_NAME:
                match node.args[:1]:
                    case [ast.Constant(value=str(named))] if not named.startswith("."):
                        found |= self._of(named)
                    case _:
                        return self._every
        return found

    def _of(self, name: str) -> set[str]:
        """Return the files of a module and of the packages that it is in."""
        parts = name.split(".")
        names = (".".join(parts[: i + 1]) for i in range(len(parts)))
        return {self._modules[name] for name in names if name in self._modules}


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
