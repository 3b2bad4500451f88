"""Which files are recorded: ``source``, ``include`` and ``omit``, as coverage.py's work.

* ``source``: directories, and packages or modules by name. Then only what is in them is recorded, and what
  is installed below them is not, unless it was named itself.
* ``include``: file patterns; not considered where ``source`` is given.
* neither: everything but the standard library and installed packages.
* ``omit``: file patterns that are left out in any case.

In a pattern ``*`` and ``?`` do not match ``/``; ``**/`` does, and so do ``*/`` at its beginning and ``/*`` at its
end. One that does not begin with a wildcard is made absolute. pykcov itself is never recorded.
"""

from __future__ import annotations

import importlib.util
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache

__all__ = ["Scope"]


class Scope:
    """One choice of files. Equal choices are equal and have the same hash.

    Raises TypeError for what is not a string or strings.
    """

    __slots__ = ("_answers", "_hash", "_include", "_omit", "_source", "_third", "key", "unresolved")

    def __init__(
        self,
        source: str | Iterable[str] = (),
        include: str | Iterable[str] = (),
        omit: str | Iterable[str] = (),
    ) -> None:
        directories, packages, unresolved = _resolve(_strings("source", source))
        # What remains of it is plain text, the same in any process whatever its directory and path.
        self._build(
            (
                tuple(directories),
                tuple(packages),
                tuple(unresolved),
                tuple(map(_absolute, _strings("include", include))),
                tuple(map(_absolute, _strings("omit", omit))),
            )
        )

    def _build(self, key: tuple[tuple[str, ...], ...]) -> None:
        self.key = key
        directories, packages, self.unresolved, include, omit = key
        self._hash = hash(key)
        self._source = (*directories, *packages)
        # Named itself: recorded even though it is installed.
        self._third = tuple(p for p in (*packages, *directories) if _below(p, _installed()))
        self._include = _matcher(include)
        self._omit = _matcher(omit)
        self._answers: dict[str, bool] = {}

    def to_json(self) -> list[list[str]]:
        """Return what from_json() takes."""
        return [list(part) for part in self.key]

    @classmethod
    def from_json(cls, value: list[list[str]]) -> Scope:
        """Return the scope that to_json() was called on. Raises ValueError if it was not one."""
        if (
            not isinstance(value, list)
            or len(value) != 5
            or not all(isinstance(part, list) for part in value)
            or not all(isinstance(text, str) for part in value for text in part)
        ):
            raise ValueError("not a scope")
        self = cls.__new__(cls)
        self._build(tuple(tuple(part) for part in value))
        return self

    def contains(self, filename: str) -> bool:
        """Tell whether code of that ``co_filename`` is recorded."""
        answer = self._answers.get(filename)
        if answer is None:
            answer = self._answers[filename] = self._decide(filename)
        return answer

    def _decide(self, filename: str) -> bool:
        if filename.startswith("<frozen "):
            return False
        if filename.startswith("<") and filename.endswith(">"):
            path = filename
        else:
            path = os.path.abspath(filename)
            if not os.path.exists(path):  # the name of a template, say
                path = filename
        real = os.path.realpath(path) if path.startswith("/") else path
        if _below(real, _own()):
            return False
        if self._omit and (self._omit.fullmatch(path) or self._omit.fullmatch(real)):
            return False
        if self._source or self.unresolved:
            if not (_below(path, self._source) or _below(real, self._source)):
                return False
            return not _below(real, _installed()) or _below(real, self._third)
        if self._include:
            return bool(self._include.fullmatch(path) or self._include.fullmatch(real))
        return not _below(path, _elsewhere()) and not _below(real, _elsewhere())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scope) and self.key == other.key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<Scope {self.key}>"


def _strings(what: str, values: str | Iterable[str]) -> list[str]:
    if isinstance(values, str):
        values = [values]
    found = list(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{what}: strings are expected, not {type(value).__name__}")
    return found


def _resolve(source: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the directories, the files and directories of packages, and what could not be found."""
    directories, packages, unresolved = [], [], []
    for name in source:
        if os.path.isdir(name):
            directories.append(os.path.realpath(name))
            continue
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, AttributeError, ValueError):
            spec = None
        if spec is not None and spec.submodule_search_locations:
            packages += [os.path.realpath(p) for p in spec.submodule_search_locations]
        elif spec is not None and spec.has_location and spec.origin:
            packages.append(os.path.realpath(spec.origin))
        else:
            unresolved.append(name)
    return directories, packages, unresolved


def _below(path: str, places: tuple[str, ...]) -> bool:
    """Tell whether a path is one of some places or in one that is a directory."""
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


@cache
def _own() -> tuple[str, ...]:
    return (os.path.dirname(os.path.realpath(__file__)),)


@cache
def _installed() -> tuple[str, ...]:
    """Return where packages are installed."""
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        paths.update(site.getsitepackages([prefix]))
    paths.add(site.getusersitepackages())
    paths.update(p for p in sys.path if p.endswith(("/site-packages", "/dist-packages")))
    return tuple(sorted({os.path.realpath(path) for path in paths if path}))


@cache
def _elsewhere() -> tuple[str, ...]:
    """Return what is left out by default: installed packages and the standard library."""
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    library.add(os.path.dirname(os.__file__))
    return (*_installed(), *sorted({os.path.realpath(path) for path in library if path}))


def _absolute(pattern: str) -> str:
    """Make a pattern absolute, unless it begins with a wildcard; a directory means all that is in it."""
    if pattern.endswith("/"):
        pattern += "**"
    if pattern.startswith(("*", "?", "<", "/")):
        return pattern
    return os.path.join(os.getcwd(), pattern)


_TOKEN = re.compile(r"(?P<any>^\*+/|\*\*/)|(?P<below>/\*+$)|(?P<all>\*\*)|(?P<star>\*)|(?P<one>\?)|(?P<set>\[[^\]]+\])|(?s:.)")
_MEANS = {"any": "(?:.*/)?", "below": "/.*", "all": ".*", "star": "[^/]*", "one": "[^/]"}


def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(map(_regex, patterns)), re.DOTALL)


def _regex(pattern: str) -> str:
    if "/" not in pattern and not pattern.startswith("<"):
        pattern = "**/" + pattern
    parts = []
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind is None:
            parts.append(re.escape(token[0]))
        elif kind == "set":
            parts.append(token[0].replace("[!", "[^", 1))
        else:
            parts.append(_MEANS[kind])
    return "(?:" + "".join(parts) + ")"
