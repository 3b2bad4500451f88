"""The hot path, in C. Buffers are of 64-bit words; a *key* is ``sequence << 16 | slot`` of a session."""

import contextvars
import mmap
import types
from collections.abc import Callable
from typing import Any, Self, final

from typing_extensions import Buffer

from .namespace import Namespace

class Task:
    """What the current context owns, made by this_task(). When the context dies, ``end()`` is called if need be."""

    local: Any
    """The device that it has enabled, or None."""
    remote: Any
    """The device that it has enabled for others, or None."""
    @property
    def serial(self) -> int: ...
    @property
    def sections(self) -> list[Any]:
        """Its open sections, in order of their start."""

    @property
    def starts(self) -> list[Any]:
        """One entry for each remote_start() that remote_stop() has not met; None: nobody listened."""

    def own(self) -> None:
        """Keep this task alive until it owns nothing: its end has to be seen."""

    def release(self) -> None:
        """Forget the task if it owns nothing any more."""

    def attach(self, sink: Sink, scope: int, branch: bool, /) -> None:
        """Let events go to a sink that is in no task.

        Only those of units that have the ``scope`` bit, branch arms only with ``branch``. What does not fit adds to
        the sink's ``lost[0]``.
        """

    def detach(self, sink: Sink, turn: int, /) -> bool:
        """Take a sink out of the task; return False if it is not in it, or that turn is over."""

@final
class Sink:
    """Where a task's events go: ``area[0]`` counts the records behind it, at most ``capacity``.

    With a table of ``operands`` it takes comparisons, four words each; without, PCs. With a ``scope`` of 0 it rests.
    """

    scope: int
    @property
    def turn(self) -> int:
        """Another number when it is detached or gets another area: who had it before takes it out of no other task."""

    def __new__(cls, area: Buffer, capacity: int, lost: Buffer, operands: Buffer = ...) -> Self: ...
    def next_turn(self) -> int:
        """Return a number that no turn has had."""

    def move_on(
        self, turn: int, following: int, area: Buffer, lost: Buffer, operands: Buffer = ..., /
    ) -> bool:
        """Record into another area from now on, of at least the same capacity, in the turn ``following``.

        False if ``turn`` is over; then nothing is changed.
        """

class Area:
    """The buffers of an area, for C: from bind() on it is as it has to be, whatever other processes write there."""

    sink: Sink
    """Where tasks record that use it; none before it is set."""
    mapped_words: int
    def bind(self, words: Buffer, head: Buffer, records: Buffer, operands: Buffer, /) -> None:
        """Use these from now on. ValueError if they are too small."""

    def close_section(self) -> None:
        """Let the section record count that was opened last, if words have come since; also for one who was killed."""

class Pool:
    """How many words of areas wait for use."""

class Session:
    """One session of one device, as far as each section needs it. Everything is set by bind().

    Its find_bit() is asked for the bit of its scope, the first time and after forget_bits(); say_over(area) is told of
    what is dropped as the session is over.
    """

    listener: int
    """The byte that the process holds while it lives that has enabled the device; 0: it is this one."""
    trusted: float
    """Until then it counts as alive, in s of time.monotonic()."""
    @property
    def key(self) -> int: ...
    @property
    def area(self) -> Any: ...
    @property
    def lock(self) -> Lock: ...
    @property
    def pool(self) -> Any: ...
    @property
    def kind(self) -> tuple[int, int]:
        """Of the areas that its sections record into: size in words, and mode."""

    @property
    def sections(self) -> dict[Any, None]:
        """Open ones, in order of their start."""

    @property
    def is_own(self) -> bool:
        """This process has enabled the device."""

    @property
    def branch(self) -> bool: ...
    @property
    def kernel(self) -> bool: ...
    @property
    def exclusive(self) -> bool: ...
    def bind(
        self,
        key: int,
        slot: Buffer,
        area: Area,
        lock: Lock,
        pool: Pool,
        kind: tuple[int, int],
        drain: Callable[[], None] | None,
        own: bool,
        comparing: bool,
        branch: bool,
        kernel: bool,
        exclusive: bool,
        drained: bool,
        /,
    ) -> None:
        """Set everything. ``drain()`` makes room in the device's area, in the process that collects."""

    def is_trusted(self) -> bool:
        """Tell whether somebody listens, as far as that needs no system call: all processes would meet there."""

    def is_over(self) -> bool:
        """Tell whether the device has been disabled, or is not collecting remotely."""

    def get_area(self) -> Any:
        """Return an empty area with a sink, for a section. Raises KcovError ENOMEM."""

    def put_area(self, area: Any, /) -> None:
        """Take such an area back."""

    def take(self, source: Area, ends: bool, /) -> bool:
        """Move what a section's area has that is not in the device's yet, with a section record (kcov_move_area).

        With ``ends`` the area is nobody's afterwards: under the lock, else who gathers takes the next section's
        words for this one's. Returns whether that was all; what does not fit and cannot be parked either is counted
        as dropped. Counts that cannot be are bounded. Raises KcovError ETIMEDOUT if somebody keeps the device's lock.
        """

class Section:
    """An open section of one task, made by begin()."""

    area: Any
    kernel: Any
    """What collects the kernel's work for it in its thread, or None."""
    turn: int
    """The turn of its sink that is its own."""
    depth: int
    has_parked: bool
    is_settled: bool
    """It has handed everything over and given everything back."""
    @property
    def session(self) -> Any: ...
    @property
    def sink(self) -> Sink: ...
    @property
    def task(self) -> Any: ...
    @property
    def handle(self) -> int: ...
    @property
    def scope_bit(self) -> int: ...
    @property
    def implicit(self) -> bool:
        """No annotation of the program has begun it."""

    def leave(self) -> None:
        """One remote_stop(); the last one ends the section."""

    def finish(self) -> None:
        """End the section, whoever does it. Not twice; raises only what a signal handler raises."""

@final
class Site:
    """The site of a comparison: ``count`` places from ``first`` on. Its methods do what is plain, and record.

    ``what`` and ``constant`` are what_t and CONST_NONE ... of _compare.h, ``link`` a number for the links of
    chains, ``extra`` a pattern, or what a method has to know. ``~site`` is what a link has kept.
    """

    def __new__(
        cls,
        places: Places | None,
        first: int,
        count: int,
        what: int,
        constant: int,
        link: int = 0,
        extra: object = None,
        /,
    ) -> Self: ...
    def __invert__(self) -> Any: ...
    def compare(self, left: Any, right: Any, /) -> Any:
        """Return ``left OP right``."""

    def link(self, left: Any, right: Any, /) -> bool:
        """Return the truth of ``left OP right``; keep ``right`` if it is true, else the result."""

    def test(self, left: Any, right: Any, /) -> bool:
        """Return the truth of ``left OP right``; keep ``right`` if it is true."""

    def match(self, subject: Any, /) -> Any:
        """Return the subject, of which the cases are recorded."""

    def method(self, method: Any, /) -> Any:
        """Return what does what the method does, and records; the method itself if there is nothing to record."""

    def item(self, container: Any, key: Any, /) -> Any:
        """Return ``container[key]``."""

@final
class Unit:
    """The places of a code object: PCs by line, and by byte offset // 2. A PC of 0: nothing is recorded.

    ``jumps`` are structs (u32 offset that follows in sequence, u32 where in ``implied``, u64 PC of the line if
    taken, if not, u64 PC of the arm if taken, if not); ``jump_at`` has their numbers from 1. ``implied`` has
    the arms that jumping takes as well: their number, then their PCs. 3.11 marks its first instruction in ``starts``.
    """

    mask: int
    armed: int
    @property
    def entry(self) -> int: ...
    @property
    def branch(self) -> int: ...
    def __new__(
        cls,
        entry: int = 0,
        first: int = 0,
        lines: Buffer = b"",
        starts: Buffer = b"",
        jump_at: Buffer = b"",
        jumps: Buffer = b"",
        implied: Buffer = b"",
        handlers: Buffer = b"",
        branch: bool = False,
    ) -> Self: ...

@final
class Places:
    """The PCs of ``n`` places of a file, 0 as long as nobody has asked, and in which scopes the file is."""

    @property
    def mask(self) -> int: ...
    def __new__(cls, n: int, /) -> Self: ...
    def fill(self, pcs: Buffer, mask: int, /) -> None:
        """Set the mask, and the PCs: all of them, or none to leave them as they are."""

@final
class Probe:
    """A constant of the code whose ``~`` records ``count`` PCs, from number ``first`` on, and is False.

    ``flags``: 1, with the last of them a loop begins; 2, with the first one goes on, which is not recorded where
    it has just begun.
    """

    def __new__(cls, places: Places, first: int, count: int, flags: int = 0, /) -> Self: ...
    def __invert__(self) -> bool: ...

@final
class FirstOf:
    """A method: what ``first`` returns, or where that is None what ``second`` does, without a frame of its own."""

    def __new__(cls, first: Callable[..., Any], second: Callable[..., Any], /) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@final
class Inherited:
    """A common handle as a context has it; ``outer`` is what it had before."""

    @property
    def handle(self) -> int: ...
    @property
    def device(self) -> int: ...
    @property
    def follow(self) -> bool: ...
    @property
    def live(self) -> bool: ...
    @property
    def outer(self) -> Inherited | None: ...
    def __new__(
        cls, handle: int, device: int, follow: bool, outer: Inherited | None, /
    ) -> Self: ...
    def end(self) -> None:
        """Let it be in force no more: its session is over."""

inherited_var: contextvars.ContextVar[Inherited | None]
"""What a context inherited and its copies do, or None."""

@final
class remote:
    """A context manager: the block is a section that works for whoever enabled ``handle``."""

    def __new__(cls, handle: int) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
        /,
    ) -> None: ...

@final
class Quiet:
    """A context manager for pykcov's own code: what runs in it, in this thread, is not recorded."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

@final
class Around:
    """Calls ``before()``, ``function(...)`` and ``after(what before returned)``, without a frame of its own.

    It can be pickled if all three can.
    """

    def __new__(
        cls,
        before: Callable[[], object],
        function: Callable[..., Any],
        after: Callable[[Any], object] | None,
        /,
    ) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@final
class Lock:
    """Excludes threads of this process and other processes. Reentrant.

    ``where`` is a byte of the file ``space.lock_fd``, or a word of shared memory: it has the ``space.alive`` of its
    owner, and a dead one has it no more. ``patience``: seconds that anybody waits; then ``space.stuck(what, who)``
    raises; ``space.unusable(what, errno)`` does where the system gives no lock. If the descriptor is not of the file
    any more that ``space.lock_identity`` says, ``space.regain()`` comes first.
    """

    def __new__(
        cls, space: Namespace, where: int | Buffer, what: str, patience: float, /
    ) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

def lock_byte(fd: int, byte: int, shared: bool, /) -> None:
    """Take a byte of a file for as long as the file is open. BlockingIOError if somebody else has it."""

def is_locked(fd: int, byte: int, /) -> bool:
    """Tell whether somebody else has a byte of a file."""

def lift(fd: int, /) -> int:
    """Move a descriptor up, to 100 or more if the process may have as many, and never to 0, 1 or 2; return its number.

    OSError if there is no number for it; then it is closed.
    """

def identity(fd: int, /) -> bytes:
    """Return what tells the file of a descriptor from any other: is_same()."""

def is_same(fd: int, identity: bytes, /) -> bool:
    """Tell whether a descriptor is open, and of the file that had this identity()."""

def close_same(fd: int, identity: bytes, /) -> None:
    """Close a descriptor if it is_same(): else it is not ours."""

def map_over(mapped: mmap.mmap, fd: int, /) -> None:
    """Put a file in the place of anonymous memory: an mmap of a file keeps a descriptor, and closes that number."""

def install(
    *,
    discover: Callable[[types.CodeType], Unit] = ...,
    idle: Callable[[], object] = ...,
    find: Callable[[object], int | None] = ...,
    enter: Callable[[int, int, Any, bool], object] = ...,
    warn: Callable[[str], object] = ...,
    contain: Callable[[BaseException], bool] = ...,
    disable: object = ...,
    uncompiled: Callable[[object], object] = ...,
    own: str = ...,
    owners: set[Any] = ...,
    sessions: dict[int, Any] = ...,
    task: type[Task] = ...,
    section: type[Section] = ...,
) -> None:
    """Set what C calls back, makes, and keeps what it makes in."""

def this_task() -> Task:
    """Return the current task, making it known if this is the first that is heard of it."""

def current_task() -> Task | None:
    """Return the task that belongs to the current context, None if it has none of its own."""

def refresh() -> None:
    """Void what threads remember of their current task."""

def rearm() -> int:
    """Void what code objects were armed with; return the number of the new arming."""

def after_fork() -> None:
    """In a forked child: no task is this process's, nothing is attached."""

def sinks() -> int:
    """Return how many sinks of PCs are attached in this process."""

def comparing() -> int:
    """Return how many sinks of comparisons are attached in this process."""

def get_unit(code: types.CodeType, /) -> Unit | None: ...
def set_unit(code: types.CodeType, unit: Unit, /) -> None: ...
def add_sites(code: types.CodeType, sites: Buffer, /) -> None:
    """Let the probes of a code object that has not run yet sleep and wake with all others.

    ``sites`` are pairs of u32: which code unit, with bit 31 if a LOAD_FAST is before it, and over how many units
    behind it a jump leads that stands there in sleep; 0: it is an UNARY_INVERT, and is a NOP in sleep. Copies of
    the code object sleep for ever.
    """

def wake(awake: bool, /) -> int:
    """Wake all sites, or let them sleep; return how many other tools' events keep from that."""

def is_probed(code: types.CodeType, /) -> bool:
    """Tell whether a code object has sites."""

def count_sites() -> tuple[int, bool]:
    """Return how many sites there are, and whether they are awake."""

def make_probes(places: Places, probes: tuple[tuple[Any, ...], ...], kind: str, /) -> list[Any]:
    """Return for each of ``probes`` that is ``(kind, first, count, flags)`` a Probe, for others None.

    Raises ValueError for places that there are not.
    """

def plant(code: types.CodeType, probes: list[Any], prefix: str, /) -> None:
    """Put probes in the place of placeholders, in a code object that nobody has seen yet and all that are in it.

    A placeholder is the text of ``prefix`` and the probe's number.
    """

def watch_exec() -> None:
    """From now on call ``uncompiled`` when code is executed, or made, that has no sites."""

def find(handle: object, /) -> int | None:
    """Return the key of the session that enabled ``handle``, None if nobody did."""

def map_table(header: Buffer, entries: Buffer, /) -> None: ...
def unmap_table() -> None: ...
def generation() -> int:
    """Return the generation of the table that is mapped."""

def insert(handles: tuple[int, ...], key: int, /) -> int | None:
    """Register all handles, or none and return the first that is taken."""

def remove(handles: tuple[int, ...], key: int, /) -> None: ...
def begin(session: Session, handle: int, task: Task, implicit: bool, /) -> Any:
    """Open a section of a session that the task has none of; return it. Raises KcovError."""

def begin_section(
    session: Session, area: Area, handle: int, task: int, after: int, began: int, /
) -> None:
    """Say in the header of an empty area whose section's it is.

    ``after`` is the number of the area that the section has filled before, 0 for none, and ``began`` when it began, 0
    for now. These, ``task`` and the thread are said only where the device has room for section records.
    """

def set_awake(awake: bool, /) -> None:
    """Say whether the probes of PCs are awake: whether who attaches a sink has nothing to arm."""

def is_awake() -> bool: ...
def forget_bits() -> None:
    """Say that the bits of scopes are others from now on."""

def add(words: Buffer, value: int, /) -> None:
    """Add to ``words[0]``, atomically."""

def tally(words: Buffer, /) -> dict[int, int]:
    """Return how often each word is there, in order of the first occurrence."""

def kernel_bind(area: Buffer, /) -> None:
    """Take what the kernel records for this thread from ``area``, a device's, into the order of its tasks."""

def kernel_unbind() -> None: ...
def kernel_switch() -> bool:
    """Say that this thread may run another task from here on; return whether it has an area of the kernel's."""

def in_front(
    settrace: Callable[[Any], None], gettrace: Callable[[], Any], /
) -> tuple[Callable[[Any], None], Callable[[], Any]]:
    """3.11: return what takes the places of ``sys.settrace`` and ``sys.gettrace``: ours stays in front, unseen."""

def settle() -> None:
    """3.11: trace this thread if something collects in it."""

def set_tracing(on: bool, /) -> None:
    """3.11: trace the threads that collect, or do not begin to."""

def on_start(*args: Any) -> Any: ...
def on_resume(*args: Any) -> Any: ...
def on_throw(*args: Any) -> Any: ...
def on_line(*args: Any) -> Any: ...
def on_instruction(*args: Any) -> Any: ...
def on_jump(*args: Any) -> Any: ...
def on_handler(*args: Any) -> Any: ...
