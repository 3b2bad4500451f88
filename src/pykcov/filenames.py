"""What the files of a namespace are called. Who removes them all removes what has such a name, and nothing else."""

from __future__ import annotations

__all__ = ["CODEMAP", "LOCK", "REGISTRY", "FileName", "area_name", "is_own", "table_name"]

LOCK = "lock"
REGISTRY = "registry"
CODEMAP = "codemap"


def table_name(generation: int) -> str:
    """Return the name of a handle table's file."""
    return f"handles.{generation}"


def area_name(file: int) -> str:
    """Return the name of a device's area file."""
    return f"area.{file}"


class FileName:
    """What the name of a file says that sections record into.

    ``section.PID.STARTED.N`` is a pool's. One that its process has given away is *parked*, full of records of the
    session ``key``: ``parked.SLOT.SEQUENCE.PID.STARTED.N``.
    """

    __slots__ = ("key", "number", "pid", "started")

    def __init__(self, pid: int, started: int, number: int, key: int = 0) -> None:
        self.pid = pid
        self.started = started
        self.number = number
        self.key = key

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Return what a name says; None if it is no such name."""
        kind, *words = name.split(".")
        if len(words) != {"section": 3, "parked": 5}.get(kind) or not all(
            word.isascii() and word.isdigit() and len(word) < 20 for word in words
        ):
            return None
        *session, pid, started, number = map(int, words)
        return cls(pid, started, number, session[1] << 16 | session[0] if session else 0)

    def __str__(self) -> str:
        own = f"{self.pid}.{self.started}.{self.number}"
        return (
            f"parked.{self.key & 0xFFFF}.{self.key >> 16}.{own}" if self.key else f"section.{own}"
        )


def is_own(name: str) -> bool:
    """Tell whether pykcov makes files of that name."""
    if name in (LOCK, REGISTRY, CODEMAP) or FileName.parse(name) is not None:
        return True
    kind, _, number = name.partition(".")
    return kind in ("handles", "area") and number.isascii() and number.isdigit()
