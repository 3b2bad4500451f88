"""The namespace's table of devices and the map handle -> device, shared by its processes.

The file ``registry`` is a page of header words and then SLOTS records of 32 words, one for each
device. The handle table is in a file of its own, ``handles.GENERATION``, because it grows; C reads it without
a lock (_handles.h). What a slot means is device.py's affair, except that (slot, sequence) names one
session of one device for ever: a slot's sequence goes on counting when the slot is used again.
"""

from __future__ import annotations

import errno
import os

from . import _recorder, namespace
from .area import Area, Head
from .errors import KcovError
from .filenames import CODEMAP, LOCK, REGISTRY, FileName, area_name, is_own, table_name
from .namespace import this_process, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from .namespace import Lock, Namespace

__all__ = ["Header", "Mode", "Registry", "Word", "get", "mode_name", "session_key", "split_key"]

MAGIC = 0x766F636B79700001
_LAYOUT = 4
_PAGE = 4096
SLOTS = 1024
SLOT_WORDS = 32
_SIZE = _PAGE + SLOTS * SLOT_WORDS * 8
_FIRST_ENTRIES = 1024
_ENTRY_BYTES = 16


class Header:
    """Words of the header. 2, 3 and 4 are known to _handles.h by number."""

    MAGIC = 0
    LAYOUT = 1
    COUNT = 2  # handles in the table
    VERSION = 3  # odd while a writer is at work
    GENERATION = 4
    NEXT_FILE = 5
    NEXT_PC = 6
    GROWING = 7  # the table of this generation is being filled; that of the one before is whole
    SECRET = 8  # and the word behind it: what the namespace's processes sign with, random


class Mode:
    """The mode of a device, the patch's ``enum kcov_mode``."""

    FREE = 0  # the slot is nobody's
    DISABLED = 1
    INIT = 2
    TRACE_PC = 3
    TRACE_CMP = 4
    NAMES = ("FREE", "DISABLED", "INIT", "TRACE_PC", "TRACE_CMP")


def mode_name(mode: int) -> str:
    """Return the name of a mode, whatever the word has."""
    return Mode.NAMES[mode] if mode < len(Mode.NAMES) else f"damaged({mode})"


class Word:
    """Words of a slot, the patch's ``struct kcov``. The device's lock protects them."""

    MODE = 0
    SEQUENCE = 1  # moves each time the device is disabled
    SIZE = 2  # of the area, in words
    REMOTE = 3  # collecting from remote sections
    REMOTE_SIZE = 4  # of a section's area, in words
    OWNER_TASK = 5  # serial of the task that enabled it, 0 for none
    OWNER_PID = 6
    OWNER_STARTED = 7
    DROPPED = 8  # events that did not fit; added to without the lock
    FILE = 9  # number of the area's file, 0 for none
    OPENER_PID = 10
    OPENER_STARTED = 11
    HANDLES = 12  # how many are registered
    COMMON_HANDLE = 13
    SERIAL = 14  # unlike that of any other device that had the slot
    DRAINED = 15  # its process empties a full area: full ones of other processes are parked
    JOINED = 16  # how many other processes had sections in this session
    EXCLUSIVE = 17  # its sections rest while another exclusive device's is open in the same task
    # These go on counting when the slot is used again:
    PARKING = 18  # how many areas other processes have begun to park ...
    PARKED = 19  # ... and have parked
    LOCK = 20  # who has the device's lock: the byte of the file ``lock`` that it holds while it lives; 0 for nobody


def bump(words: memoryview, index: int) -> int:
    """Add one to a word, staying below 2^48 whatever was in it; return what it is now."""
    words[index] = (words[index] + 1) & 0xFFFF_FFFF_FFFF
    return int(words[index])


def session_key(slot: int, sequence: int) -> int:
    """Return the number that names one session of one device, as the handle table has it."""
    return (sequence << 16 | slot) & (2**64 - 1)


def split_key(key: int) -> tuple[int, int]:
    """Return ``(slot, sequence)``; the slot is in range whatever the key."""
    return (key & 0xFFFF) % SLOTS, key >> 16


class Registry:
    """The registry of a namespace, mapped. Raises KcovError EUCLEAN if its file is damaged."""

    def __init__(self, space: Namespace) -> None:
        self.namespace = space
        with space.registry_lock:
            self._map = self._open()
            self._words = words_of(self._map)
            self.header = self._words[: _PAGE // 8]
            self._entries = self._map_table()
        self._device_locks: dict[int, Lock] = {}

    def _open(self) -> mmap.mmap:
        try:
            found = self.namespace.map(REGISTRY, _SIZE)
        except FileNotFoundError:
            return self._create()
        with words_of(found) as words:
            if words[Header.MAGIC] != MAGIC or words[Header.LAYOUT] != _LAYOUT:
                raise self.namespace.damaged(REGISTRY, "not a registry of this version of pykcov")
        return found

    def secret(self) -> bytes:
        """Return 16 bytes that only the namespace's user can know."""
        return bytes(self.header[Header.SECRET : Header.SECRET + 2])

    def _create(self) -> mmap.mmap:
        for name in self.namespace.names():
            # Who has asked for a place before the first device was opened has the code map open.
            if name not in (LOCK, CODEMAP) and is_own(name):
                self.namespace.unlink(name)
        self.namespace.create(table_name(0), _FIRST_ENTRIES * _ENTRY_BYTES).close()
        made = self.namespace.create(REGISTRY, _SIZE)
        with memoryview(made).cast("Q") as words:
            words[Header.LAYOUT] = _LAYOUT
            words[Header.NEXT_FILE] = 1
            for i in range(2):
                words[Header.SECRET + i] = int.from_bytes(os.urandom(8), "little")
            words[Header.MAGIC] = MAGIC
        return made

    def _map_table(self) -> memoryview:
        generation = self.header[Header.GENERATION]
        try:
            table = self.namespace.map(table_name(generation), _FIRST_ENTRIES * _ENTRY_BYTES)
            entries = words_of(table)
            _recorder.map_table(self.header, entries)
        except (FileNotFoundError, ValueError) as error:
            raise self.namespace.damaged(table_name(generation), str(error)) from None
        return entries

    def slot(self, number: int) -> memoryview:
        """Return the words of a slot (format ``Q``); the slot's lock protects them."""
        start = _PAGE // 8 + number * SLOT_WORDS
        return self._words[start : start + SLOT_WORDS]

    def device_lock(self, number: int) -> Lock:
        """Return the lock that guards the device in slot ``number``: mode, owner, sequence, area."""
        lock = self._device_locks.get(number)
        if lock is None:
            made = self.namespace.make_lock(self.slot(number)[Word.LOCK :], f"device {number}")
            lock = self._device_locks.setdefault(number, made)
        return lock

    def forget_locks(self) -> None:
        """Make locks anew, in a forked child: those that there are may be held by its parent's threads."""
        self._device_locks.clear()

    def used_slots(self) -> list[int]:
        """Return the numbers of the slots that have a device."""
        return [number for number, mode in enumerate(self._modes()) if mode != Mode.FREE]

    def _modes(self) -> list[int]:
        return self._words[_PAGE // 8 + Word.MODE : _SIZE // 8 : SLOT_WORDS].tolist()

    def claim(self) -> int:
        """Take a free slot, mode DISABLED, opened by this process; its sequence goes on counting.

        What dead processes had is given back. Raises KcovError EMFILE if all SLOTS are taken by live ones.
        """
        with self.namespace.registry_lock:
            for number in self.used_slots():
                self.reap(number)
            modes = self._modes()
            if Mode.FREE in modes:
                free = modes.index(Mode.FREE)
                words = self.slot(free)
                sequence = bump(words, Word.SEQUENCE)
                words[: Word.PARKING] = memoryview(bytes(8 * Word.PARKING)).cast("Q")
                words[Word.SEQUENCE] = sequence
                words[Word.OPENER_PID], words[Word.OPENER_STARTED] = this_process()
                words[Word.MODE] = Mode.DISABLED
                return free
        raise KcovError(errno.EMFILE, f"open: {SLOTS} devices are open in {self.namespace.path}")

    def is_used(self, words: memoryview) -> bool:
        """Tell whether a process that opened or enabled the device of this slot is alive."""
        is_alive = self.namespace.is_alive
        return is_alive(words[Word.OPENER_PID], words[Word.OPENER_STARTED]) or is_alive(
            words[Word.OWNER_PID], words[Word.OWNER_STARTED]
        )

    @staticmethod
    def listener(words: Sequence[int]) -> tuple[int, int]:
        """Return the process that enabled the device of this slot, as this_process() names it."""
        if words[Word.OWNER_PID]:
            return words[Word.OWNER_PID], words[Word.OWNER_STARTED]
        return words[Word.OPENER_PID], words[Word.OPENER_STARTED]  # a collect() has no owner

    def is_deserted(self, words: memoryview) -> bool:
        """Tell whether the process that enabled the device of this slot is dead: kcov_task_exit of all its tasks."""
        return not self.namespace.is_alive(*self.listener(words))

    def reap(self, number: int) -> None:
        """Take from dead processes what they had: the device, or if another one has it open, the handles."""
        with self.namespace.registry_lock:
            words = self.slot(number)
            if not self.is_used(words):
                self.release(number)
            elif words[Word.HANDLES] and self.is_deserted(words):
                # Who has it open finds it so, and resets it.
                self.remove_all(number)

    def release(self, number: int) -> None:
        """Free a slot with its handles and its area's file."""
        with self.namespace.registry_lock:
            words = self.slot(number)
            if words[Word.HANDLES]:
                self.remove_all(number)
            if words[Word.FILE]:
                self.namespace.unlink(area_name(words[Word.FILE]))
            bump(words, Word.SEQUENCE)
            words[Word.MODE] = Mode.FREE

    def next_file(self) -> int:
        """Return a number that no other file of the namespace has."""
        with self.namespace.registry_lock:
            taken = set(self.namespace.names())
            while area_name(number := bump(self.header, Header.NEXT_FILE)) in taken:
                pass  # somebody spoilt the word
            return number

    # -- handles

    def find(self, handle: int) -> int | None:
        """Return the session that enabled ``handle``, as a key; None if nobody did.

        C asks here when another process has made the table grow, or died while it changed it.
        """
        with self.namespace.registry_lock:
            self._settle()
        return _recorder.find(handle)

    def add(self, number: int, handles: tuple[int, ...]) -> int | None:
        """Register handles for the device in slot ``number``, all or none.

        Returns None, or the first handle that is in use (also: twice in ``handles``).
        """
        with self.namespace.registry_lock:
            self._settle()
            self._make_room(len(handles))
            words = self.slot(number)
            key = session_key(number, words[Word.SEQUENCE])
            # Before: who is killed in here has handles that must be found.
            words[Word.HANDLES] = len(handles)
            taken = _recorder.insert(handles, key)
            while taken is not None and self._reap(taken):
                taken = _recorder.insert(handles, key)
            if taken is not None:
                words[Word.HANDLES] = 0
            return taken

    def first_taken(self, handles: tuple[int, ...]) -> int | None:
        """Return the first of ``handles`` that add() would refuse, None if there is none."""
        seen = set()
        for handle in handles:
            if handle in seen or self.find(handle) is not None:
                return handle
            seen.add(handle)
        return None

    def remove(self, number: int, handles: tuple[int, ...]) -> None:
        """Take back handles of the device in slot ``number``."""
        with self.namespace.registry_lock:
            self._settle()
            words = self.slot(number)
            _recorder.remove(handles, session_key(number, words[Word.SEQUENCE]))
            words[Word.HANDLES] = 0

    def remove_all(self, number: int) -> None:
        """Take back all handles of a slot whose owner is gone and cannot say which."""
        with self.namespace.registry_lock:
            self._settle()
            key = session_key(number, self.slot(number)[Word.SEQUENCE])
            self.remove(number, self.handles().get(key, ()))

    def handles(self) -> dict[int, tuple[int, ...]]:
        """Return all handles, by the key of the session that has them."""
        self._settle()
        table = self._entries.tolist()
        found: dict[int, list[int]] = {}
        for handle, key in zip(table[::2], table[1::2], strict=False):
            if handle:
                found.setdefault(key, []).append(handle)
        return {key: tuple(handles) for key, handles in found.items()}

    def stale_files(self) -> list[str]:
        """Return the names of files that no live process needs."""
        needed = {LOCK, REGISTRY, CODEMAP, table_name(self.header[Header.GENERATION])}
        for number in self.used_slots():
            words = self.slot(number)
            if self.is_used(words):
                needed.add(area_name(words[Word.FILE]))
        return [
            name
            for name in self.namespace.names()
            if name not in needed and not self.is_needed(name)
        ]

    def is_needed(self, name: str) -> bool:
        """Tell whether a section's file is a live process's, or has what a live session has not taken yet."""
        file = FileName.parse(name)
        if file is None:
            return False
        key = file.key
        if not key:
            if self.namespace.is_alive(file.pid, file.started):
                return True
            try:
                key = Area(self.namespace, name).head[Head.DEVICE]
            except (KcovError, OSError):
                return False
        return self.is_current(key)

    def is_current(self, key: int) -> bool:
        """Tell whether a session is not over, and who enabled it is alive."""
        number, sequence = split_key(key)
        words = self.slot(number)
        return (
            words[Word.SEQUENCE] == sequence
            and bool(words[Word.REMOTE])
            and not self.is_deserted(words)
        )

    def sweep(self) -> list[str]:
        """Remove the files that no live process needs, and return their names."""
        with self.namespace.registry_lock:
            stale = self.stale_files()
            for name in stale:
                self.namespace.unlink(name)
        return stale

    def _reap(self, handle: int) -> bool:
        """Take ``handle`` from who had it enabled if that process is dead."""
        key = _recorder.find(handle)
        if key is None:
            return False
        number, sequence = split_key(key)
        if self.slot(number)[Word.SEQUENCE] != sequence:  # of a session that is over: nobody's
            _recorder.remove((handle,), key)
        self.reap(number)
        return _recorder.find(handle) is None

    def _settle(self) -> None:
        """Follow another process that made the table grow; end what a dead writer began."""
        header = self.header
        if header[Header.GROWING]:
            header[Header.GENERATION] = (header[Header.GENERATION] - 1) & 0xFFFF_FFFF_FFFF
            header[Header.GROWING] = 0
            self._entries = self._map_table()
            header[Header.COUNT] = sum(map(bool, self._entries.tolist()[::2]))
        if header[Header.VERSION] & 1:
            # We hold the lock, so the writer is dead. What it had changed is whole or shadowed: an
            # entry moved but not yet cleared is there twice with the same value.
            bump(header, Header.VERSION)
        if header[Header.GENERATION] != self._generation():
            self._entries = self._map_table()

    def _generation(self) -> int:
        return _recorder.generation()

    def _make_room(self, more: int) -> None:
        """Keep the table at most half full: a new file of twice the size, then a new generation."""
        header = self.header
        have = len(self._entries) // 2
        need = 2 * (min(header[Header.COUNT], have) + more)
        if need <= have:
            return
        while have < need:
            have *= 2
        by_session = self.handles()
        old = header[Header.GENERATION]
        generation = (old + 1) & 0xFFFF_FFFF_FFFF
        self.namespace.unlink(table_name(generation))
        self.namespace.create(table_name(generation), have * _ENTRY_BYTES).close()
        header[Header.VERSION] |= 1
        header[Header.GROWING] = 1
        header[Header.GENERATION] = generation
        self._entries = self._map_table()
        for key, handles in by_session.items():
            _recorder.insert(handles, key)
        # Never 0 meanwhile: that says, without a further look, that nobody listens.
        header[Header.COUNT] = sum(map(len, by_session.values()))
        header[Header.GROWING] = 0
        if header[Header.VERSION] & 1:
            bump(header, Header.VERSION)
        self.namespace.unlink(table_name(old))


_current: Registry | None = None


def get() -> Registry:
    """Return the registry of this process's namespace, opening it the first time."""
    global _current
    if _current is None:
        with namespace.opening:
            if _current is None:
                _current = Registry(namespace.get())
    return _current


def current() -> Registry | None:
    """Return the registry if this process has opened it."""
    return _current


def _leave() -> None:
    global _current
    if _current is not None:
        _recorder.unmap_table()
        _current = None


def _after_fork() -> None:
    if _current is not None:
        _current.forget_locks()


namespace.at_exit(_leave)
namespace.in_child(_after_fork)
