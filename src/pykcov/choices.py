"""What a user writes as ``source``, ``include`` and ``omit``, as a Scope has it: absolute paths, compiled patterns."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
from collections.abc import Iterable

__all__ = ["absolute", "compile_patterns", "directory", "find_module", "strings"]


def strings(what: str, values: str | Iterable[str]) -> list[str]:
    """Return the texts of an option. Raises TypeError for what is none, ValueError for what means nothing."""
    if isinstance(values, str):
        values = [values]
    found: list[object] = []
    try:
        found += [os.fspath(value) for value in values]
    except TypeError:
        raise TypeError(f"{what}: {values!r:.200} is not a list of strings") from None
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{what}: {value!r:.200} is not a text")
        if not value:
            raise ValueError(f"{what}: '' is not a text")
        if "\0" in value:
            raise ValueError(f"{what}: {value!r:.200} has a null character, and no file's name has")
    return [str(value) for value in found]


def directory(name: str) -> str:
    """Return the real path of a directory or Python file that is there, '' for the name of a module."""
    if os.path.isdir(name) or (name.endswith(".py") and os.path.isfile(name)):
        path = os.path.realpath(name)
        if path == os.path.dirname(path):
            raise ValueError(f"source: {name!r} is the root of the file system")
        return path
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"source: {name!r} is no directory, no Python file, and no module's name")
    return ""


def find_module(name: str) -> list[str]:
    """Return the directories of a package, or the file of a module; nothing of it is imported."""
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
        for i in range(len(rest)):
            if spec is None or not spec.submodule_search_locations:
                return []
            full = ".".join([first, *rest[: i + 1]])
            where = list(spec.submodule_search_locations)
            spec = importlib.machinery.PathFinder.find_spec(full, where)
    except Exception:  # ValueError if it has no spec, like __main__; any, of somebody's import hook
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [os.path.realpath(place) for place in spec.submodule_search_locations]
    if spec.has_location and spec.origin:
        return [os.path.realpath(spec.origin)]
    return []


# -- patterns

_TOKEN = re.compile(
    r"(?P<wrong>\*\*\*+|(?<=[^/])\*\*+|\*\*+(?=[^/*])|\*\*/\*\*)"
    r"|(?P<any>^\*+/|\*\*/)|(?P<below>/\*+$)|(?P<star>\*)|(?P<one>\?)|(?P<set>\[[^\]]+\])|(?s:.)"
)
_MEANS = {"any": "(?:.*/)?", "below": "/.*", "star": "[^/]*", "one": "[^/]"}


def absolute(patterns: list[str], start: str = "") -> list[str]:
    """Make patterns absolute, from ``start`` or here, but those that have no directory, or begin with a wildcard.

    One that ends with a ``/`` means all that is in that directory. One with a symbolic link means what that
    leads to as well: a file's name may have either.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if "/" not in pattern or pattern.startswith(("*", "?", "<")):
            found[pattern] = None
        else:
            path = os.path.abspath(os.path.join(start, pattern)) + (
                "/*" if pattern.endswith("/") else ""
            )
            found[path] = found[os.path.realpath(path)] = None
    return list(found)


def compile_patterns(what: str, patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern that matches what any of them does. Raises ValueError for one that means nothing."""
    try:
        return re.compile("|".join(map(_regex, patterns)), re.DOTALL)
    except (re.error, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None


def _regex(pattern: str) -> str:
    if "/" not in pattern and not pattern.startswith("<"):
        pattern = "**/" + pattern
    parts = []
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind is None:
            parts.append(re.escape(token[0]))
        elif kind == "wrong":
            raise ValueError(f"{token[0]!r} in {pattern!r} means nothing")
        elif kind == "set":
            parts.append(
                "[" + token[0][1:-1].replace("!", "^", 1) + "]" if token[0][1] == "!" else token[0]
            )
        else:
            parts.append(_MEANS[kind])
    return "(?:" + "".join(parts) + ")"
