"""The device: open, init_trace, mmap, enable, remote_enable, disable, close. The state machine, all of it.

Verbs, states and errors are those of the patch and of Linux 6.1 (docs/kernel-differences.md has the
exceptions). The state is in the registry's slot and belongs to the namespace; only this file changes a mode.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from errno import EBADF, EBUSY, EEXIST, EINVAL, ENOTTY
from typing import TYPE_CHECKING, overload

from . import _recorder, abi, carry, namespace, probes, registry, task
from .abi import TRACE_CMP, TRACE_PC
from .area import Area, Head
from .closing import Closing
from .errors import KcovError, integer, log
from .filenames import area_name
from .gathering import gather
from .namespace import this_process
from .reading import read_area
from .registry import Mode, Word, mode_name
from .remote import Session, about, add_session, end_session, find_session
from .scope import Scope
from .task import Task, quietly
from .trace import Trace

if TYPE_CHECKING:
    import os

    from . import linux

__all__ = ["Device", "open"]

_MAX_RECORDS = 1 << 20  # 128 bytes each

# Who opens devices records, or forks children that do: they would each import it.
probes.prepare()


@overload
def open(path: str | os.PathLike[str], /) -> linux.Device: ...


@overload
def open(
    path: None = None,
    /,
    *,
    source: Iterable[str] = (),
    include: Iterable[str] = (),
    omit: Iterable[str] = (),
    branch: bool = False,
    sections: int = 0,
) -> Device: ...


def open(
    path: str | os.PathLike[str] | None = None,
    /,
    *,
    source: Iterable[str] = (),
    include: Iterable[str] = (),
    omit: Iterable[str] = (),
    branch: bool = False,
    sections: int = 0,
) -> Device | linux.Device:
    """Open a new device; with ``path``, the kernel's: ``/sys/kernel/debug/kcov``.

    The kernel's device has the same verbs (linux.Device) and no options.

    ``source``, ``include``, ``omit`` say which files are recorded, as coverage.py's do. With ``branch`` the arm
    that each branch takes is recorded too. ``sections`` is how many section records the device has
    room for (who recorded what: Trace.sections).
    """
    if path is not None:
        if source or include or omit or branch or sections:
            raise TypeError("open: the kernel's device has no options")
        from . import linux  # ctypes too; few machines have a kcov

        return linux.Device(path)
    return Device(Scope(source, include, omit), branch=branch, sections=sections)


class Device(Closing):
    """One open device: what an open file of ``/sys/kernel/debug/kcov`` is.

    Words are 64 bits. Every verb raises KcovError with the kernel's errno; EBADF once it is closed.
    Use it in a ``with`` statement: its end closes.
    """

    @quietly
    def __init__(
        self, scope: Scope, *, branch: bool = False, sections: int = 0, kernel: bool = False
    ) -> None:
        self._closed = True
        if not 0 <= integer("open", "sections", sections) <= _MAX_RECORDS:
            raise ValueError(f"open: {sections} section records, from 0 to {_MAX_RECORDS}")
        self._registry = registry.get()
        self._scope = scope
        self._branch = branch
        self._kernel = kernel  # sections also collect the kernel's work: for collect()
        self._records = sections
        self._area: Area | None = None
        self._sink: _recorder.Sink | None = None
        self._handles: tuple[int, ...] = ()
        self._inherited: _recorder.Inherited | None = None
        _release_orphans()
        self.number = self._registry.claim()
        self._slot = self._registry.slot(self.number)
        self._file = self._registry.next_file()
        self._slot[Word.SERIAL] = self._file
        self._pid = this_process()[0]
        self._closed = False
        _open_devices[self._file] = self

    def __repr__(self) -> str:
        state = "closed" if self._closed else mode_name(self._slot[Word.MODE])
        return f"<pykcov.Device {self.number} {state}>"

    # -- the verbs

    @quietly
    def init_trace(self, size: int) -> None:
        """Set the size of the area: ``size`` words, 2 ... 2^31/8 - 1.

        Errors: EINVAL bad size, EBUSY already set, ENOMEM no space in shared memory.
        Source: KCOV_INIT_TRACE.
        """
        call = "init_trace"
        self._check_open(call)
        size = integer(call, "size", size)
        if not abi.MIN_SIZE <= size <= abi.MAX_SIZE:
            raise KcovError(
                EINVAL, f"{call}: {size} words: from {abi.MIN_SIZE} to {abi.MAX_SIZE} can be had"
            )
        with self._get_lock():
            self._check_there(call)
            if self._slot[Word.MODE] != Mode.DISABLED:
                raise KcovError(
                    EBUSY, f"{call}: device {self.number} has {self._slot[Word.SIZE]} words already"
                )
            self._area = Area.create(
                self._registry.namespace,
                area_name(self._file),
                size,
                records=self._records,
                about=about(self._scope, branch=self._branch, kernel=self._kernel),
            )
            self._slot[Word.FILE] = self._file
            self._slot[Word.SIZE] = size
            self._slot[Word.MODE] = Mode.INIT

    def mmap(self, length: int | None = None, offset: int = 0) -> memoryview:
        """Return the area, shared memory, as a writable memoryview of ``size`` words (format ``Q``).

        Word 0 is the count. All calls return the same memory, which outlives the device. ``length`` in
        bytes has to be that of the area, ``offset`` 0, else EINVAL; EINVAL before init_trace.
        """
        self._check_open("mmap")
        if not self._has_area():
            raise KcovError(EINVAL, f"mmap: device {self.number} has no area before init_trace")
        area = self._get_area()
        size = 8 * area.size
        if offset or length not in (None, size):
            raise KcovError(
                EINVAL, f"mmap: {length} bytes from {offset}: the area has {size} bytes from 0"
            )
        return area.words[:]

    @quietly
    def enable(self, mode: int = TRACE_PC) -> None:
        """Collect from the calling task, straight into the area.

        ``mode`` is TRACE_PC, or TRACE_CMP for records of 4 words, the operands of comparisons.
        Errors: EINVAL not after init_trace, enabled already, or no such mode; EBUSY this task owns another
        local device; ENOMEM no space for operands. Source: KCOV_ENABLE.
        """
        call = "enable"
        self._check_open(call)
        mode = integer(call, "mode", mode)
        owner = task.current()
        probes.check(mode, self._scope)
        with self._get_lock():
            self._check_init(call)
            if owner.local is not None:
                raise _busy(call, "local", owner.local)
            new_mode = _get_mode(call, mode)
            area = self._prepare_area(mode)
            scope = probes.bit(self._scope, branch=self._branch, mode=mode)
            self._sink = _recorder.Sink(
                area.words,
                abi.capacity(area.size, mode),
                self._slot[Word.DROPPED :],
                area.operands if mode == TRACE_CMP else area.operands[:0],
            )
            self._slot[Word.MODE] = new_mode
            self._set_owner(owner)
        owner.local = self
        owner.own()
        owner.attach(self._sink, scope, self._branch)
        probes.arm(mode, self._scope)

    @quietly
    def remote_enable(
        self,
        *,
        trace_mode: int = TRACE_PC,
        area_size: int,
        handles: Iterable[int] = (),
        common_handle: int = 0,
    ) -> None:
        """Collect from the sections that are annotated with one of the handles.

        Each section records into an area of ``area_size`` words of its own. ``common_handle`` (0: none) becomes
        the calling task's, and is inherited by the tasks that it creates.
        Errors, and then nothing stays registered: EINVAL not after init_trace, enabled already, no such mode,
        more than 0x10000 handles, handle 0, a common handle above 0000ffffffffffff, an area that holds no
        record; EBUSY this task owns another remote device; EEXIST a handle is in use in the namespace.
        Source: KCOV_REMOTE_ENABLE.
        """
        self._check_open("remote_enable")
        asked = tuple(integer("remote_enable", "handle", handle) for handle in handles)
        if len(asked) > abi.KCOV_REMOTE_MAX_HANDLES:
            raise KcovError(
                EINVAL,
                f"remote_enable: {len(asked)} handles, at most {abi.KCOV_REMOTE_MAX_HANDLES}",
            )
        owner = task.current()
        self._remote_enable(
            trace_mode,
            area_size,
            asked,
            integer("remote_enable", "common_handle", common_handle),
            owner,
        )
        owner.remote = self
        owner.own()
        if common_handle:
            self._pass_on(follow=False)

    @quietly
    def disable(self, arg: int = 0) -> None:
        """Stop collecting: the handles are free again, the area keeps what it has.

        Sections that are open are dropped; sync() brings them in before.
        Errors: EINVAL if the calling task does not own the device, or ``arg`` is not 0. Source: KCOV_DISABLE.
        """
        call = "disable"
        self._check_open(call)
        owner = _recorder.current_task()
        if arg != 0:
            raise KcovError(EINVAL, f"{call}: the argument is {arg!r}, not 0")
        if not isinstance(owner, Task) or self not in (owner.local, owner.remote):
            raise KcovError(
                EINVAL, f"{call}: this task does not own device {self.number}: {self._state()}"
            )
        self._disable(owner)

    @quietly
    def ioctl(self, request: int, arg: int | bytes | bytearray | memoryview = 0) -> int:
        """Do what the kernel's request of that number does; return 0.

        ``arg`` is a number, or for KCOV_REMOTE_ENABLE the bytes of ``struct kcov_remote_arg``.
        Errors: the verb's, ENOTTY no such request, EFAULT bytes that end too early.
        """
        call = "ioctl"
        self._check_open(call)
        request = integer(call, "request", request)
        if request == abi.KCOV_REMOTE_ENABLE:
            if isinstance(arg, int):
                raise KcovError(
                    errno.EFAULT, f"{call}: struct kcov_remote_arg is expected, as bytes"
                )
            trace_mode, area_size, handles, common_handle = abi.unpack_remote_arg(arg)
            self.remote_enable(
                trace_mode=trace_mode,
                area_size=area_size,
                handles=handles,
                common_handle=common_handle,
            )
        elif request == abi.KCOV_INIT_TRACE:
            self.init_trace(integer(call, "size", arg))
        elif request == abi.KCOV_ENABLE:
            self.enable(integer(call, "mode", arg))
        elif request == abi.KCOV_DISABLE:
            self.disable(integer(call, "argument", arg))
        else:
            raise KcovError(ENOTTY, f"{call}: {request:#x} is not a request of kcov")
        return 0

    @quietly
    def sync(self) -> None:
        """Bring in what the open sections of all processes have recorded so far; they go on."""
        self._check_open("sync")
        session = find_session(self._key())
        if session is not None:
            for section in list(session.sections):
                section.flush()
            gather(session, live=True)

    @quietly
    def trace(self) -> Trace:
        """Return what is in the area now, with its section records, and what dead processes have left.

        sync() first brings open sections in.

        A record's words are those at the time of its move: they are wrong after a 0 was stored in word 0.
        EINVAL before init_trace.
        """
        self._check_open("trace")
        if not self._has_area():
            raise KcovError(EINVAL, f"trace: device {self.number} has no area before init_trace")
        with self._get_lock():
            session = find_session(self._key())
            if session is not None:
                gather(session, live=False)
            return read_area(self._get_area(), self.dropped)

    @quietly
    def close(self) -> None:
        """Close the device. Closing twice is fine.

        A task that has it enabled goes on collecting into the area until it ends, as with the kernel's.
        """
        if self._closed:
            return
        self._closed = True
        self._release()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    @property
    def dropped(self) -> int:
        """How many events did not fit, in the area or in a section's, since the device was opened."""
        self._check_open("dropped")
        return int(self._slot[Word.DROPPED])

    # -- for collect() and task.py

    def _collect(
        self,
        area_size: int,
        handles: tuple[int, ...],
        mode: int,
        drain: Callable[[], None],
        *,
        exclusive: bool = False,
    ) -> int:
        """Remote-enable for a block of code instead of a task; ``drain`` empties a full area.

        Return the common handle, a number that nobody would choose by hand. In each task only the innermost of the
        ``exclusive`` sections that are open records.
        """
        asked = tuple(integer("collect", "handle", handle) for handle in handles)
        while True:
            chosen = (1 << 46) | int.from_bytes(os.urandom(6), "little") >> 2
            try:
                self._remote_enable(
                    mode, area_size, asked, chosen, None, drain, exclusive=exclusive
                )
                return chosen
            except KcovError as error:
                if error.errno != EEXIST or f"{chosen:#x}" not in str(error):
                    raise

    def _get_area(self) -> Area:
        """Return the area. Must be called after init_trace."""
        assert self._area is not None
        return self._area

    def _prepare_area(self, mode: int) -> Area:
        """Return the area, ready for records of that mode."""
        area = self._get_area()
        if mode == TRACE_CMP:
            area.add_operands()
        area.head[Head.MODE] = mode
        return area

    def _get_lock(self) -> namespace.Lock:
        """Return the lock that guards the device and its area. A forked child's is its own."""
        return self._registry.device_lock(self.number)

    def _key(self) -> int:
        """Return the key of the current session."""
        return registry.session_key(self.number, self._slot[Word.SEQUENCE])

    def _end_collect(self) -> None:
        """Bring in all open sections and disable, whichever task calls."""
        with self._get_lock():
            session = find_session(self._key())
            if session is not None:
                for section in list(session.sections):
                    section.finish()
                gather(session, live=True)
            self._disable(None)

    def _pass_on(self, *, follow: bool) -> task.Token:
        """Make the common handle the current task's; with ``follow``, its children are collected."""
        handle = self._slot[Word.COMMON_HANDLE]
        found = _recorder.Inherited(handle, self._key(), follow, task.inherited())
        self._inherit(found)
        return task.inherit(found)

    def _inherit(self, found: _recorder.Inherited) -> None:
        """Let tasks inherit ``found`` for as long as the device is enabled."""
        carry.install()
        self._inherited = found

    @quietly
    def _task_exit(self, owner: Task) -> None:
        """The owner has ended: as if it had disabled (kcov_task_exit)."""
        self._disable(owner)

    # -- the state machine

    def _remote_enable(
        self,
        trace_mode: int,
        area_size: int,
        handles: tuple[int, ...],
        common_handle: int,
        owner: Task | None,
        drain: Callable[[], None] | None = None,
        *,
        exclusive: bool = False,
    ) -> None:
        call = "remote_enable"
        with self._get_lock():
            self._check_init(call)
            if owner is not None and owner.remote is not None:
                raise _busy(call, "remote", owner.remote)
            mode = _get_mode(call, trace_mode)
            self._check_remote(call, trace_mode, area_size, handles, common_handle)
            every = (*handles, common_handle) if common_handle else handles
            self._prepare_area(trace_mode)
            slot = self._slot
            slot[Word.MODE] = mode
            slot[Word.REMOTE] = 1
            slot[Word.REMOTE_SIZE] = area_size
            slot[Word.COMMON_HANDLE] = common_handle
            slot[Word.DRAINED] = drain is not None
            slot[Word.EXCLUSIVE] = exclusive
            slot[Word.JOINED] = 0
            self._set_owner(owner)
            try:
                add_session(
                    Session(
                        self._key(),
                        self._get_area(),
                        self._scope,
                        branch=self._branch,
                        is_own=True,
                        kernel=self._kernel,
                        drain=drain,
                    )
                )
                taken = self._registry.add(self.number, every)
            except BaseException:
                self._reset()
                raise
            if taken is not None:
                self._reset()
                raise _in_use(call, taken)
            self._handles = every
            log.debug("%s: device %d, %d handles", call, self.number, len(every))

    def _disable(self, owner: Task | None) -> None:
        with self._get_lock():
            session = find_session(self._key())
            if session is not None:
                gather(session, live=False)
            if self._sink is not None and owner is not None:
                owner.detach(self._sink, self._sink.turn)
                self._sink = None
            self._reset()
        if owner is not None:
            if owner.local is self:
                owner.local = None
            else:
                owner.remote = None
            owner.release()
        if self._inherited is not None:
            self._inherited.end()
            self._inherited = None
        probes.settle()
        if self._closed:
            self._release()

    def _reset(self) -> None:
        """Back to INIT, with a new sequence (kcov_reset, kcov_remote_reset)."""
        slot = self._slot
        session = end_session(self._key())
        if slot[Word.HANDLES]:
            if self._handles:
                self._registry.remove(self.number, self._handles)
            else:
                self._registry.remove_all(self.number)
        self._handles = ()
        slot[Word.REMOTE] = slot[Word.REMOTE_SIZE] = slot[Word.COMMON_HANDLE] = 0
        self._set_owner(None)
        registry.bump(slot, Word.SEQUENCE)
        slot[Word.MODE] = Mode.INIT
        if session is not None:
            # Their words would be dropped when they stop: the sequence has moved.
            for section in list(session.sections):
                section.finish()

    def _release(self) -> None:
        """The last reference is gone: free the slot and the file, unless a task still collects."""
        _open_devices.pop(self._file, None)
        _closed_enabled.pop(self._file, None)
        with self._get_lock():
            mine = self._slot[Word.SERIAL] == self._file and self._pid == this_process()[0]
            mode = self._slot[Word.MODE]
            if not mine or mode == Mode.FREE:
                return
            if mode in (Mode.DISABLED, Mode.INIT) or self._owner_is_dead():
                self._registry.release(self.number)
            else:
                _closed_enabled[self._file] = self

    def _set_owner(self, owner: Task | None) -> None:
        slot = self._slot
        slot[Word.OWNER_TASK] = 0 if owner is None else owner.serial
        slot[Word.OWNER_PID], slot[Word.OWNER_STARTED] = (0, 0) if owner is None else this_process()

    # -- checks

    def _owner_is_dead(self) -> bool:
        """Tell whether the process that enabled the device is gone; its tasks have ended, then."""
        slot = self._slot
        return bool(slot[Word.OWNER_PID]) and not self._registry.namespace.is_alive(
            slot[Word.OWNER_PID], slot[Word.OWNER_STARTED]
        )

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise KcovError(EBADF, f"{call}: device {self.number} is closed")

    def _check_there(self, call: str) -> None:
        if self._slot[Word.SERIAL] != self._file:
            raise KcovError(EBADF, f"{call}: device {self.number} was closed by who opened it")

    def _check_init(self, call: str) -> None:
        self._check_there(call)
        slot = self._slot
        if self._owner_is_dead():
            self._reset()
        if slot[Word.MODE] != Mode.INIT:
            raise KcovError(EINVAL, f"{call}: device {self.number} is not ready: {self._state()}")
        self._has_area()

    def _check_remote(
        self,
        call: str,
        trace_mode: int,
        area_size: int,
        handles: tuple[int, ...],
        common_handle: int,
    ) -> None:
        """Check the arguments of REMOTE_ENABLE, in the kernel's order: handle by handle."""
        if abi.capacity(integer(call, "area_size", area_size), trace_mode) < 1:
            raise KcovError(EINVAL, f"{call}: an area of {area_size} words holds no record")
        if area_size > abi.MAX_SIZE:
            raise KcovError(EINVAL, f"{call}: an area of {area_size} words, at most {abi.MAX_SIZE}")
        cause, before = "", handles
        for number, handle in enumerate(handles):
            if not 0 < handle <= abi.MAX_HANDLE:
                cause, before = f"{handle:#x} is not a handle: a u64, not 0", handles[:number]
                break
        else:
            if not 0 <= common_handle <= abi.MAX_COMMON_HANDLE:
                cause = (
                    f"{common_handle:#x} is not a common handle: "
                    f"1 ... {abi.MAX_COMMON_HANDLE:#x}, 0 for none"
                )
        if cause:
            taken = self._registry.first_taken(before)
            if taken is not None:
                raise _in_use(call, taken)
            raise KcovError(EINVAL, f"{call}: {cause}")

    def _has_area(self) -> bool:
        """Tell whether the size is set; another process that inherited the device may have done that."""
        if self._area is None and self._slot[Word.FILE] == self._file:
            self._area = Area(self._registry.namespace, area_name(self._file))
        return self._area is not None

    def _state(self) -> str:
        slot = self._slot
        mode = slot[Word.MODE]
        if mode == Mode.DISABLED:
            return "init_trace comes first"
        if mode == Mode.INIT:
            return "it is not enabled"
        kind = "remotely" if slot[Word.REMOTE] else "locally"
        return f"it is enabled {kind} by task {slot[Word.OWNER_TASK]} of process {slot[Word.OWNER_PID]}"


# Devices of this process that are not closed, and those that were while a task had them enabled, by file.
_open_devices: dict[int, Device] = {}
_closed_enabled: dict[int, Device] = {}


def _release_orphans() -> None:
    """Free what was closed while another process had it enabled that has disabled it since, or died."""
    for device in list(_closed_enabled.values()):
        if device._slot[Word.OWNER_PID] != this_process()[0]:  # an own task does it at its end
            device._release()


def _get_mode(call: str, mode: int) -> int:
    if mode == TRACE_PC:
        return Mode.TRACE_PC
    if mode == TRACE_CMP:
        return Mode.TRACE_CMP
    raise KcovError(EINVAL, f"{call}: there is no mode {mode}: TRACE_PC is 0, TRACE_CMP is 1")


def _in_use(call: str, handle: int) -> KcovError:
    return KcovError(EEXIST, f"{call}: handle {handle:#x} is in use")


def _busy(call: str, kind: str, other: Device) -> KcovError:
    handles = ", ".join(f"{handle:#x}" for handle in other._handles[:4])
    more = f", handles {handles}" if handles else ""
    return KcovError(
        EBUSY, f"{call}: this task already owns a {kind} device ({other.number}{more})"
    )


def _at_exit() -> None:
    pid = this_process()[0]
    for device in [*_open_devices.values(), *_closed_enabled.values()]:
        device._closed = True
        if device._pid == pid and device._slot[Word.SERIAL] == device._file:
            device._registry.release(device.number)


namespace.at_exit(_at_exit)
