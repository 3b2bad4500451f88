"""Compiled probes: modules in scope are compiled with them when they are imported, as a kernel is built with kcov.

The probes sleep while nobody collects. Their PCs are asked of the code map when somebody first does, so that
an import opens no namespace. Which code has none is noted: modules that were there before, and what is executed
from anywhere else; event probes see to those.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import marshal
import os
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, FrameType, ModuleType
from typing import Any

from .. import _recorder, codemap, probes
from ..errors import KcovError, warn
from ..late import find_behind
from ..scope import Scope
from . import cache, compare, scopes
from .events import is_generated
from .placeholders import LINES, PREFIX
from .recipe import Recipe, Rewriter, Variant, compile_file
from .rewrite import KIND, Extent
from .sites import inner_codes

__all__ = [
    "code_of", "describe", "forget", "has_gaps", "install", "is_probed", "note", "pairs_of",
    "resolve", "sleep", "versions", "wake", "without_probes",
]  # fmt: skip

is_probed = _recorder.is_probed


@dataclass(slots=True, eq=False)
class _File:
    """One version of a file that has probes, loaded once or more."""

    path: str
    recipe: Recipe
    places: _recorder.Places
    probes: list[Any]
    """What stands in the place of its placeholders: the same each time, so that its code is equal each time."""
    version: int = -1
    """Of the scopes when its mask was set."""
    pcs: array[int] | None = None


_scopes: list[Scope] = []
_comparing: dict[Scope, Extent] = {}
_watching = False
_files: dict[tuple[str, str, Variant], _File] = {}
_awake = False
_resolved = -1, -1  # at which version of the scopes, and how many files
# File names of code that is there, or was, and has no probes.
_uncompiled: dict[str, None] = {}
_gaps: tuple[tuple[int, int], bool] = ((-1, -1), False)


def install(scope: Scope, *, comparisons: Extent | None = None) -> None:
    """Compile the modules of a scope with probes from now on; with ``comparisons`` also with those of operands.

    For a file that several scopes have, the first that compares says what.
    """
    _watch()
    if comparisons is not None:
        _comparing.setdefault(scope, comparisons)
    if not _scopes:
        sys.meta_path.insert(0, _Finder())
    if scope not in _scopes:
        _scopes.append(scope)


def _watch() -> None:
    """Find out from now on what code has no probes."""
    global _watching
    if not _watching:
        _watching = True
        _note_what_is_there()
        probes.use_compiled()
        _recorder.watch_exec()


def describe() -> list[tuple[str, str]]:
    """Return what is in use and why, in pairs of a label and a text."""
    sites, awake = _recorder.count_sites()
    found = [
        ("probe", f"compiled: {sites} sites in {len(_files)} files"),
        ("state", "awake" if awake else "asleep"),
    ]
    names = [name for name in _uncompiled if scopes.mask(name)]
    if names:
        found.append(("without compiled probes", ", ".join(sorted(names))))
    return found


def without_probes(scope: Scope) -> list[str]:
    """Return the files of a scope whose code is there and has no probes."""
    return sorted(name for name in list(_uncompiled) if scope.contains(name))


def has_gaps() -> bool:
    """Tell whether there is code without probes that some scope in use has."""
    global _gaps
    stamp = (scopes.version, len(_uncompiled))
    if _gaps[0] != stamp:
        _gaps = (stamp, any(scopes.mask(name) for name in list(_uncompiled)))
    return _gaps[1]


def note(what: object) -> bool:
    """Note that code runs that has no probes; tell whether that is news to a collection."""
    if isinstance(what, CodeType):
        if is_generated(what):
            return False
        what = what.co_filename
    if not isinstance(what, str) or what in _uncompiled:
        return False
    _uncompiled[what] = None
    return bool(scopes.mask(what))


def forget(path: str) -> None:
    """No code of a file is without probes any more."""
    global _gaps
    _uncompiled.pop(path, None)
    _gaps = ((-1, -1), False)


def _note_what_is_there() -> None:
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            _uncompiled[path] = None
    for top in list(sys._current_frames().values()):
        walk: FrameType | None = top
        while walk is not None:
            _uncompiled[walk.f_code.co_filename] = None
            walk = walk.f_back
    del top


# -- waking


def wake() -> None:
    """Let all probes record. Must be called with the probes' lock held."""
    global _awake
    resolve()
    if not _awake:
        _recorder.wake(True)
    _awake = True


def resolve() -> None:
    """Give all files their PCs. Must be called with the probes' lock held."""
    global _resolved
    if _resolved != (scopes.version, len(_files)):
        for file in list(_files.values()):
            _resolve(file)
        _resolved = scopes.version, len(_files)


def sleep() -> None:
    """Let all probes sleep. Must be called with the probes' lock held."""
    global _awake
    if _awake:
        _awake = False
        _recorder.wake(False)


def _resolve(file: _File) -> None:
    """Give a file its PCs, if some scope has it, and let its probes know which."""
    if file.version == scopes.version:
        return
    mask = scopes.mask(file.path)
    if mask and file.pcs is None:
        try:
            file.pcs = _pcs(file)
        except (KcovError, OSError) as error:
            warn(f"code is not recorded: {error}")
            return
    file.version = scopes.version
    file.places.fill(file.pcs if file.pcs is not None else b"", mask)


def _pcs(file: _File) -> array[int]:
    recipe = file.recipe
    known = codemap.get()
    path = os.path.abspath(file.path) if os.path.exists(file.path) else file.path
    source = known.file(path, recipe.digest, recipe.nlines, recipe.changes)
    keys = [place for place in recipe.places if not isinstance(place, int)]
    pcs = dict(zip(keys, known.places(source, keys), strict=True))
    return array("Q", [source.base + p if isinstance(p, int) else pcs[p] for p in recipe.places])


# -- loading


def code_of(
    path: str, data: bytes | None = None, rewriter: Rewriter | None = None
) -> CodeType | None:
    """Return the code of a file with probes, None if it is in no scope or cannot have them.

    `data` is its text, if that has been read. Code that is rewritten has no probes for comparisons.
    """
    if not any(scope.contains(path) for scope in _scopes):
        return None
    extents = (extent for scope, extent in _comparing.items() if scope.contains(path))
    comparisons = next(extents, None) if rewriter is None else None
    return _compile(path, data, comparisons, rewriter)


def versions(path: str) -> set[str]:
    """Return the digests of the texts of a file that have been compiled with probes."""
    return {digest for name, digest, _ in list(_files) if name == path}


def pairs_of(path: str, *, comparisons: Extent | None) -> dict[CodeType, CodeType] | None:
    """Return for each code object that a file has without probes the one with them; None if there are none."""
    _watch()
    probed = _compile(path, None, comparisons)
    if probed is None:
        return None
    with open(path, "rb") as file:
        plain = compile(file.read(), path, "exec", dont_inherit=True)
    return dict(zip(inner_codes(plain), inner_codes(probed), strict=True))


def _compile(
    path: str, data: bytes | None, comparisons: Extent | None, rewriter: Rewriter | None = None
) -> CodeType | None:
    variant = Variant(sys.flags.optimize, comparisons, rewriter.name if rewriter else ())
    try:
        status = os.stat(path)
        found = cache.load(path, status, variant)
        if found is not None:
            return _assemble(path, Recipe(*marshal.loads(found)), variant)
        if data is None:
            with open(path, "rb") as file:
                data = file.read()
    except OSError:
        return None
    recipe = compile_file(data, path, variant, rewriter)
    if recipe is None:
        return None
    # A code object keeps what it was made of once somebody has asked: add_sites() has to be the first.
    kept = marshal.dumps(tuple(recipe))
    cache.store(path, status, variant, kept)
    return _assemble(path, Recipe(*marshal.loads(kept)), variant)


def _assemble(path: str, recipe: Recipe, variant: Variant) -> CodeType:
    """Put probes in the place of a recipe's placeholders."""
    key = path, recipe.digest, variant
    file = _files.get(key)
    if file is None:
        places = _recorder.Places(len(recipe.places))
        probes = _recorder.make_probes(places, recipe.probes, LINES)
        if variant.comparisons is not None:
            for number, probe in enumerate(recipe.probes):
                if probe[0] == KIND:
                    probes[number] = compare.make(probe, places)
        file = _files[key] = _File(path, recipe, places, probes)
    if variant.comparisons is not None:
        compare.instrumented(path)
    _recorder.plant(recipe.code, file.probes, PREFIX)
    for code, sites in zip(inner_codes(recipe.code), recipe.sites, strict=True):
        if sites:
            _recorder.add_sites(code, sites)
    if _awake or _recorder.comparing():
        _resolve(file)
    return recipe.code


class ProbeLoader(SourceFileLoader):
    """Loads a module from its source, compiled with probes."""

    def _with_probes(self, fullname: str) -> CodeType | None:
        return code_of(self.get_filename(fullname))

    get_code = _recorder.FirstOf(_with_probes, SourceFileLoader.get_code)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what the others find, and lets modules in scope be loaded with probes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = find_behind(self, fullname, path, target)
        return None if spec is None else _with_loader(spec)


def _with_loader(spec: ModuleSpec) -> ModuleSpec:
    loader = spec.loader
    # Exactly that class: what others have made of it is theirs.
    if type(loader) is SourceFileLoader and any(s.contains(loader.path) for s in _scopes):
        spec.loader = ProbeLoader(loader.name, loader.path)
    return spec
