"""The file that holds a ``Trace``: a writer that leaves a whole one, a reader that trusts nothing.

    8 bytes   magic, b"\\x89pykcov\\n": the first byte and the last show damage by text-mode copying
    u16       format version
    u16       0
    u32       length of the header in bytes
    header    zlib-compressed JSON: counts, dropped, probe, places (as columns), sections, and for
              each file the digests of its texts (optional)
    words     one zlib stream of the PCs, u64 each
    u32       CRC-32 of everything before it

All integers are little-endian. A reader holds at most the words that it has really read, whatever
the header claims.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from . import wholefile
from .codemap import Place
from .errors import KcovError

__all__ = ["VERSION", "Contents", "read", "write"]

MAGIC = b"\x89pykcov\n"
VERSION = 1
FIXED = struct.Struct("<8sHHI")
TRAILER = struct.Struct("<I")
HEADER_LIMIT = 1 << 28  # bytes of JSON; some millions of places, more than a program has
CHUNK = 1 << 20  # bytes read, written or decompressed at a time

TEXT, NUMBER, MAYBE = (str,), (int,), (int, type(None))
PLACE_TYPES = (TEXT, TEXT, NUMBER, TEXT, MAYBE, MAYBE, MAYBE, TEXT)  # of the fields of Place
# of the fields of trace.SectionRecord
SECTION_TYPES = (NUMBER, NUMBER, NUMBER, TEXT, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER)


class Contents(NamedTuple):
    """What a file holds; ``sections`` are rows with the fields of ``trace.SectionRecord``."""

    pcs: array[int]
    places: Mapping[int, Place]
    sections: Sequence[tuple[Any, ...]]
    dropped: int
    probe: str
    sources: Mapping[str, Sequence[str]]


class Damage(Exception):
    """Why a file is not a whole trace; never leaves this module."""


# ----------------------------------------------------------------------------------- writing


def write(path: str | os.PathLike[str], contents: Contents) -> None:
    """Write ``contents`` to ``path``. After a KcovError (the system's errno) it is as it was."""
    name = os.fsdecode(path)
    try:
        with wholefile.replacing(name) as file:
            _write_to(file, contents)
    except OSError as error:
        raise wholefile.failed("Trace.save", name, error) from error


def _write_to(file: BinaryIO, contents: Contents) -> None:
    header = zlib.compress(json.dumps(_header(contents), separators=(",", ":")).encode("ascii"))
    crc = 0

    def put(data: bytes) -> None:
        nonlocal crc
        crc = zlib.crc32(data, crc)
        file.write(data)

    put(FIXED.pack(MAGIC, VERSION, 0, len(header)))
    put(header)
    # Level 3: a trace repeats itself so much that more effort gains little.
    packer = zlib.compressobj(level=3)
    step = CHUNK // 8
    for start in range(0, len(contents.pcs), step):
        words = contents.pcs[start : start + step]
        if sys.byteorder == "big":
            words.byteswap()
        put(packer.compress(words.tobytes()))
    put(packer.flush())
    file.write(TRAILER.pack(crc))


def _header(contents: Contents) -> dict[str, Any]:
    pcs = sorted(contents.places)
    places = [contents.places[pc] for pc in pcs]
    strings: dict[str, int] = {}

    def number(text: str) -> int:
        return strings.setdefault(text, len(strings))

    columns = [
        [number(value) if kind is TEXT else value for value in column]
        for kind, column in zip(PLACE_TYPES, zip(*places, strict=True), strict=False)
    ]
    return {
        "words": len(contents.pcs),
        "dropped": contents.dropped,
        "probe": contents.probe,
        "pcs": pcs,
        "places": columns,
        "strings": list(strings),
        "sections": [list(row) for row in contents.sections],
        "sources": {file: list(versions) for file, versions in contents.sources.items()},
    }


# ----------------------------------------------------------------------------------- reading


def read(path: str | os.PathLike[str]) -> Contents:
    """Return what is in the file ``path``.

    KcovError: EINVAL for anything that is not a whole trace, else the system's errno.
    """
    name = os.fsdecode(path)
    try:
        with open(name, "rb") as file:
            return _read_from(Reader(file))
    except Damage as damage:
        raise KcovError(errno.EINVAL, f"Trace.load: {name}: {damage}") from None
    except OSError as error:
        raise wholefile.failed("Trace.load", name, error) from error


class Reader:
    """Reads by chunks, so that a length in the file is never an amount of memory; keeps the CRC."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.ahead = b""
        self.crc = 0

    def peek(self) -> bytes:
        """Return the next bytes, however many; b"" at the end."""
        if not self.ahead:
            self.ahead = self.file.read(CHUNK)
        return self.ahead

    def skip(self, count: int) -> None:
        """Take the first ``count`` of the bytes that ``peek`` gave."""
        self.crc = zlib.crc32(self.ahead[:count], self.crc)
        self.ahead = self.ahead[count:]

    def exactly(self, count: int) -> bytes:
        result = bytearray()
        while len(result) < count:
            data = self.peek()[: count - len(result)]
            if not data:
                raise Damage("it ends early: not a whole trace")
            result += data
            self.skip(len(data))
        return bytes(result)

    def decompressed(self, limit: int) -> Iterator[bytes]:
        """Yield the pieces of one zlib stream, which may hold ``limit`` bytes."""
        packer = zlib.decompressobj()
        total = 0
        while not packer.eof:
            data = waiting = self.peek()
            if not data:
                raise Damage("it ends early: not a whole trace")
            while waiting and not packer.eof:
                piece = _inflate(packer, waiting, CHUNK)
                waiting = packer.unconsumed_tail
                total += len(piece)
                if total > limit:
                    raise Damage("damaged: it holds more than it announces")
                yield piece
            self.skip(len(data) - len(packer.unused_data))


def _inflate(packer: zlib._Decompress, data: bytes, limit: int) -> bytes:
    try:
        return packer.decompress(data, limit)
    except zlib.error as error:
        raise Damage(f"damaged: it does not decompress ({error})") from None


def _read_from(reader: Reader) -> Contents:
    start = reader.peek()[: len(MAGIC)]
    if not start:
        raise Damage("not a pykcov trace: the file is empty")
    if start != MAGIC[: len(start)]:
        raise Damage("not a pykcov trace")
    _, version, reserved, length = FIXED.unpack(reader.exactly(FIXED.size))
    if version > VERSION:
        raise Damage(
            f"written by a newer pykcov (format {version}; this one reads formats up to {VERSION})"
        )
    if version < 1 or reserved:
        raise Damage("damaged: its format version is impossible")
    packer = zlib.decompressobj()
    header = _inflate(packer, reader.exactly(length), HEADER_LIMIT)
    if not packer.eof or packer.unused_data:
        raise Damage("damaged: its header has the wrong length")
    fields = _Fields(header)
    words = fields.count("words")
    pcs = _words(reader, words)
    crc = reader.crc
    if reader.exactly(TRAILER.size) != TRAILER.pack(crc):
        raise Damage("damaged: its checksum is wrong")
    if reader.peek():
        raise Damage("damaged: something follows its end")
    return Contents(
        pcs,
        fields.places(),
        fields.sections(words),
        fields.count("dropped"),
        fields.text("probe"),
        fields.sources(),
    )


def _words(reader: Reader, count: int) -> array[int]:
    pcs = array("Q")
    odd = b""  # a piece may end within a word
    for piece in reader.decompressed(count * 8):
        data = odd + piece
        whole = len(data) // 8 * 8
        pcs.frombytes(data[:whole])
        odd = data[whole:]
    if odd or len(pcs) != count:
        raise Damage(f"damaged: it holds {len(pcs)} PCs and announces {count}")
    if sys.byteorder == "big":
        pcs.byteswap()
    return pcs


class _Fields:
    """The header's JSON, every value checked before it is used."""

    def __init__(self, data: bytes) -> None:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Damage(f"damaged: its header is not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise Damage("damaged: its header is not a JSON object")
        self.fields = fields

    def of_type(self, name: str, kind: type) -> Any:
        value = self.fields.get(name)
        if type(value) is not kind:
            raise Damage(f"damaged: {name!r} in its header is not of type {kind.__name__}")
        return value

    def count(self, name: str) -> int:
        value: int = self.of_type(name, int)
        if not 0 <= value < 1 << 64:
            raise Damage(f"damaged: {name!r} in its header is out of range")
        return value

    def text(self, name: str) -> str:
        value: str = self.of_type(name, str)
        return value

    def rows(
        self, name: str, kinds: Sequence[tuple[type, ...]], rows: Iterable[Any]
    ) -> list[tuple[Any, ...]]:
        result = []
        for row in rows:
            if type(row) not in (list, tuple) or len(row) != len(kinds):
                raise Damage(f"damaged: an entry of {name!r} in its header has the wrong length")
            # type() and not isinstance(): JSON's true is no number
            if any(type(value) not in kind for value, kind in zip(row, kinds, strict=True)):
                raise Damage(f"damaged: an entry of {name!r} in its header has a wrong type")
            result.append(tuple(row))
        return result

    def places(self) -> dict[int, Place]:
        pcs, strings = self.of_type("pcs", list), self.of_type("strings", list)
        columns = self.of_type("places", list)
        for column in [pcs, strings, *columns]:
            if type(column) is not list:
                raise Damage("damaged: a column of 'places' in its header is no list")
        if any(type(text) is not str for text in strings):
            raise Damage("damaged: an entry of 'strings' in its header is no text")
        if not columns and not pcs:
            return {}
        if len(columns) != len(PLACE_TYPES) or any(len(c) != len(pcs) for c in columns):
            raise Damage("damaged: the columns of 'places' in its header have wrong lengths")
        try:
            table = [
                [strings[index] for index in column] if kind is TEXT else column
                for kind, column in zip(PLACE_TYPES, columns, strict=True)
            ]
        except (IndexError, TypeError):
            raise Damage("damaged: 'places' in its header names a text that is not there") from None
        rows = self.rows("places", PLACE_TYPES, zip(*table, strict=True))
        self.rows("pcs", (NUMBER,), zip(pcs, strict=True))
        return {pc: Place(*row) for pc, row in zip(pcs, rows, strict=True)}

    def sections(self, words: int) -> list[tuple[Any, ...]]:
        rows = self.rows("sections", SECTION_TYPES, self.of_type("sections", list))
        for row in rows:
            if not 0 <= row[5] <= row[6] <= words:
                raise Damage("damaged: a section in its header lies outside of its PCs")
        return rows

    def sources(self) -> dict[str, list[str]]:
        if "sources" not in self.fields:  # the first ones of format 1 had none
            return {}
        sources: dict[str, list[str]] = self.of_type("sources", dict)
        for versions in sources.values():
            if type(versions) is not list or any(type(text) is not str for text in versions):
                raise Damage("damaged: an entry of 'sources' in its header is no list of texts")
        return sources
