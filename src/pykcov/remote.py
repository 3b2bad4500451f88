"""Remote sections: remote_start, remote_stop, and the move of a section's words into its device.

A section records into an area of its own and its words move to its device's area when it stops, under
the device's lock, if the device has not been disabled since (the sequence). Sections nest: each has its own
sink in the task, so an event goes to all of them; two sections of one device in one task are one.
"""

from __future__ import annotations

import sys
import time
from errno import ETIMEDOUT, EUCLEAN

from . import _recorder, abi, namespace, probes, registry, task
from ._recorder import remote
from .area import Area, Head, Pool
from .errors import KcovError, contain, log, warn
from .filenames import REGISTRY, FileName, area_name
from .late import load
from .probes import scopes
from .registry import Mode, Word
from .scope import Scope
from .task import CommonHandle, Task, quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .linux.threads import Thread
    from .namespace import Lock

__all__ = ["Section", "Session", "remote", "remote_start", "remote_stop"]

# Records of a section's area that is emptied when it is full: a hundred of them fit into a cache.
_DRAINED = 1 << 12

# How long a process that listens is not asked again whether it lives, in s: it takes longer to end and be waited for.
_TRUST = 0.001


class Session:
    """What this process knows of one session of one device: where a section's words go."""

    __slots__ = (
        "area", "bit", "branch", "drain", "drained", "dropped", "exclusive", "is_own", "kernel", "key", "kind",
        "listener", "lock", "mode", "pool", "registry", "scope", "scopes", "sections", "sequence", "slot",
        "slot_number", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        key: int,
        device_area: Area,
        scope: Scope,
        *,
        branch: bool,
        is_own: bool,
        kernel: bool = False,
        drain: Callable[[], None] | None = None,
    ) -> None:
        self.registry = registry.get()
        self.key = key
        self.slot_number, self.sequence = registry.split_key(key)
        self.slot = self.registry.slot(self.slot_number)
        self.lock: Lock = self.registry.device_lock(self.slot_number)
        self.dropped = self.slot[Word.DROPPED :]
        self.area = device_area
        self.mode = mode = abi.TRACE_CMP if self.slot[Word.MODE] == Mode.TRACE_CMP else abi.TRACE_PC
        size = self.slot[Word.REMOTE_SIZE]
        if drain is not None and not kernel:  # a system call has many PCs
            size = min(size, _DRAINED * abi.RECORD_WORDS[mode])
        self.kind = (size, mode)  # of the areas that its sections record into
        self.scope = scope
        self.bit, self.scopes = 0, -1  # the scope's bit, of that version of the scopes in use
        self.branch = branch
        self.kernel = kernel
        self.is_own = is_own  # this process enabled the device
        listener = self.registry.listener(self.slot)
        is_here = is_own or listener == namespace.this_process()
        # The byte that it holds while it lives: every section looks. 0: it is this process.
        self.listener = 0 if is_here else namespace.alive_byte(*listener)
        self.trusted = 0.0  # until then it counts as alive, in s of time.monotonic()
        # Makes room in the device's area: only collect() has that, in the process that collects. Others park.
        self.drain = drain
        self.drained = bool(self.slot[Word.DRAINED])
        self.exclusive = bool(self.slot[Word.EXCLUSIVE])
        self.pool = _pool()
        self.sections: dict[Section, None] = {}  # open ones, in order of their start

    def may_wait(self) -> bool:
        """Tell whether a program that inherits this has nothing to do before code of no library is executed."""
        return (
            self.mode == abi.TRACE_PC
            and not self.kernel
            and not self.scope.has_library()
            and not any(map(self.scope.contains, ("<string>", "<stdin>")))
        )

    def get_bit(self) -> int:
        """Return the bit of the scope in this process's units and sinks. Raises what probes.bit() does."""
        if self.scopes != scopes.version:  # to look for a Scope takes longer
            version = scopes.version
            self.bit = probes.bit(self.scope, branch=self.branch, mode=self.mode)
            self.scopes = version
        return self.bit

    def is_over(self) -> bool:
        """Tell whether the device has been disabled, or is not collecting remotely."""
        slot = self.slot
        return slot[Word.SEQUENCE] != self.sequence or not slot[Word.REMOTE]

    def is_listening(self) -> bool:
        """Tell whether somebody listens; what a process had that has died meanwhile is given back."""
        if self.is_over():
            return False
        # To ask is a system call, on which all processes of the namespace meet.
        if not self.listener or (now := time.monotonic()) < self.trusted:
            return True
        if self.registry.namespace.is_held(self.listener):
            self.trusted = now + _TRUST
            return True
        self.registry.reap(self.slot_number)
        return False

    def take(self, source: Area, *, ends: bool = False) -> bool:
        """Move what a section's area has that is not in the device's yet (kcov_move_area).

        With ``ends`` the area is nobody's afterwards: under the lock, else who gathers takes the next section's
        words for this one's. Returns whether that was all; what does not fit and cannot be parked either is counted
        as dropped. Raises KcovError ETIMEDOUT if somebody keeps the device's lock.
        """
        head, area = source.head, self.area
        tables = (area.operands, source.operands) if self.mode == abi.TRACE_CMP else ()
        with self.lock:
            # KCOV_DISABLE could have been called between start and stop.
            if self.is_over():
                log.debug("section of %#x is dropped: its device was disabled", head[Head.HANDLE])
                if ends:
                    head[Head.DEVICE] = 0
                return True
            if area.head[Head.OPEN]:  # of one who was killed
                self.close_section()
            if self.drain is not None and area.head[Head.RECORDED] >= area.record_room:
                self.drain()
            while True:
                left = _recorder.move(
                    area.words, area.head, area.records, source.words, head, self.key, *tables
                )
                if not left or self.drain is None or not area.words[0]:
                    break
                self.drain()
            if left and self.drained and self.drain is None:
                return False
            if left or head[Head.LOST]:
                _recorder.tell(self.dropped, head, left)
            if ends:
                head[Head.DEVICE] = 0
            return True

    def close_section(self) -> None:
        """Let the section record count that was opened last, if words have come since; also for one who was killed."""
        area = self.area
        _recorder.close_section(area.words, area.head, area.records)


class Section:
    """An open section of one task."""

    __slots__ = (
        "area", "depth", "handle", "has_parked", "implicit", "is_settled", "kernel", "process", "scope_bit",
        "session", "sink", "task", "turn",
    )  # fmt: skip

    def __init__(self, session: Session, handle: int, owner: Task, *, implicit: bool) -> None:
        self.session = session
        self.handle = handle
        self.task = owner
        self.implicit = implicit
        self.depth = 1
        self.has_parked = False
        self.is_settled = False
        self.process = _process
        self.scope_bit = bit = session.get_bit()
        self.area = area = session.pool.get(session.kind)
        self.sink = area.sink
        self.turn = area.sink.turn  # before: a signal handler may raise as soon as it is attached
        name = _thread_name(session)
        _recorder.begin_section(area.head, session.key, handle, owner.serial, name, 0, 0)
        self.kernel: Thread | None = None
        owner.begin(self)
        session.sections[self] = None
        if session.kernel:
            self.kernel = load("pykcov.linux.threads").enter(self)
        room = self.make_room if session.drained else None
        owner.attach(self.sink, bit, session.branch, room, session.kernel)
        if session.exclusive:
            self._take_turns()
        probes.arm(session.mode, session.scope, follow=implicit)

    def _take_turns(self) -> None:
        """Let the innermost of the task's exclusive sections record, and the others rest."""
        inner = True
        for section in reversed(self.task.sections):
            if section.session.exclusive:
                section.sink.scope = section.scope_bit if inner else 0
                inner = False

    def flush(self) -> bool:
        """Move what was recorded so far into the device; return whether that was all. The section goes on."""
        return self._move(self.area, ends=False)

    def _move(self, area: Area, *, ends: bool) -> bool:
        if not area.words[0] and area.head[Head.LOST] == area.head[Head.TOLD]:
            return True
        # In order: what was recorded later must not come before what waits.
        return not self.has_parked and self.session.take(area, ends=ends)

    def make_room(self) -> None:
        """Empty the section's area into the device's, or park it, in the middle of the section."""
        try:
            if self.session.is_own:
                with self.session.lock:
                    # Else another thread has ended it meanwhile.
                    if self.depth > 0 and self.session.take(self.area):
                        self.area.words[0] = self.area.head[Head.MOVED] = 0
            elif not self.session.is_over():
                self._move_on()
        except (KcovError, OSError) as error:  # what follows is counted as dropped
            log.debug("section of %#x is full: %s", self.handle, error)

    def _move_on(self) -> None:
        """Park the area, and record into another one. Another thread may end the section meanwhile."""
        session, full, turn = self.session, self.area, self.turn
        fresh, following = session.pool.get(session.kind), self.sink.next_turn()
        file = FileName.parse(full.name)
        assert file is not None
        name = _thread_name(session)
        _recorder.begin_section(
            fresh.head,
            session.key,
            self.handle,
            self.task.serial,
            name,
            file.number,
            full.head[Head.BEGAN],
        )
        # Before it does: a signal handler may raise as soon as it has. Who ends the section in between does nothing.
        self.area, self.turn = fresh, following
        if self.sink.move_on(turn, following, fresh.words, fresh.lost, fresh.operands):
            self._park(full)
            if self.depth <= 0:
                self.finish()
        else:
            self.area, self.turn = full, turn
            fresh.head[Head.DEVICE] = 0
            session.pool.put(session.kind, fresh)

    def _park(self, area: Area) -> None:
        """Give an area away: the process that listens takes it at its next read."""
        self.has_parked = True
        slot = self.session.slot
        _recorder.add(slot[Word.PARKING :], 1)
        try:
            self.session.pool.park(area)
        finally:
            _recorder.add(slot[Word.PARKED :], 1)
        if self.session.is_over():  # nobody will
            area.unlink()

    def leave(self) -> None:
        """One remote_stop(); the last one ends the section."""
        self.depth -= 1
        if self.depth <= 0:
            self.finish()

    def finish(self) -> None:
        """End the section, whoever does it. Not twice; raises only what a signal handler raises."""
        if self.process != _process:
            return
        self.depth = 0  # make_room() may be at work in another thread
        area, turn = self.area, self.turn
        try:
            if self.task.detach(self.sink, turn):
                self._settle(area)
        except BaseException:
            self._settle(area)
            raise

    def abandon(self) -> None:
        """End a section whose beginning was broken off."""
        self.task.detach(self.sink, self.turn)
        self._settle(self.area)

    def _settle(self, area: Area) -> None:
        """Hand over what was recorded last, and give everything back. A signal handler may have broken it off."""
        if self.is_settled:
            return
        session = self.session
        self.task.end(self)
        if session.exclusive:
            self._take_turns()
        session.sections.pop(self, None)
        if self.kernel is not None:
            self.kernel.leave(self)
        head = area.head
        try:
            if not self._hand_over(area):
                if not self.is_settled:
                    self._park(area)
                    self.is_settled = True
                return
        except (KcovError, OSError) as error:
            lost = area.words[0] - head[Head.MOVED] + head[Head.LOST] - head[Head.TOLD]
            _recorder.add(session.dropped, lost)
            namespace.warn(f"remote_stop: {lost} events of a section are dropped: {error}")
        if not self.is_settled:  # by another thread, while this one waited
            head[Head.DEVICE] = 0
            self.is_settled = True
            session.pool.put(session.kind, area)

    def _hand_over(self, area: Area) -> bool:
        try:
            return self._move(area, ends=True)
        except KcovError as error:
            if error.errno != ETIMEDOUT:
                raise
            log.debug("section of %#x is parked: %s", self.handle, error)
            return False


def _thread_name(session: Session) -> bytes | None:
    """Return the name of this thread for a section record; None where there is no room for those."""
    if not session.area.record_room:
        return None
    # A program that has not imported it has no other thread with a name.
    current = getattr(sys.modules.get("threading"), "current_thread", None)
    return b"MainThread" if current is None else str(current().name).encode(errors="replace")


_sessions: dict[int, Session] = {}
_process = 0
_the_pool: Pool | None = None


def _pool() -> Pool:
    global _the_pool
    if _the_pool is None:
        with namespace.opening:
            if _the_pool is None:
                _the_pool = Pool(registry.get().namespace)
    return _the_pool


def add_session(session: Session) -> None:
    """Make a session of this process's own device known: it need not be read from the files."""
    _sessions[session.key] = session


def find_session(key: int) -> Session | None:
    """Return what this process knows of a session, None if nothing."""
    return _sessions.get(key)


def end_session(key: int) -> Session | None:
    """Forget a session whose device is about to be disabled; return it."""
    return _sessions.pop(key, None)


def about(scope: Scope, *, branch: bool, kernel: bool = False) -> bytes:
    """Return what the sections of other processes have to know of a device: the description in its area."""
    kind = (b"branch" if branch else b"lines") + b" kernel" * kernel
    return kind + b"\0" + scope.to_bytes()


def _read_about(text: bytes) -> tuple[bool, bool, Scope]:
    """Return ``(branch, kernel, scope)``. Raises ValueError for what about() has not written."""
    kind, _, scope = text.partition(b"\0")
    events, _, kernel = kind.partition(b" ")
    if events not in (b"branch", b"lines") or kernel not in (b"", b"kernel"):
        raise ValueError(f"what it is for is not there: {kind!r:.100}")
    return events == b"branch", bool(kernel), Scope.from_bytes(scope)


def _join(key: int) -> Session | None:
    """Return a session that this process does not know yet, from the namespace's files; None if it is over."""
    for old in [k for k, s in list(_sessions.items()) if s.is_over() and not s.sections]:
        _sessions.pop(old, None)
    shared = registry.get()
    number, _ = registry.split_key(key)
    slot = shared.slot(number)
    if slot[Word.MODE] not in (Mode.TRACE_PC, Mode.TRACE_CMP):
        return None
    try:
        device_area = Area(shared.namespace, area_name(slot[Word.FILE]))
        branch, kernel, scope = _read_about(device_area.about)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise KcovError(EUCLEAN, f"area of device {number} is damaged: {error}") from None
    session = Session(key, device_area, scope, branch=branch, is_own=False, kernel=kernel)
    _recorder.add(slot[Word.JOINED :], 1)
    # Without the lock, which a stopped process may hold: if this is still the session, it was all the time.
    if session.is_over():
        return None
    if not abi.MIN_SIZE <= session.kind[0] <= abi.MAX_SIZE:
        raise shared.namespace.damaged(REGISTRY, f"areas of {session.kind[0]} words")
    return _sessions.setdefault(key, session)


def enter(
    handle: int, key: int, owner: Task | None = None, *, implicit: bool = False
) -> Section | None:
    """Open a section of the session ``key`` in the current task (``owner``); None if it is over. Never raises."""
    handle = int.__index__(handle)
    try:
        session = _sessions.get(key) or _join(key)
        # Who disables a device of this process's own has made it forget the session before.
        if session is None or (not session.is_own and not session.is_listening()):
            return None
        owner = owner or task.current()
        for section in owner.sections:
            if section.session is session:
                section.depth += 1
                return section
        log.debug("remote_start: handle %#x, device %d", handle, session.slot_number)
        before = len(owner.sections)
        try:
            return Section(session, handle, owner, implicit=implicit)
        except BaseException:  # a signal handler's, too: nobody would end it
            for section in owner.sections[before:]:
                section.abandon()
            raise
    except (KcovError, OSError) as error:
        namespace.warn(f"remote_start: handle {handle:#x}: nothing is collected: {error}")
        return None


def _leave(sections: list[Section], is_idle: bool) -> bool:
    """End the section that a ``with remote(h)`` block of the current task opened.

    ``sections`` are those that the context manager has open, in any task, and ``is_idle`` tells whether it was also
    entered while nobody listened. Returns whether this is the end of one of those.
    """
    owner = _recorder.current_task()
    for i in range(len(sections) - 1, -1, -1):
        if sections[i].task is owner or sections[i].process != _process:
            sections[i].leave()
            del sections[i]
            return False
    if is_idle:
        return True
    warn("remote: the block ends in another task than it began in; its section ends here")
    sections[-1].leave()
    del sections[-1]
    return False


def remote_start(handle: int) -> None:
    """Begin a section: what the current task does until remote_stop() is for who enabled ``handle``.

    ``handle`` is a u64, or what common_handle() returned. If nobody in the namespace enabled it, nothing
    happens, and neither does the matching stop. Sections nest. Never raises: bad input gives a KcovWarning.
    Source: kcov_remote_start of the patch.
    """
    with quiet:
        try:
            key = _recorder.find(handle)
            owner = task.current()
            owner.starts.append(None if key is None else enter(handle, key))
        except Exception as error:
            if not contain(error):
                raise


def remote_stop() -> None:
    """End the section that the latest remote_start() of the current task began.

    Without one: KcovWarning. Source: kcov_remote_stop of the patch.
    """
    with quiet:
        owner: Task | None = _recorder.current_task()  # type: ignore[assignment]
        if owner is None or not owner.starts:
            warn("remote_stop: no remote_start in this task")
            return
        section = owner.starts.pop()
        try:
            if section is not None:
                section.leave()
        except Exception as error:
            if not contain(error):
                raise


def adopt() -> None:
    """Make the current task known. Called when code of it runs that somebody may want."""
    with quiet:
        task.current()


def _follow(owner: Task) -> None:
    """Collect the new current task for every collect() that caused it."""
    # From the outermost on: of exclusive ones the innermost is to record.
    for found in task.chain(_recorder.inherited_var.get()):
        if found.follow:
            enter(found.handle, found.device, owner, implicit=True)


def enter_all(found: _recorder.Inherited | None) -> Sequence[Section]:
    """Open a section for each common handle in force that came with a piece of work."""
    with quiet:
        opened = (enter(i.handle, i.device, implicit=True) for i in task.chain(found))
        return [section for section in opened if section is not None]


def leave_all(sections: Sequence[Section]) -> None:
    """Leave what enter_all() opened."""
    with quiet:
        for section in reversed(sections):
            section.leave()


def _find(handle: object) -> int | None:
    """Look a handle up the slow way: the first time, an int's subclass, or what is no handle."""
    if not isinstance(handle, int):
        # Its repr() is the program's code, and may do anything.
        warn(f"remote_start: a handle is an int, not {type(handle).__name__}")
        return None
    number = int.__index__(handle)  # not what a subclass makes of it
    if not 0 <= number <= abi.MAX_HANDLE:
        warn(f"remote_start: {number:#x} is not a handle: a u64")
        return None
    if not number:
        return None
    key = _find_settled(number)
    if type(handle) is CommonHandle and key != handle.session:
        return None
    return key


def _find_settled(handle: int) -> int | None:
    global _unusable
    if _unusable:
        return None
    try:
        return registry.get().find(handle)
    except (KcovError, OSError) as error:
        _unusable = error.errno != ETIMEDOUT  # a lock is free again one day
        namespace.warn(f"remote_start: nothing can be collected in this process: {error}")
        return None


_unusable = False


def _after_fork() -> None:
    """In a forked child: what is open is the parent's, but the child inherits."""
    global _process, _the_pool
    _process += 1
    _the_pool = None
    _sessions.clear()
    if task.inherited() is not None:
        adopt()


def _at_exit() -> None:
    for session in list(_sessions.values()):
        for section in list(session.sections):
            section.finish()
    if _the_pool is not None:
        _the_pool.clear()


task.follow = _follow
_recorder.install(enter=enter, leave=_leave, adopt=task.current, find=_find)
namespace.in_child(_after_fork)
namespace.at_exit(_at_exit)
