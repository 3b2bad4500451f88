"""What other processes' sections have recorded for a device of this one: what is parked, what the dead have left."""

from __future__ import annotations

from . import namespace
from .area import Area, Head
from .errors import KcovError, log
from .filenames import FileName
from .registry import Word
from .remote import Session

__all__ = ["gather"]

_PARTS = 1 << 16  # of one section


def gather(session: Session, *, live: bool) -> None:
    """Take what other processes' sections have recorded: what is parked, what the dead have left.

    With ``live`` also what sections that are open have so far. Raises KcovError as take() does.
    """
    space = session.registry.namespace
    me = namespace.this_process()
    with session.lock:
        if not (session.is_own and session.slot[Word.JOINED]):
            return
        session.area.close_section()
        found = [file for name in _names(session) if (file := FileName.parse(name))]
        # What a section has parked comes before what it has now.
        for file in sorted(found, key=lambda f: (not f.key, f.number)):
            if file.key not in (0, session.key):
                continue
            if not file.key and (file.pid, file.started) == me:
                continue
            is_dead = not space.is_alive(file.pid, file.started)
            if file.key or live or is_dead:
                _take_parts(session, file, is_dead=is_dead)


def _names(session: Session) -> list[str]:
    """Return the names of the namespace's files; none is missing that was there all the time."""
    slot, names = session.slot, session.registry.namespace.names
    begun = slot[Word.PARKING]
    is_still = begun == slot[Word.PARKED]
    found = names()
    if not is_still or slot[Word.PARKING] != begun:
        # A file that got its other name while the directory was read may be missing, and has it by now.
        found = [*dict.fromkeys([*found, *names()])]
    return found


def _take_parts(session: Session, file: FileName, *, is_dead: bool) -> None:
    """Take an area that a section has filled or is filling, after those that it filled before."""
    space = session.registry.namespace
    parts: list[tuple[FileName, Area]] = []
    number = file.number
    try:
        while number and len(parts) < _PARTS:
            part = _find_part(session, file, number)
            if part is None:
                break
            parts.append(part)
            number = part[1].head[Head.AFTER]
        for found, area in reversed(parts):
            if area.head[Head.DEVICE] == session.key:
                session.take(area, is_dead)
            if found.key or (is_dead and not session.registry.is_needed(str(found))):
                space.unlink(str(found))
            elif found.number != file.number and not is_dead:
                break  # it is about to be parked, and may have more by then
    except KcovError as error:
        log.debug("gather: %s", error)
        if is_dead and not session.registry.is_needed(str(file)):
            space.unlink(str(file))


def _find_part(session: Session, file: FileName, number: int) -> tuple[FileName, Area] | None:
    """Return one area of a section, by its number; it is parked at most once."""
    parked = FileName(file.pid, file.started, number, session.key)
    for name in (parked, FileName(file.pid, file.started, number), parked):
        try:
            return name, Area(session.registry.namespace, str(name))
        except FileNotFoundError:
            pass
    return None
