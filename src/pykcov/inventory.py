"""What is in a namespace, and clean it: for `pykcov doctor`, which joins it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from . import namespace
from .errors import KcovError
from .registry import Word, get, mode_name, session_key

__all__ = ["DeviceInfo", "Inventory", "clean", "read"]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of the namespace, as `pykcov doctor` shows it."""

    number: int
    mode: str
    owner_pid: int  # the process that enabled it, or else opened it
    alive: bool
    size: int  # words
    handles: tuple[int, ...]
    dropped: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in the namespace."""

    path: str
    devices: list[DeviceInfo]
    stale: list[str]  # names of files that no live process needs


def read() -> Inventory:
    """Return what is in this process's namespace. Raises KcovError as Registry and Namespace do."""
    shared = get()
    devices = []
    with shared.namespace.registry_lock:
        handles = shared.handles()
        for number in shared.used_slots():
            words = shared.slot(number)
            devices.append(
                DeviceInfo(
                    number,
                    mode_name(words[Word.MODE]),
                    shared.listener(words)[0],
                    shared.is_used(words),
                    words[Word.SIZE],
                    handles.get(session_key(number, words[Word.SEQUENCE]), ()),
                    words[Word.DROPPED],
                )
            )
        return Inventory(shared.namespace.path, devices, shared.stale_files())


def clean() -> list[str]:
    """Free devices whose processes are dead, remove stale files, and return their names.

    If the registry itself is damaged, everything goes, unless other processes are using it (KcovError EBUSY).
    """
    try:
        shared = get()
    except KcovError as error:
        if error.errno != errno.EUCLEAN:
            raise
        return namespace.get().empty()
    with shared.namespace.registry_lock:
        for number in shared.used_slots():
            shared.reap(number)
        return shared.sweep()
