"""Every state of a device x every call x every kind of caller, against the kernel's table.

States of one device: S0 opened; S1 sized; S2 sized and mapped; E enabled by the caller; R remote-
enabled by the caller; E2 and R2 (E' and R' in the table) the same by another task. A row has one
answer for each of the seven. The answers are Linux 6.1's, where the order of its checks matters
too, and pykcov's own where docs/kernel-differences.md says so (those rows name the rule).

After a call that failed the device must be in the state that it was in, and after one that
succeeded in the state that the row names: both are shown by what the device then does, not by
asking it. On the kernel's device the same table holds, but for the rows that have its answers too.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import pykcov
from conformance import backend, work
from conformance.backend import AREA, SIZE, Driver, Fd, Task

STATES = ("S0", "S1", "S2", "E", "R", "E2", "R2")

# The handle of a device in R or R2, and one that nobody has.
HANDLE, OTHER = backend.handle(0x42), backend.handle(0x43)
MINE = backend.handle(0x99)  # of the device that makes the caller busy
TAKEN, TAKEN_COMMON = backend.handle(0x77), 0x78  # held by a third device, in a third task
MAX = 268435455  # words: INT_MAX / 8
MANY = 0x10000  # KCOV_REMOTE_MAX_HANDLES

BIG = (1 << 32, (1 << 64) - 1)  # all 64 bits of an argument count


@dataclass(frozen=True)
class Row:
    """One call: its answers in the seven states, and the state after it where it succeeds."""

    name: str
    call: Callable[[Fd], str]
    answers: str
    after: str = ""
    handle: int = HANDLE  # by which a section finds the device if the call leads to R
    linux: str = ""  # the kernel's answers, where they are others: docs/kernel-differences.md

    def expected(self, state: str) -> str:
        assert self.linux != self.answers, "that is no difference"
        answers = self.linux if backend.KERNEL and self.linux else self.answers
        return answers.split()[STATES.index(state)]


# 6.1, INIT_TRACE: the size is checked before the state, so a bad size is EINVAL everywhere.
SIZED = "ok     EBUSY  EBUSY  EBUSY  EBUSY  EBUSY  EBUSY"
NEVER = "EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL"
INIT_ROWS = [
    # "S0, good size" / "S1 ... R', good size"
    Row("init_trace(512)", lambda fd: fd.init_trace(SIZE), SIZED, "S1"),
    Row("init_trace(2)", lambda fd: fd.init_trace(2), SIZED, "S1"),
    Row("init_trace(3)", lambda fd: fd.init_trace(3), SIZED, "S1"),
    # "size < 2 or > 268435455", in S0 and ("same, bad size", column 6.1) in every other state
    *(
        Row(f"init_trace({size:#x})", lambda fd, size=size: fd.init_trace(size), NEVER)
        for size in (0, 1, MAX + 1, 1 << 40, *BIG)
    ),
]

# 6.1, mmap: any time after INIT_TRACE, any number of times, also while enabled.
MAPPED = "EINVAL ok     ok     ok     ok     ok     ok"
MMAP_ROWS = [
    # "S1, len == size * 8, off 0" / "S2 again" / "E, R, E', R'"
    Row("mmap()", lambda fd: fd.mmap(), MAPPED, "mapped"),
    Row("mmap(exact)", lambda fd: fd.mmap(SIZE * 8), MAPPED, "mapped"),
    Row("mmap(exact, 0)", lambda fd: fd.mmap(SIZE * 8, 0), MAPPED, "mapped"),
    # "wrong len or off != 0"
    *(
        Row(
            f"mmap({length}, {offset})",
            lambda fd, length=length, offset=offset: fd.mmap(length, offset),
            NEVER,
        )
        for length, offset in (
            (0, 0), (SIZE * 4, 0), (SIZE * 8 + 4096, 0), (SIZE * 16, 0), (SIZE, 0),
            (SIZE * 8, 4096), (SIZE * 8, 8), (SIZE * 4, SIZE * 4),
        )
    ),
]  # fmt: skip

# 6.1, ENABLE, rows 1-5 in their order: state, busy, bad mode; comparisons are built in. S1 is ok (column 6.1).
STARTED = "EINVAL ok     ok     EINVAL EINVAL EINVAL EINVAL"
ENABLE_ROWS = [
    Row("enable(TRACE_PC)", lambda fd: fd.enable(0), STARTED, "E"),
    Row("enable(TRACE_CMP)", lambda fd: fd.enable(1), STARTED, "E cmp"),
    *(
        Row(f"enable({mode:#x})", lambda fd, mode=mode: fd.enable(mode), NEVER)
        for mode in (2, 3, 256, *BIG, (1 << 32) + 1)
    ),
]

# 6.1, DISABLE: "arg != 0" and "fd not attached to the calling task" are EINVAL.
DISABLE_ROWS = [
    Row("disable(0)", lambda fd: fd.disable(), "EINVAL EINVAL EINVAL ok ok EINVAL EINVAL", "S1"),
    *(
        Row(f"disable({arg:#x})", lambda fd, arg=arg: fd.disable(arg), NEVER)
        for arg in (1, 256, *BIG)
    ),
]


def remote(
    name: str,
    answers: str = STARTED,
    *,
    handles: tuple[int, ...] = (),
    common: int = 0,
    area_size: int = AREA,
    mode: int = 0,
    linux: str = "",
) -> Row:
    """A row of REMOTE_ENABLE; a section can find the device by the last handle that it gives."""
    handle = common or (handles[-1] if handles else 0)
    return Row(
        f"remote_enable({name})",
        lambda fd: fd.remote_enable(handles, common, area_size=area_size, mode=mode),
        answers,
        "R cmp" if mode == 1 else "R",
        handle,
        linux,
    )


EXISTS = STARTED.replace("ok", "EEXIST")
REMOTE_ROWS = [
    # rows 5 and 13
    remote("one handle", handles=(OTHER,)),
    remote("common handle", common=0x43),
    remote("both", handles=(backend.handle(0x44), backend.handle(0x45)), common=0x43),
    # "num_handles == 0 and common_handle == 0": ok, attaches nothing
    remote("nothing"),
    # row 2, with pykcov's (the patch's) limit
    remote("0x100 handles", handles=tuple(backend.handle(n) for n in range(0x100, 0x200))),
    remote("0x101 handles", handles=tuple(backend.handle(n) for n in range(0x100, 0x201)), linux=NEVER),
    remote("0x10000 handles", handles=tuple(range(0x100, 0x100 + MANY)), linux=NEVER),
    remote("0x10001 handles", NEVER, handles=tuple(range(0x100, 0x101 + MANY))),
    # row 7
    remote("TRACE_CMP", handles=(OTHER,), mode=1),
    remote("TRACE_CMP, area 4", NEVER, handles=(OTHER,), mode=1, area_size=4, linux=STARTED),
    remote("TRACE_CMP, area 5", handles=(OTHER,), mode=1, area_size=5),
    remote("mode 2", NEVER, handles=(OTHER,), mode=2),
    remote("mode 7", NEVER, handles=(OTHER,), mode=7),
    remote("mode 2^32-1", NEVER, handles=(OTHER,), mode=(1 << 32) - 1),
    # row 8 and "area_size 0", "area_size 1", rules `section_area`
    remote("area 0", NEVER, handles=(OTHER,), area_size=0, linux=STARTED),
    remote("area 1", NEVER, handles=(OTHER,), area_size=1, linux=STARTED),
    remote("area 2", handles=(OTHER,), area_size=2),
    remote("area 2^28", NEVER, handles=(OTHER,), area_size=MAX + 1, linux=STARTED),
    remote("area 2^32-1", NEVER, handles=(OTHER,), area_size=(1 << 32) - 1, linux=STARTED),
    # row 9 with pykcov's handles: any u64 but 0, rule `any_value_in_handles`
    remote("handle 0", NEVER, handles=(0,)),
    remote("handles 1, 0", NEVER, handles=(OTHER, 0)),
    *(
        remote(f"handle {handle:#x}", handles=(handle,), linux=NEVER)
        for handle in (1, 0xFFFF_FFFF, 1 << 32, 1 << 55, (1 << 48) - 1, 1 << 48,
                       1 << 56 | 1 << 32, 2 << 56 | 1, 0xFF << 56, (1 << 64) - 1)
    ),
    *(
        remote(f"handle {handle:#x}", handles=(handle,))
        for handle in (1 << 56, 1 << 56 | 1, 1 << 56 | 0xFFFF_FFFF)
    ),
    # row 10
    remote("handle in use", EXISTS, handles=(TAKEN,)),
    remote("handle in use as a common one", EXISTS, handles=(TAKEN_COMMON,), linux=NEVER),
    remote("good handle, then one in use", EXISTS, handles=(OTHER, TAKEN)),
    remote("handle twice", EXISTS, handles=(OTHER, OTHER)),
    remote("common handle in use", EXISTS, common=TAKEN_COMMON),
    remote("common handle in use by handles[]", EXISTS, common=0x77, linux=STARTED),
    remote("handle and the same common handle", EXISTS, handles=(OTHER,), common=0x43, linux=STARTED),
    # row 12, rule `common_handle_bits`
    remote("common 2^32-1", common=(1 << 32) - 1),
    remote("common 2^32", common=1 << 32, linux=NEVER),
    remote("common 2^48-1", common=(1 << 48) - 1, linux=NEVER),
    *(
        remote(f"common {common:#x}", NEVER, common=common)
        for common in (1 << 48, 1 << 56, 1 << 56 | 1, 2 << 56 | 1, (1 << 64) - 1)
    ),
    # the order of rows 7, 8, 9/10 and 12
    remote("bad mode, handle in use", NEVER, handles=(TAKEN,), mode=2),
    remote("area 0, handle in use", NEVER, handles=(TAKEN,), area_size=0, linux=EXISTS),
    remote("handle in use, then 0", EXISTS, handles=(TAKEN, 0)),
    remote("0, then handle in use", NEVER, handles=(0, TAKEN)),
    remote("handle in use, bad common", EXISTS, handles=(TAKEN,), common=1 << 48),
]  # fmt: skip

PACKED = backend.remote_arg
PADDED = PACKED((OTHER,))[:12] + b"\xaa" * 4 + PACKED((OTHER,))[16:]
FAULT = " ".join(["EFAULT"] * 7)
RAW_ROWS = [
    # REMOTE_ENABLE rows 1 and 3: the bytes end too early, which is seen before the state
    *(
        Row(
            f"ioctl(REMOTE_ENABLE, {name})",
            lambda fd, arg=arg: fd.ioctl(backend.REMOTE_ENABLE, arg),
            answers,
            "R",
            OTHER,
        )
        for name, arg, answers in (
            ("no bytes", b"", FAULT),
            ("11 bytes", PACKED()[:11], FAULT),
            ("23 bytes", PACKED()[:23], FAULT),
            ("2 handles claimed, 1 there", PACKED((OTHER, OTHER + 1))[:-8], FAULT),
            ("half a handle", PACKED((OTHER,))[:-4], FAULT),
            # row 2 comes before row 3
            ("0x10001 handles claimed, none there", PACKED(range(1, MANY + 2))[:24], NEVER),
            ("2^32-1 handles claimed", PACKED()[:8] + b"\xff" * 4 + bytes(12), NEVER),
            # good ones
            ("bytes", PACKED((OTHER,)), STARTED),
            ("bytearray", bytearray(PACKED((OTHER,))), STARTED),
            ("padding not zero", PADDED, STARTED),
            ("more bytes than handles", PACKED((OTHER,)) + bytes(8), STARTED),
        )
    ),
    # "bad pointer: NULL, 8, -1, 1<<46": an int is never the address of a struct here
    *(
        Row(f"ioctl(REMOTE_ENABLE, {arg:#x})",
            lambda fd, arg=arg: fd.ioctl(backend.REMOTE_ENABLE, arg), FAULT)
        for arg in (0, 8, (1 << 64) - 1, 1 << 46)
    ),
    # "Any other ioctl: ENOTTY": unknown, INIT_TRACE and REMOTE_ENABLE of another size, what later
    # patches proposed
    *(
        Row(f"ioctl({request:#x})", lambda fd, request=request: fd.ioctl(request),
            " ".join(["ENOTTY"] * 7))
        for request in (0, 0x6399, 0x80046301, 0x40146366, 0x40206366, 0x40086367, 0x6367, 0x6368)
    ),
]  # fmt: skip

ROWS = INIT_ROWS + MMAP_ROWS + ENABLE_ROWS + DISABLE_ROWS + REMOTE_ROWS


@dataclass
class Scene:
    """A device in one of the seven states, its caller and another task."""

    driver: Driver
    state: str
    fd: Fd
    caller: Task
    other: Task
    maker: Task  # a third task: it holds the handles in use, and looks at the device

    @property
    def owner(self) -> Task:
        return self.caller if self.state in ("E", "R") else self.other


def bring(fd: Fd, state: str, owner: Task) -> None:
    """Bring a fresh device to the state. E, R, E2 and R2 are mapped, as in nearly all programs."""
    if state != "S0":
        assert fd.init_trace() == "ok"
    if state not in ("S0", "S1"):
        assert fd.mmap() == "ok"
    if state in ("E", "E2"):
        assert owner(fd.enable) == "ok"
    if state in ("R", "R2"):
        assert owner(lambda: fd.remote_enable([HANDLE])) == "ok"


@contextmanager
def scene_of(driver: Driver, kind: str, state: str) -> Iterator[Scene]:
    """The device in its state; caller and other are two threads, or two Contexts on one thread."""
    with backend.tasks(kind, kind, "thread") as (caller, other, maker):
        holder = driver.open("S1")
        assert maker(lambda: holder.remote_enable([TAKEN], TAKEN_COMMON)) == "ok"
        fd = driver.open()
        scene = Scene(driver, state, fd, caller, other, maker)
        bring(fd, state, scene.owner)
        yield scene
        for task, mine in ((caller, fd), (other, fd), (maker, holder)):
            task(mine.disable)
        fd.close()
        holder.close()


def check_state(scene: Scene, state: str, handle: int = HANDLE) -> None:
    """Show by its behaviour that the device is in the state. Leaves it in S2, not enabled."""
    fd, owner = scene.fd, scene.owner
    state, _, mode = state.partition(" ")
    if state == "S0":
        assert scene.maker(fd.enable) == "EINVAL"
        assert fd.init_trace() == "ok"
        state = "S1"
    if fd.area.nbytes == 0:
        assert fd.mmap() == "ok"
    if state in ("S1", "S2"):
        assert fd.init_trace() == "EBUSY"
        owner = scene.caller  # whoever owned it must be free again
        assert owner(fd.enable) == "ok"
        state = "E"
    assert scene.maker(fd.enable) == "EINVAL"
    assert scene.maker(fd.disable) == "EINVAL"
    fd.area[0] = 0
    event = work.compares if mode == "cmp" else work.one
    owner(event)
    if state == "R":
        assert fd.count == 0, "the owner of a remote device collects nothing of its own"
    is_seen = state != "R"
    if state == "R" and handle and not backend.KERNEL:  # whose sections are tests/kernel's
        scene.maker(lambda: backend.section(handle, [event]))
        is_seen = True
    room = fd.area.nbytes // 8 - 1
    if mode != "cmp":
        assert fd.steps() == (work.steps(work.one)[:room] if is_seen else [])
    elif not backend.KERNEL:
        assert [record[:3] for record in fd.records()] == [(1, 5, 5)]
    count = fd.count
    assert owner(fd.disable) == "ok"
    owner(event)
    # On the kernel's the call itself is recorded until it disables.
    assert backend.KERNEL or fd.count == count, "DISABLE leaves the area as it is"


def state_after(row: Row, state: str, answer: str) -> str:
    if answer != "ok" or row.after == "mapped":
        return {"E2": "E", "R2": "R"}.get(state, state)
    return row.after


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_call_in_every_state_answers_as_the_table_says(
    driver: Driver, kind: str, row: Row
) -> None:
    whole_row(driver, kind, row)


@pytest.mark.parametrize("row", RAW_ROWS, ids=lambda row: row.name)
def test_every_raw_ioctl_in_every_state_answers_as_the_table_says(kind: str, row: Row) -> None:
    whole_row(backend.BY_NUMBER, kind, row)


def whole_row(driver: Driver, kind: str, row: Row) -> None:
    """Make the call in a fresh scene of each state; the answers are compared as a row."""
    answers = {}
    for state in STATES:
        with scene_of(driver, kind, state) as scene:
            answers[state] = answer = scene.caller(lambda scene=scene: row.call(scene.fd))
            if answer == row.expected(state):
                follow(scene, row, state, answer)
    assert answers == {state: row.expected(state) for state in STATES}


def follow(scene: Scene, row: Row, state: str, answer: str) -> None:
    """Check the state after the call."""
    after = state_after(row, state, answer)
    if answer == "ok" and row.after[:1] in ("E", "R"):
        scene.state = after[0]  # the caller owns it now
    if answer == "ok" and row.name in ("init_trace(2)", "init_trace(3)") and backend.KERNEL:
        assert scene.fd.mmap() == "EINVAL", "rule `any_size_can_be_mapped`"
        return
    small = row.name == "remote_enable(area 2)" and answer == "ok"
    if small and not backend.KERNEL:  # a section's area of one PC: the rest is counted, not kept
        check_small_area(scene, row.handle)
        return
    check_state(scene, after, row.handle if answer == "ok" and after[0] == "R" else HANDLE)


def check_small_area(scene: Scene, handle: int) -> None:
    fd = scene.fd
    if fd.area.nbytes == 0:
        assert fd.mmap() == "ok"
    scene.maker(lambda: backend.section(handle, [work.one]))
    assert fd.steps() == work.steps(work.one)[:1]
    assert fd.device.dropped == 1
    assert scene.caller(fd.disable) == "ok"


# "busy": the caller already owns another device. ENABLE row 3 and REMOTE_ENABLE row 6 come after
# the state and before
# the mode; pykcov lets a task own one local and one remote device (column 7.2, rule
# `local_beside_remote`).
BUSY = "EINVAL EBUSY  EBUSY  EINVAL EINVAL EINVAL EINVAL"
BUSY_ROWS = [
    # name, call, the busy kinds that get in its way
    ("enable(TRACE_PC)", lambda fd: fd.enable(0), "local", STARTED),
    ("enable(TRACE_CMP)", lambda fd: fd.enable(1), "local", STARTED),
    ("enable(2)", lambda fd: fd.enable(2), "local", NEVER),
    ("remote_enable()", lambda fd: fd.remote_enable([OTHER]), "remote", STARTED),
    ("remote_enable(nothing)", lambda fd: fd.remote_enable(), "remote", STARTED),
    ("remote_enable(mode 2)", lambda fd: fd.remote_enable([OTHER], mode=2), "remote", NEVER),
    ("remote_enable(handle 0)", lambda fd: fd.remote_enable([0]), "remote", NEVER),
    ("remote_enable(handle in use)", lambda fd: fd.remote_enable([TAKEN]), "remote", EXISTS),
    ("remote_enable(area 1)", lambda fd: fd.remote_enable([OTHER], area_size=1), "remote", NEVER),
]
# rows 2 and 5 come before row 6
BEFORE_BUSY = ("remote_enable(0x10001 handles)",
               lambda fd: fd.remote_enable(range(1, MANY + 2)), "remote", NEVER)  # fmt: skip


@pytest.mark.parametrize("busy", ["local", "remote"])
@pytest.mark.parametrize("row", [*BUSY_ROWS, BEFORE_BUSY], ids=lambda row: row[0])
def test_a_busy_caller_is_told_so_after_the_state_and_before_the_mode(
    driver: Driver, kind: str, row: tuple[str, Callable[[Fd], str], str, str], busy: str
) -> None:
    name, call, blocked_by, free = row
    blocked = busy == blocked_by or not driver.rules.local_beside_remote
    full = Row(name, call, BUSY if blocked and row is not BEFORE_BUSY else free)
    twice = [("E", "local"), ("R", "remote")]  # the caller cannot be busy twice in one way
    if not driver.rules.local_beside_remote:
        twice += [("E", "remote"), ("R", "local")]
    states = [state for state in STATES if (state, busy) not in twice]
    answers = {}
    for state in states:
        with scene_of(driver, kind, state) as scene, driver.opened("S2") as mine:
            start = mine.enable if busy == "local" else lambda mine=mine: mine.remote_enable([MINE])
            assert scene.caller(start) == "ok"
            answers[state] = scene.caller(lambda scene=scene: call(scene.fd))
            goes_on(scene, mine, busy)
            if answers[state] == full.expected(state) != "ok":
                check_state(scene, state_after(full, state, answers[state]))
    assert answers == {state: full.expected(state) for state in states}


def goes_on(scene: Scene, mine: Fd, busy: str) -> None:
    """The device that made the caller busy goes on as if nothing had been asked."""
    mine.area[0] = 0
    if busy == "local":
        scene.caller(work.one)
    elif not backend.KERNEL:
        scene.maker(lambda: backend.section(MINE, [work.one]))
    if busy == "local" or not backend.KERNEL:
        assert mine.steps() == work.steps(work.one)
    assert scene.caller(mine.disable) == "ok"


@pytest.mark.parametrize("arg", [-1, -(1 << 63)])
def test_a_negative_argument_is_the_u64_that_the_kernel_would_see(driver: Driver, arg: int) -> None:
    """ENABLE row 5 names -1."""
    with driver.opened("S2") as fd:
        assert fd.init_trace(arg) == "EINVAL"
        assert fd.enable(arg) == "EINVAL"
        assert fd.enable() == "ok"
        assert fd.disable(arg) == "EINVAL"
        assert fd.disable() == "ok"


def test_the_largest_size_is_good_or_there_is_no_memory_for_it(driver: Driver) -> None:
    """INIT_TRACE: "ok; ENOMEM if vmalloc_user fails", and then the device can be sized again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, hard))  # so that no 2 GiB are really taken
    try:
        with driver.opened() as fd:
            assert fd.init_trace(MAX + 1) == "EINVAL"
            answer = fd.init_trace(MAX)
            assert answer in ("ok", "ENOMEM")
            assert fd.init_trace() == ("EBUSY" if answer == "ok" else "ok")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.embedded
@pytest.mark.parametrize("size", [2, 3, 511, 513, 1000])
def test_a_size_that_is_not_a_multiple_of_a_page_can_be_mapped(driver: Driver, size: int) -> None:
    """Rule `any_size_can_be_mapped`; the kernel sizes such a device and never maps it."""
    with driver.opened("S1", size) as fd:
        assert fd.mmap(size * 8) == "ok"
        assert fd.area.nbytes == size * 8
        assert fd.mmap(size * 8 + 8) == "EINVAL"
        assert fd.enable() == "ok"
        work.nested()
        assert fd.disable() == "ok"
        wanted = work.steps(work.nested)
        assert fd.steps() == wanted[: size - 1]
        assert fd.device.dropped == max(0, len(wanted) - (size - 1))


def test_every_verb_of_a_closed_device_is_ebadf(driver: Driver) -> None:
    with driver.opened("S2") as fd:
        assert fd.close() == "ok"
        assert fd.init_trace() == "EBADF"
        assert fd.init_trace(0) == "EBADF"
        assert fd.mmap() == "EBADF"
        assert fd.enable() == "EBADF"
        assert fd.disable() == "EBADF"
        assert fd.remote_enable([OTHER]) == "EBADF"
        assert fd.ioctl(0x6399) == "EBADF"
        if not backend.KERNEL:
            assert backend.answer(fd.device.sync) == "EBADF"
        assert fd.device.closed
        assert pykcov.symbolize(0).kind == "unknown"
