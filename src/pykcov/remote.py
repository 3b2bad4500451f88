"""Remote sections: remote_start, remote_stop, and the move of a section's words into its device.

A section records into an area of its own and its words move to its device's area when it stops, under
the device's lock, if the device has not been disabled since (the sequence). Sections nest: each has its own
sink in the task, so an event goes to all of them; two sections of one device in one task are one.
"""

from __future__ import annotations

import time
from errno import ETIMEDOUT, EUCLEAN

from . import _recorder, abi, namespace, probes, registry, task
from ._recorder import remote
from .area import Area, Head, Pool
from .errors import KcovError, contain, is_own, log, warn
from .filenames import REGISTRY, FileName, area_name
from .late import load
from .registry import Mode, Word
from .scope import Scope
from .task import CommonHandle, Task, quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Section", "Session", "remote", "remote_start", "remote_stop"]

# Records of a section's area that is emptied when it is full: a hundred of them fit into a cache.
_DRAINED = 1 << 12

# How long a process that listens is not asked again whether it lives, in s: it takes longer to end and be waited for.
_TRUST = 0.001


class Session(_recorder.Session):
    """What this process knows of one session of one device: where a section's words go."""

    __slots__ = (
        "mode", "registry", "scope", "slot", "slot_number"
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
        self.slot_number, _ = registry.split_key(key)
        self.slot = slot = self.registry.slot(self.slot_number)
        self.mode = mode = abi.TRACE_CMP if slot[Word.MODE] == Mode.TRACE_CMP else abi.TRACE_PC
        self.scope = scope
        listener = self.registry.listener(slot)
        is_here = is_own or listener == namespace.this_process()
        self.listener = 0 if is_here else namespace.alive_byte(*listener)
        size = slot[Word.REMOTE_SIZE]
        if drain is not None and not kernel:  # a system call has many PCs
            size = min(size, _DRAINED * abi.RECORD_WORDS[mode])
        self.bind(
            key,
            slot,
            device_area,
            self.registry.device_lock(self.slot_number),
            _pool(),
            (size, mode),
            drain,
            is_own,
            mode == abi.TRACE_CMP,
            branch,
            kernel,
            bool(slot[Word.EXCLUSIVE]),
            bool(slot[Word.DRAINED]),
        )

    def may_wait(self) -> bool:
        """Tell whether a program that inherits this has nothing to do before code of no library is executed."""
        return (
            self.mode == abi.TRACE_PC
            and not self.kernel
            and not self.scope.has_library()
            and not any(map(self.scope.contains, ("<string>", "<stdin>")))
        )

    def find_bit(self) -> int:
        """Return the scope's bit in this process's units and sinks. Called by C. Raises what probes.bit() does."""
        return probes.bit(self.scope, branch=self.branch, mode=self.mode)

    def say_over(self, area: Area) -> None:
        """Say that what a section has recorded is nobody's any more. Called by C."""
        log.debug("section of %#x is dropped: its device was disabled", area.head[Head.HANDLE])

    def is_listening(self) -> bool:
        """Tell whether somebody listens; what a process had that has died meanwhile is given back."""
        if self.is_trusted():
            return True
        if self.is_over():
            return False
        if self.registry.namespace.is_held(self.listener):
            self.trusted = time.monotonic() + _TRUST
            return True
        self.registry.reap(self.slot_number)
        return False


class Section(_recorder.Section):
    """An open section of one task: what happens seldom in one."""

    __slots__ = ()

    def enter_kernel(self) -> None:
        """Collect what the kernel does in this thread, too. Called by C, before the sink is attached."""
        self.kernel = load("pykcov.linux.threads").enter(self)

    def take_turns(self) -> None:
        """Let the innermost of the task's exclusive sections record, and the others rest. Called by C."""
        inner = True
        for section in reversed(self.task.sections):
            if section.session.exclusive:
                section.sink.scope = section.scope_bit if inner else 0
                inner = False

    def arm(self) -> None:
        """See to it that events come. Called by C, after the sink was attached."""
        probes.arm(self.session.mode, self.session.scope, follow=self.implicit)

    def flush(self) -> None:
        """Move what was recorded so far into the device. The section goes on."""
        area = self.area
        is_new = area.words[0] or area.head[Head.LOST] != area.head[Head.TOLD]
        # In order: what was recorded later must not come before what waits.
        if is_new and not self.has_parked:
            self.session.take(area, False)

    def make_room(self) -> None:
        """Empty the section's area into the device's, or park it, in the middle of the section."""
        try:
            if self.session.is_own:
                with self.session.lock:
                    # Else another thread has ended it meanwhile.
                    if self.depth > 0 and self.session.take(self.area, False):
                        self.area.words[0] = self.area.head[Head.MOVED] = 0
            elif not self.session.is_over():
                self._move_on()
        except OSError as error:  # what follows is counted as dropped
            if not is_own(error):
                raise
            log.debug("section of %#x is full: %s", self.handle, error)

    def _move_on(self) -> None:
        """Park the area, and record into another one. Another thread may end the section meanwhile."""
        session, full, turn = self.session, self.area, self.turn
        fresh, following = session.get_area(), self.sink.next_turn()
        file = FileName.parse(full.name)
        assert file is not None
        _recorder.begin_section(
            session, fresh, self.handle, self.task.serial, file.number, full.head[Head.BEGAN]
        )
        # Before it does: a signal handler may raise as soon as it has. Who ends the section in between does nothing.
        buffers = fresh.words, fresh.lost, fresh.operands  # a property: it may raise there, too
        self.area, self.turn = fresh, following
        if self.sink.move_on(turn, following, *buffers):
            self._park(full)
            if self.depth <= 0:
                self.finish()
        else:
            self.area, self.turn = full, turn
            fresh.head[Head.DEVICE] = 0
            session.put_area(fresh)

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

    def rescue(self, area: Area, error: BaseException | None) -> None:
        """Park what the device cannot take now, or count it as dropped. Called by C, at the section's end."""
        problem = error
        if error is not None and not is_own(error):
            raise error
        if error is None or (isinstance(error, KcovError) and error.errno == ETIMEDOUT):
            log.debug("section of %#x is parked: %s", self.handle, error)
            if self.is_settled:
                return
            try:
                self._park(area)
                self.is_settled = True
                return
            except OSError as refused:
                if not is_own(refused):
                    raise
                problem = refused
        head = area.head
        lost = area.words[0] - head[Head.MOVED] + head[Head.LOST] - head[Head.TOLD]
        _recorder.add(self.session.slot[Word.DROPPED :], lost)
        namespace.warn(f"remote_stop: {lost} events of a section are dropped: {problem}")


_sessions: dict[int, Session] = {}
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
    handle: int, key: int, owner: Task | None = None, implicit: bool = False
) -> Section | None:
    """Open a section of the session ``key`` in the current task (``owner``); None if it is over. Never raises.

    Called by C, too, where it does not know the session, or something has to be done first.
    """
    handle = int.__index__(handle)
    try:
        session = _sessions.get(key)
        if session is None and (session := _join(key)) is not None:
            log.debug("remote_start: handle %#x, device %d", handle, session.slot_number)
        if session is None or not session.is_listening():
            return None
        owner = owner or task.current()
        section: Section
        for section in owner.sections:
            if section.session is session:
                section.depth += 1
                return section
        before = len(owner.sections)
        try:
            section = _recorder.begin(session, handle, owner, implicit)
            return section
        except BaseException:  # a signal handler's, when it has begun: nobody would end it
            for section in owner.sections[before:]:
                section.finish()
            raise
    except OSError as error:
        if not is_own(error):
            raise
        namespace.warn(f"remote_start: handle {handle:#x}: nothing is collected: {error}")
        return None


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


def enter_all(found: _recorder.Inherited | None, *, following: bool = False) -> Sequence[Section]:
    """Open a section for each common handle in force that came with a piece of work.

    With ``following`` only for those that collect all who inherit them, as collect()'s does.
    """
    with quiet:
        opened = (
            enter(i.handle, i.device, implicit=True)
            for i in task.chain(found)
            if i.follow or not following
        )
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
    except OSError as error:
        if not is_own(error):
            raise
        _unusable = error.errno != ETIMEDOUT  # a lock is free again one day
        namespace.warn(f"remote_start: nothing can be collected in this process: {error}")
        return None


_unusable = False


def _after_fork() -> None:
    """In a forked child: what is open is the parent's, but the child inherits."""
    global _the_pool
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


_recorder.install(enter=enter, find=_find, warn=warn, sessions=_sessions, section=Section)
namespace.in_child(_after_fork)
namespace.at_exit(_at_exit)
