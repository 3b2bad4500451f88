"""Modules with comparison probes, without the import hook: placeholders, compile, probes in their place."""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from array import array
from pathlib import Path
from typing import Any

import pykcov
from pykcov import _recorder, codemap
from pykcov.probes import compare
from pykcov.probes.placeholders import Placeholders, text_of
from pykcov.probes.rewrite import Extent, transform


def compiled(path: str | Path, **options: bool) -> types.CodeType:
    """The code of a file's module, with probes whose places are known and in every scope."""
    text = Path(path).read_text()
    tree = ast.parse(text, str(path))
    placeholders = Placeholders()
    transform(tree, placeholders, Extent(**options))
    code = compile(tree, str(path), "exec")
    space = codemap.get()
    file = space.file(str(path), f"{hash(text) % 2**64:016x}", text.count("\n") + 1, [])
    places = _recorder.Places(len(placeholders.places))
    places.fill(array("Q", space.places(file, placeholders.places)), 2**64 - 1)
    made = {text_of(i): compare.make(probe, places) for i, probe in enumerate(placeholders.probes)}
    compare.instrumented(str(path))
    return planted(code, made)


def planted(code: types.CodeType, probes: dict[str, object]) -> types.CodeType:
    def plant(value: Any) -> Any:
        if isinstance(value, types.CodeType):
            return planted(value, probes)
        return probes.get(value, value) if isinstance(value, str) else value

    return code.replace(co_consts=tuple(map(plant, code.co_consts)))


def load(name: str) -> types.ModuleType:
    """Import a module with probes."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None and name not in sys.modules
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    exec(compiled(spec.origin), module.__dict__)
    return module


class Module(types.ModuleType):
    """A module that was compiled with comparison probes."""

    def __init__(self, directory: Path, text: str, **options: bool) -> None:
        super().__init__(f"compared_{abs(hash(text))}")
        self.__file__ = str(directory / f"{self.__name__}.py")
        Path(self.__file__).write_text(text)
        exec(compiled(self.__file__, **options), self.__dict__)

    def collect(self) -> pykcov.collect:
        return pykcov.collect(include=[str(self.__file__)], mode=pykcov.TRACE_CMP)
