"""What is in a namespace, as `pykcov ls` shows it: looked at, not joined.

Nothing is made, locked or written, so nobody who works there waits for a reader. Files are read and not
mapped: one that is cut short under a reader would kill it (SIGBUS). What is read may be half changed or gone a
moment later, and every number is bounded before it is used.
"""

from __future__ import annotations

import os
import time
from array import array
from dataclasses import dataclass

from . import abi, directory, registry
from .area import MAGIC, Head
from .errors import KcovError
from .filenames import LOCK, REGISTRY, FileName, area_name, table_name
from .namespace import Namespace
from .registry import SLOT_WORDS, SLOTS, Header, Mode, Word, mode_name, session_key, split_key

__all__ = ["Listing", "LiveDevice", "OpenSection", "read"]

_PAGE = 4096
_FLAGS = os.O_RDONLY | os.O_NONBLOCK  # a pipe in a file's place must not be waited for
_HEAD_WORDS = Head.THREAD + 8
_TABLE_BYTES = 1 << 28  # more than any handle table has
_TRIES = 20


@dataclass(frozen=True, slots=True)
class LiveDevice:
    """A device of the namespace."""

    number: int
    mode: str
    pid: int  # the process that enabled it, or else opened it
    alive: bool  # whether that process is
    program: str  # its command line, "" if that cannot be read
    handles: tuple[int, ...]
    size: int  # of the area, in words, the count word included
    used: int | None  # words of records in the area, None if there is no area
    capacity: int  # words of records that fit
    damaged: bool  # the area's file is not what pykcov wrote
    dropped: int
    sections: int  # open ones
    waiting: int  # areas that the collector takes at its next read: parked, or of dead processes


@dataclass(frozen=True, slots=True)
class OpenSection:
    """A section's area that is in use.

    ``state``: ``open``; ``over``: its device was disabled meanwhile, and what it has will be dropped; ``parked``: it
    was full and waits; ``left``: its process died; ``damaged``: the file is not what pykcov wrote, and only the
    process is known.
    """

    state: str
    device: int | None
    pid: int
    alive: bool  # whether that process is
    program: str  # its command line, "" if that cannot be read
    handle: int
    records: int
    moved: int  # of the records, those that are in the device's area already
    lost: int  # events that did not fit
    tid: int | None  # None where the device keeps no section records
    thread: str  # its name, "" likewise


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in the namespace at ``path``."""

    path: str
    devices: list[LiveDevice]
    sections: list[OpenSection]


def read() -> Listing:
    """Return what is in the namespace that this process would use. There need not be one.

    Raises KcovError as Namespace and Registry do: EINVAL its name cannot be one; EPERM, ENOTDIR or ELOOP it is not this
    user's alone; EUCLEAN the registry is damaged.
    """
    name = os.environ.get("PYKCOV_NAMESPACE") or "default"
    try:
        space = _Visited(name)
    except FileNotFoundError:
        return Listing(f"{directory.base()}/{name}", [], [])
    try:
        return _Reading(space).listing()
    finally:
        space.close()


class _Visited(Namespace):
    """A namespace that this process does not join. FileNotFoundError if nobody is there."""

    def _attach(self) -> None:
        try:
            self.open_directory(make=False)
            self.keep_lock(self.open(LOCK, _FLAGS))  # is_alive() asks about its bytes
        except BaseException:
            self.close()
            raise


class _Reading:
    """One look at a namespace."""

    def __init__(self, space: Namespace) -> None:
        self._space = space
        self._programs: dict[int, str] = {}

    def listing(self) -> Listing:
        slots, header = self._registry()
        used = [number for number in range(SLOTS) if slots[number][Word.MODE] != Mode.FREE]
        areas = {number: self._device_area(slots[number]) for number in used}
        sections = [
            section
            for name in sorted(self._space.names())
            if (file := FileName.parse(name)) is not None
            and (section := self._section(name, file, slots, areas)) is not None
        ]
        sections.sort(key=lambda s: (s.device is None, s.device or 0, s.pid))
        # After the sections: looking a device's handles up costs more than all of the rest.
        handles = self._handles(header) if used else {}
        devices = [
            self._device(number, slots[number], areas[number], handles, sections) for number in used
        ]
        return Listing(self._space.path, devices, sections)

    def _registry(self) -> tuple[list[array[int]], array[int]]:
        """Return the words of each slot, and the header. Raises KcovError EUCLEAN."""
        for tries in range(_TRIES):
            if tries:
                time.sleep(0.01)  # its maker may be at work
            try:
                found = self._words(REGISTRY, registry._SIZE)
            except FileNotFoundError:
                return [array("Q", bytes(8 * SLOT_WORDS))] * SLOTS, array("Q", bytes(_PAGE))
            if (
                len(found) == registry._SIZE // 8
                and found[Header.MAGIC] == registry.MAGIC
                and found[Header.LAYOUT] == registry._LAYOUT
            ):
                first = _PAGE // 8
                return [
                    found[first + number * SLOT_WORDS : first + (number + 1) * SLOT_WORDS]
                    for number in range(SLOTS)
                ], found[:first]
        raise self._space.damaged(REGISTRY, "not a registry of this version of pykcov")

    def _handles(self, header: array[int]) -> dict[int, tuple[int, ...]]:
        """Return all handles, by the key of the session that has them; those of one moment if that can be had."""
        table = array("Q")
        for _ in range(_TRIES):
            before = header
            try:
                table = self._words(table_name(before[Header.GENERATION]), _TABLE_BYTES)
                header = self._words(REGISTRY, _PAGE)
            except FileNotFoundError:  # there is a new one, or the last process has left
                continue
            if len(header) < _PAGE // 8:
                break
            if header[Header.VERSION] == before[Header.VERSION] and not header[Header.VERSION] & 1:
                break
        found: dict[int, set[int]] = {}
        for handle, key in zip(table[::2], table[1::2], strict=False):
            if handle:
                found.setdefault(key, set()).add(handle)
        return {key: tuple(sorted(handles)) for key, handles in found.items()}

    def _device(
        self,
        number: int,
        words: array[int],
        area: _AreaHead | KcovError | None,
        handles: dict[int, tuple[int, ...]],
        sections: list[OpenSection],
    ) -> LiveDevice:
        mode, size = words[Word.MODE], words[Word.SIZE]
        of_record = abi.RECORD_WORDS[abi.TRACE_CMP if mode == Mode.TRACE_CMP else abi.TRACE_PC]
        capacity = max(size - 1, 0) // of_record * of_record
        pid, started = registry.Registry.listener(words)
        alive = self._space.is_alive(pid, started)
        mine = [section.state for section in sections if section.device == number]
        return LiveDevice(
            number,
            mode_name(mode),
            pid,
            alive,
            self._program(pid) if alive else "",
            handles.get(session_key(number, words[Word.SEQUENCE]), ()),
            size,
            min(area.count * of_record, capacity) if isinstance(area, _AreaHead) else None,
            capacity,
            isinstance(area, KcovError),
            words[Word.DROPPED],
            mine.count("open"),
            mine.count("parked") + mine.count("left"),
        )

    def _device_area(self, words: array[int]) -> _AreaHead | KcovError | None:
        if not words[Word.FILE]:
            return None
        name = area_name(words[Word.FILE])
        try:
            area = self._area(name)
        except FileNotFoundError:
            return None
        except KcovError as error:
            return error
        if area is None or area.words[Head.SIZE] != words[Word.SIZE]:
            return self._space.damaged(name, "not the device's area")
        return area

    def _section(
        self,
        name: str,
        file: FileName,
        slots: list[array[int]],
        areas: dict[int, _AreaHead | KcovError | None],
    ) -> OpenSection | None:
        """Return the section whose area a file is; None if it is nobody's."""
        alive = self._space.is_alive(file.pid, file.started)
        program = self._program(file.pid) if alive else ""
        try:
            area = self._area(name)
        except FileNotFoundError:
            return None
        except KcovError:
            return OpenSection("damaged", None, file.pid, alive, program, 0, 0, 0, 0, None, "")
        key = file.key or (area.words[Head.DEVICE] if area else 0)
        if area is None or not key:  # being made, or waiting in a pool
            return None
        number, _ = split_key(key)
        words = slots[number]
        if session_key(number, words[Word.SEQUENCE]) == key and words[Word.REMOTE]:
            state = "parked" if file.key else "open" if alive else "left"
        elif alive and not file.key:
            state = "over"
        else:
            return None  # stale: `pykcov doctor` shows it
        of_device = areas.get(number)
        # Else the words are those of some earlier section.
        is_recorded = isinstance(of_device, _AreaHead) and of_device.words[Head.RECORDS] > 0
        is_recorded = is_recorded and state != "over"
        head = area.words
        return OpenSection(
            state,
            number,
            file.pid,
            alive,
            program,
            head[Head.HANDLE],
            area.count,
            min(head[Head.MOVED], area.count),
            head[Head.LOST],
            head[Head.TID] if is_recorded else None,
            _name(head[Head.THREAD : Head.THREAD + 8]) if is_recorded else "",
        )

    def _area(self, name: str) -> _AreaHead | None:
        """Return an area's header and count; None if it is being made. Raises KcovError EUCLEAN."""
        fd = self._space.open(name, _FLAGS)
        try:
            data = os.pread(fd, 8 * _HEAD_WORDS, 0)
            length = os.fstat(fd).st_size
            if not any(data):  # the magic number comes last
                return None
            if len(data) < 8 * _HEAD_WORDS:
                raise self._space.damaged(name, f"{len(data)} bytes")
            words = array("Q", data)
            start, size = words[Head.BYTES], words[Head.SIZE]
            if not words[Head.MAGIC]:
                return None
            if (
                words[Head.MAGIC] != MAGIC
                or start < _PAGE
                or start % 8
                or size < 1
                or start + 8 * size > length
            ):
                raise self._space.damaged(name, "not an area")
            count = int.from_bytes(os.pread(fd, 8, start), "little")
            return _AreaHead(words, min(count, size - 1))
        finally:
            os.close(fd)

    def _words(self, name: str, at_most: int) -> array[int]:
        """Return the words of a file, up to a number of bytes."""
        fd = self._space.open(name, _FLAGS)
        try:
            left = min(os.fstat(fd).st_size, at_most)
            data = bytearray()
            while left and (part := os.pread(fd, left, len(data))):
                data += part
                left -= len(part)
        finally:
            os.close(fd)
        return array("Q", bytes(data[: len(data) // 8 * 8]))

    def _program(self, pid: int) -> str:
        if pid not in self._programs:
            self._programs[pid] = _command_line(pid)
        return self._programs[pid]


@dataclass(frozen=True, slots=True)
class _AreaHead:
    words: array[int]
    count: int


def _name(words: array[int]) -> str:
    return words.tobytes().split(b"\0", 1)[0].decode(errors="replace")


def _command_line(pid: int) -> str:
    """Return the command line of a process, the program without its folder; "" if it cannot be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(_PAGE).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return " ".join(os.fsdecode(word) for word in [os.path.basename(words[0]), *words[1:]])
