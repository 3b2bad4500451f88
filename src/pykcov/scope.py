"""Which files are recorded: ``source``, ``include`` and ``omit``, as coverage.py's work.

* ``source``: directories, and packages or modules by name. Then only what is in them is recorded, and what
  is installed below them is not, unless it was named itself.
* ``include``: file patterns; not considered where ``source`` is given.
* neither: everything but the standard library and installed packages.
* ``omit``: file patterns that are left out in any case.

In a pattern ``*`` and ``?`` do not match ``/``; ``**/`` does, and so do ``*/`` at its beginning and ``/*`` at its
end; one without ``/`` is of a file's own name. One that does not begin with a wildcard is made absolute.

pykcov itself is never recorded, nor what is frozen into the interpreter. What has no file, like ``<string>``
or a template's name, is recorded unless ``source`` says what is, and where a pattern of ``include`` matches.
"""

from __future__ import annotations

import os
import sys

from .errors import warn
from .late import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

__all__ = ["Scope"]

_PARTS = ("directories", "packages", "unresolved", "include", "omit")

_ANSWERS = 10_000  # remembered; names like those of IPython's cells have no end
_OWN = os.path.dirname(os.path.realpath(__file__))
_PLUGIN = os.path.join(os.path.dirname(_OWN), "pytest_pykcov.py")
_NEVER = (os.path.dirname(__file__), _OWN, _PLUGIN)
# Where the standard library is, but for what a distribution may have put elsewhere: _library() has all.
_LIBRARY = os.path.realpath(os.path.dirname(os.__file__))


class Scope:
    """One choice of files. Equal choices are equal and have the same hash, whatever process made them.

    Paths and patterns are made absolute, and names of modules looked up, when it is made; nothing is
    imported for that. Raises TypeError for what is not strings, ValueError for a path that is no directory or Python
    file, and for a pattern that means nothing.
    """

    __slots__ = (
        "_answers", "_hash", "_include", "_omit", "directories", "include", "omit", "packages",
        "unresolved",
    )  # fmt: skip

    directories: tuple[str, ...]
    """Of ``source``: directories and files, with no symbolic link in them."""
    packages: tuple[str, ...]
    """Of ``source``: where the named packages and modules are."""
    unresolved: tuple[str, ...]
    """Of ``source``: names of modules that were not found. They match what is imported by that name later."""
    include: tuple[str, ...]
    omit: tuple[str, ...]
    _include: re.Pattern[str] | None
    _omit: re.Pattern[str] | None
    _answers: dict[str, bool]
    _hash: int

    def __init__(
        self,
        source: str | Iterable[str] = (),
        include: str | Iterable[str] = (),
        omit: str | Iterable[str] = (),
    ) -> None:
        choices = load("pykcov.choices")
        directories: list[str] = []
        packages: list[str] = []
        unresolved: list[str] = []
        for name in choices.strings("source", source):
            if path := choices.directory(name):
                directories.append(path)
            elif places := choices.find_module(name):
                packages += places
            else:
                unresolved.append(name)
                warn(
                    f"source: {name!r} is no directory, and no package or module of that name is found"
                )
        self._set(
            directories,
            packages,
            unresolved,
            choices.absolute(choices.strings("include", include)),
            choices.absolute(choices.strings("omit", omit)),
        )

    def _set(self, *parts: Sequence[str]) -> None:
        for name, part in zip(_PARTS, parts, strict=True):
            object.__setattr__(self, name, tuple(part))
        for name in ("include", "omit"):
            patterns = getattr(self, name)
            compiled = load("pykcov.choices").compile_patterns(name, patterns) if patterns else None
            object.__setattr__(self, f"_{name}", compiled)
        object.__setattr__(self, "_answers", {})
        object.__setattr__(self, "_hash", hash(self._parts()))

    def _parts(self) -> tuple[tuple[str, ...], ...]:
        return self.directories, self.packages, self.unresolved, self.include, self.omit

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a scope does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, Scope) else NotImplemented

    def __hash__(self) -> int:
        """Return what was computed once: every section asks."""
        return self._hash

    def __repr__(self) -> str:
        parts = (f"{name}={part!r}" for name, part in zip(_PARTS, self._parts(), strict=True))
        return f"Scope({', '.join(parts)})"

    def to_bytes(self) -> bytes:
        """Return what from_bytes() takes. It means the same in a process in another directory."""
        texts = (
            name[0] + text
            for name, part in zip(_PARTS, self._parts(), strict=True)
            for text in part
        )
        return "\0".join(texts).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, value: bytes) -> Scope:
        """Return the scope that to_bytes() was called on. Raises ValueError if it was not one."""
        parts: dict[str, list[str]] = {name[0]: [] for name in _PARTS}
        for text in value.decode("utf-8", "surrogatepass").split("\0") if value else ():
            if text[:1] not in parts or not text[1:]:
                raise ValueError(f"no scope: {text!r:.200}")
            parts[text[0]].append(text[1:])
        self = cls.__new__(cls)
        self._set(*parts.values())
        return self

    def has_library(self) -> bool:
        """Tell whether files of the standard library may be in it; True in case of doubt."""
        if self.directories or self.packages or self.unresolved:
            places = (*self.directories, *self.packages)
            return bool(self.unresolved) or any(
                _below(place, (_LIBRARY,)) or _below(_LIBRARY, (place,)) for place in places
            )
        return any(_may_be_below(pattern, _LIBRARY + "/") for pattern in self.include)

    def contains(self, filename: str) -> bool:
        """Tell whether code of that ``co_filename`` is recorded. The first answer is kept."""
        answer = self._answers.get(filename)
        if answer is None:
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            answer = self._answers[filename] = self._decide(filename)
        return answer

    def _decide(self, filename: str) -> bool:
        if not filename or filename.startswith("<frozen ") or self._is_library(filename):
            return False
        path = _file(filename)
        if path and _below(path, (_OWN, _PLUGIN)):
            return False
        if self.directories or self.packages or self.unresolved:
            if not path or not self._has(path):
                return False
        elif self._include is not None:
            if not _matches(self._include, filename, path):
                return False
        elif path and (
            _below(path, (_LIBRARY,)) or _is_installed(path) or _below(path, _library())
        ):
            return False
        return self._omit is None or not _matches(self._omit, filename, path)

    def _is_library(self, filename: str) -> bool:
        """Tell by its name alone that a file is of the library, or of ours, and not in this scope: usual and fast."""
        if _below(filename, _NEVER):
            return True
        return (
            _below(filename, (_LIBRARY,))
            and "-packages/" not in filename  # installed, or a link to what is not
            and not self.has_library()
        )

    def _has(self, path: str) -> bool:
        """Tell whether ``source`` has a file."""
        if _below(path, self.packages) or any(_is_module(path, name) for name in self.unresolved):
            return True
        return any(
            _below(path, (place,)) and (_is_installed(place) or not _is_installed(path))
            for place in self.directories
        )


def _is_module(path: str, name: str) -> bool:
    """Tell whether a file would be imported by that name, or from the package of that name."""
    wanted = name.split(".")
    for entry in sys.path:
        root = os.path.realpath(entry or ".")
        if _below(path, (root,)) and path != root:
            parts = path[len(root) :].strip("/").removesuffix(".py").split("/")
            if parts[: len(wanted)] == wanted:
                return True
    return False


# -- paths


def _file(filename: str) -> str:
    """Return the real path of a ``co_filename``, '' for what is not a file's name.

    A relative one is looked for in the current directory and along sys.path, since the program may have
    changed its directory. An absolute one may be in a zip file, or be gone.
    """
    if filename.startswith("<") or "\0" in filename:
        return ""
    if os.path.isabs(filename):
        return os.path.realpath(filename)
    for entry in (os.curdir, *sys.path):
        path = os.path.join(entry, filename)
        if os.path.exists(path):
            return os.path.realpath(path)
    return ""


def _below(path: str, places: tuple[str, ...]) -> bool:
    """Tell whether a path is one of some places, or in one that is a directory."""
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _is_installed(path: str) -> bool:
    """Tell whether a path belongs to an installed package, of this Python or another."""
    parts = path.split("/")
    return "site-packages" in parts or "dist-packages" in parts or _below(path, _installed())


def _installed() -> tuple[str, ...]:
    """Return where packages and their scripts are installed: of all schemes, and in virtual environments."""
    key = tuple(sys.path)
    if key not in _known:
        site = load("site")
        paths = _scheme_paths("purelib", "platlib", "scripts")
        paths.update(site.getsitepackages())
        paths.add(site.getusersitepackages())
        paths.update(entry for entry in key if entry and _is_in_environment(entry))
        _known[key] = tuple(sorted({os.path.realpath(path) for path in paths if path}))
    return _known[key]


def _library() -> tuple[str, ...]:
    """Return where the standard library is."""
    if () not in _known:
        paths = _scheme_paths("stdlib", "platstdlib")
        _known[()] = (_LIBRARY, *sorted({os.path.realpath(path) for path in paths if path}))
    return _known[()]


# By sys.path what is installed, by () where the standard library is.
_known: dict[tuple[str, ...], tuple[str, ...]] = {}


def _scheme_paths(*names: str) -> set[str]:
    sysconfig = load("sysconfig")
    found: set[str] = set()
    for scheme in sysconfig.get_scheme_names():
        paths = sysconfig.get_paths(scheme)
        found.update(paths[name] for name in names if name in paths)
    return found


def _is_in_environment(path: str) -> bool:
    """Tell whether a directory on sys.path is in a virtual environment."""
    if not os.path.exists(path):
        return False
    parent = os.path.dirname(path)
    while parent != os.path.dirname(parent):
        if os.path.exists(os.path.join(parent, "pyvenv.cfg")):
            return True
        parent = os.path.dirname(parent)
    return False


# -- patterns


def _may_be_below(pattern: str, directory: str) -> bool:
    """Tell whether a pattern may match what is in a directory: by its beginning."""
    if "/" not in pattern:
        return True
    plain = len(pattern)
    for wildcard in "*?[":
        plain = min(plain, pattern.find(wildcard) % (len(pattern) + 1))
    begin = pattern[:plain]
    return begin.startswith(directory) or directory.startswith(begin)


def _matches(patterns: re.Pattern[str], filename: str, path: str) -> bool:
    names = {filename, path, os.path.abspath(filename)} if path else {filename}
    return any(patterns.fullmatch(name) for name in names)
