"""From the text of a file to its code with probes: what to compile, and what its probes will be. Pure.

The result is data that can be kept (cache.py); its code has placeholders yet.
"""

from __future__ import annotations

import ast
import io
import struct
import tokenize
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from . import places
from .insertion import ENTRY, insert
from .placeholders import LINES, Placeholders, number_of, text_of
from .rewrite import Extent, transform
from .sites import find_sites, inner_codes, with_prologue
from .source import Source, analyse

__all__ = ["Recipe", "Rewriter", "Variant", "compile_file"]

_SITE = struct.Struct("=II")
_PARTS = 1 << 31  # PART_BEFORE of _probes.h


class Rewriter(NamedTuple):
    """What else is done to a file's syntax tree, when its probes are in."""

    name: tuple[object, ...]
    """It does the same to the same text if this is the same."""
    rewrite: Callable[[ast.Module, bytes], None]


class Variant(NamedTuple):
    """What the code of a file depends on, beside its text."""

    optimize: int = 0
    comparisons: Extent | None = None
    """Which comparisons have probes that record their operands, None for none."""
    rewriter: tuple[object, ...] = ()


_PLAIN = Variant()


class Recipe(NamedTuple):
    """A file's code with placeholders, and what stands behind them."""

    digest: str
    """Of the text, as the code map has it."""
    nlines: int
    changes: tuple[tuple[int, str], ...]
    """From which line on which function it is."""
    code: CodeType
    places: tuple[Any, ...]
    """What has a PC: a line's number, or a key of the code map."""
    probes: tuple[tuple[Any, ...], ...]
    """By the number of the placeholder: a kind, and what the probe of that kind is made with."""
    sites: tuple[bytes, ...]
    """Of each code object, in the order of inner_codes(): what add_sites() takes."""


def compile_file(
    data: bytes, filename: str, variant: Variant = _PLAIN, rewriter: Rewriter | None = None
) -> Recipe | None:
    """Compile the text of a file with probes; None if that cannot be: Python itself is to say why.

    Warnings are given as Python gives them.
    """
    try:
        text = _decode(data)
        source = analyse(text)
        tree = compile(data, filename, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        if source is None or not isinstance(tree, ast.Module):
            return None
        placeholders = Placeholders()
        insert(tree, source, placeholders, asserts=variant.optimize <= 0 or rewriter is not None)
        if variant.comparisons is not None:
            transform(tree, placeholders, variant.comparisons)
        if rewriter is not None:
            rewriter.rewrite(tree, data)
        code = compile(tree, filename, "exec", dont_inherit=True, optimize=variant.optimize)
        code = _finish(code, placeholders, source)
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError, SystemError):
        return None
    sleepers = {i for i, probe in enumerate(placeholders.probes) if probe[0] == LINES}
    return Recipe(
        source.digest,
        source.nlines,
        source.changes,
        code,
        tuple(placeholders.places),
        tuple(placeholders.probes),
        tuple(_pack(inner, sleepers) for inner in inner_codes(code)),
    )


def _decode(data: bytes) -> str:
    """Return the text as tokenize.open() reads it."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()


def _finish(code: CodeType, placeholders: Placeholders, source: Source) -> CodeType:
    """Name the entries of a code object and of all that are in it, and give one to those that have none."""
    inner = {
        i: _finish(value, placeholders, source)
        for i, value in enumerate(code.co_consts)
        if isinstance(value, CodeType)
    }
    if any(value is not code.co_consts[i] for i, value in inner.items()):
        consts = tuple(inner.get(i, value) for i, value in enumerate(code.co_consts))
        code = code.replace(co_consts=consts)
    entered = False
    for value in code.co_consts:
        number = number_of(value)
        if number >= 0 and placeholders.probes[number][0] == LINES:
            first = placeholders.probes[number][1]
            if placeholders.places[first] == ENTRY:
                placeholders.places[first] = places.entry(code)
            entered = entered or isinstance(placeholders.places[first], tuple)
    return code if entered else _begin(code, placeholders, source)


def _begin(code: CodeType, placeholders: Placeholders, source: Source) -> CodeType:
    """Give a code object that is an expression a probe for its entry and its first line."""
    found: list[Any] = [places.entry(code)]
    lines = places.line_table(code, source)
    if lines:
        found.append(next(iter(lines.values())))
    placeholders.new(LINES, *placeholders.place(*found), 0)
    return with_prologue(code, text_of(len(placeholders.probes) - 1))


def _pack(code: CodeType, sleepers: set[int]) -> bytes:
    packed = bytearray()
    for site in find_sites(code, sleepers):
        packed += _SITE.pack(site.unit | (_PARTS if site.parts else 0), site.skip)
    return bytes(packed)
