"""Buffers of 64-bit words in shared memory, and the pool of those that sections record into.

An area's file is a header and then the words: word 0 is the count, the records follow. Behind the words are section
records, and for TRACE_CMP a table of the operands that do not fit into a word. Files are made at their full size,
mapped and touched once, and used again, because the first touch of a page of shared memory costs more than
filling it.
"""

from __future__ import annotations

from . import _recorder
from .abi import TRACE_CMP, TRACE_PC, capacity
from .filenames import FileName
from .namespace import this_process, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .namespace import Namespace

__all__ = ["Area", "Head", "Pool"]

MAGIC = 0x766F636B79700002
_PAGE = 4096
_META = 1024  # byte of the header where the description begins


class Head:
    """Words of an area's header. _areas.h knows those that move with a section."""

    MAGIC = 0
    BYTES = 1  # of the header itself: where the words begin
    SIZE = 2  # words
    LOST = 3  # events that did not fit in this area
    RECORDS = 4  # how many section records the file has room for, behind the words
    RECORDED = 5  # how many were made
    PID = 6  # the process that writes here
    STARTED = 7
    DEVICE = 8  # whose section's this is: its session's key, 0 for none
    HANDLE = 9
    MOVED = 10  # records of this area that are in the device's already
    META = 11  # bytes of the description
    TOLD = 12  # of the lost, those that the device has counted
    MOVING = 13  # while records are moved: 1 + the device's count before, 0 else
    MOVED_THEN = 14  # what MOVED will be when they are
    TID = 15
    TASK = 16  # serial of the task, in its process
    BEGAN = 17  # ns, of time.monotonic_ns()
    THREAD = 18  # its name, UTF-8: 64 bytes
    AFTER = 26  # number of the area that the section filled before this one, 0 for none
    OPEN = 27  # 1 + number of the section record that is being written, 0 for none
    OPERANDS = 28  # bytes of the table of operands, 0 for none
    MODE = 29  # of what was last recorded here: TRACE_PC or TRACE_CMP


# Words of one section record: handle, pid, tid, task, start, end, began, ended, 64 bytes of the thread's name.
RECORD_WORDS = 16

# The table of operands begins with the number of its bytes in use, and of those that were taken out of it.
_OPERANDS_HEAD = 16


def _operand_bytes(size: int) -> int:
    """Return the size of the table of operands beside ``size`` words: as much again, and a record in any case."""
    return max(8 * size, _PAGE)


class Area(_recorder.Area):
    """One buffer of ``size`` words, and what its header says.

    ``words`` is the buffer, format ``Q``; ``head`` are the words of the header (Head); ``mapped_words`` is how
    many words this process has mapped for records and operands.
    """

    __slots__ = (
        "_map", "_operands", "head", "lost", "name", "namespace", "record_room", "records", "size", "words",
    )  # fmt: skip

    def __init__(self, namespace: Namespace, name: str, *, at_least: int = _PAGE) -> None:
        """Map an area that is there. Raises KcovError EUCLEAN if it is not one."""
        self._bind(namespace, name, namespace.map(name, at_least))

    @classmethod
    def create(
        cls,
        namespace: Namespace,
        name: str,
        size: int,
        *,
        records: int = 0,
        about: bytes = b"",
        mode: int = TRACE_PC,
    ) -> Area:
        """Make an area of ``size`` words with room for ``records`` section records.

        In ``mode`` TRACE_CMP it has a table of operands. ``about`` is kept in the header.
        Raises KcovError ENOMEM if there is no space.
        """
        header = -(-(_META + len(about)) // _PAGE) * _PAGE
        operands = _operand_bytes(size) if mode == TRACE_CMP else 0
        made = namespace.create(name, header + 8 * (size + records * RECORD_WORDS) + operands)
        with memoryview(made).cast("Q") as words:
            words[Head.BYTES] = header
            words[Head.SIZE] = size
            words[Head.RECORDS] = records
            words[Head.PID], words[Head.STARTED] = this_process()
            words[Head.META] = len(about)
            words[Head.OPERANDS] = operands
            words[Head.MODE] = mode
            words[Head.MAGIC] = MAGIC
        made[_META : _META + len(about)] = about
        self = cls.__new__(cls)
        self._bind(namespace, name, made)
        return self

    def make_sink(self, mode: int) -> None:
        """Let tasks record into the area, one after the other: ``sink`` is for that."""
        self.sink = _recorder.Sink(self.words, capacity(self.size, mode), self.lost, self.operands)

    def _bind(self, namespace: Namespace, name: str, mapped: Any) -> None:
        self.namespace = namespace
        self.name = name
        self._map = mapped
        every = words_of(mapped)
        start, self.size = every[Head.BYTES] // 8, every[Head.SIZE]
        end = start + self.size + every[Head.RECORDS] * RECORD_WORDS
        last = end + every[Head.OPERANDS] // 8
        if every[Head.MAGIC] != MAGIC or start < _PAGE // 8 or self.size < 1 or last > len(every):
            raise namespace.damaged(name, "not an area")
        if every[Head.OPERANDS] and 8 * (last - end) < _PAGE:
            raise namespace.damaged(name, "its table of operands is too small")
        self.head = every[: _PAGE // 8]
        self.lost = self.head[Head.LOST :]
        self.words = every[start : start + self.size]
        self.records = every[start + self.size : end]
        self._operands = every[end:last]
        self.mapped_words = self.size + len(self._operands)
        self.bind(self.words, self.head, self.records, self._operands)
        # The word in the header may be damaged later.
        self.record_room = len(self.records) // RECORD_WORDS

    @property
    def about(self) -> bytes:
        """The description in the header."""
        end = min(_META + self.head[Head.META], self.head[Head.BYTES], len(self._map))
        return bytes(self._map[_META:end])

    @property
    def operands(self) -> memoryview:
        """The table of operands, format ``Q``; empty if it has none. Raises KcovError EUCLEAN if it should have."""
        if not self._operands and self.head[Head.OPERANDS]:  # another process has added it
            try:
                mapped = self.namespace.map(self.name)
            except FileNotFoundError:
                raise self.namespace.damaged(self.name, "it has been removed") from None
            self._bind(self.namespace, self.name, mapped)
        return self._operands

    def add_operands(self) -> None:
        """Give the area a table of operands if it has none. Raises KcovError ENOMEM if there is no space."""
        if not self.head[Head.OPERANDS]:
            more = _operand_bytes(self.size)
            self.namespace.extend(self.name, len(self._map) + more)
            self.head[Head.OPERANDS] = more

    def read_operands(self) -> bytes:
        """Return the bytes of the table that are in use."""
        table = self.operands
        used = table[0] if self.words[0] else 0
        return bytes(table.cast("B")[_OPERANDS_HEAD : _OPERANDS_HEAD + min(used, table.nbytes)])

    def operands_base(self) -> int:
        """Return from where the records' places in the table count: what was taken out before."""
        return self.operands[1] if self.operands else 0

    def unlink(self) -> None:
        """Remove the file. The memory stays for as long as somebody has it mapped."""
        self.namespace.unlink(self.name)


class Pool(_recorder.Pool):
    """The areas of this process that sections record into; at most 4 Mi words wait for use (_sections.h).

    The kernel's pool never shrinks. Any thread may use it.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._free: dict[tuple[int, int], list[Area]] = {}
        self._numbers = iter(range(1, 1 << 40))  # itertools.count(), which is 20 types
        self._process = this_process()

    def list_of(self, kind: tuple[int, int]) -> list[Area]:
        """Return the list of the areas that wait for use, of a ``kind``: size in words, and mode."""
        return self._free.setdefault(kind, [])

    def create(self, kind: tuple[int, int]) -> Area:
        """Make an area with a sink. Raises KcovError ENOMEM."""
        size, mode = kind
        name = str(FileName(*self._process, next(self._numbers)))
        area = Area.create(self._namespace, name, size, mode=mode)
        area.make_sink(mode)
        return area

    def park(self, area: Area) -> None:
        """Give an area away, to the session whose section has filled it."""
        file = FileName.parse(area.name)
        assert file is not None
        name = str(FileName(file.pid, file.started, file.number, area.head[Head.DEVICE]))
        old = str(FileName(file.pid, file.started, file.number))
        is_again = area.name == name
        # Before: a signal handler may break it off, and then it is done again.
        area.name = name
        try:
            self._namespace.rename(old, name)
        except FileNotFoundError:
            if not is_again:
                area.name = old
                raise

    def clear(self) -> None:
        """Remove the files of all areas, also of those that are in use; not what is parked."""
        for waiting in self._free.values():
            waiting.clear()
        for name in self._namespace.names():
            file = FileName.parse(name)
            if file is not None and not file.key and (file.pid, file.started) == self._process:
                self._namespace.unlink(name)
