"""Every number that pykcov shares with the kernel's kcov. Nobody else writes one.

Source: the patch "kcov: remote coverage support", include/uapi/linux/kcov.h, and Linux 6.1 for the
subsystems. A *word* is 64 bits.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL

from .errors import KcovError, integer
from .late import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

KCOV_INIT_TRACE = 0x80086301
KCOV_ENABLE = 0x6364
KCOV_DISABLE = 0x6365
KCOV_REMOTE_ENABLE = 0x40186366

TRACE_PC = 0
TRACE_CMP = 1

# The kernel's internal "not supported", which kcov returns to user space (not EOPNOTSUPP).
ENOTSUPP = 524

# Words. INIT_TRACE takes 2 ... INT_MAX / 8.
MIN_SIZE = 2
MAX_SIZE = (2**31 - 1) // 8

# Words of one record, by mode.
RECORD_WORDS = {TRACE_PC: 1, TRACE_CMP: 4}

# A record of TRACE_CMP is (type, arg1, arg2, pc). The kernel's are bits 0 to 2 of the type: is one operand a constant
# (then it is arg1), and log2 of the size in bytes that holds both. pykcov's say what is no plain integer.
CMP_CONST = 1 << 0
CMP_SIZE_SHIFT = 1
CMP_KIND_SHIFT = (8, 12)  # a CmpKind, of arg1 and of arg2
# The word is where its bytes begin in the area's table of operands.
CMP_IN_TABLE = (1 << 16, 1 << 17)
# There was more of it: OPERAND_LIMIT bytes are recorded, 64 bits of an int.
CMP_CUT = (1 << 18, 1 << 19)
CMP_LENGTH_SHIFT = (32, 48)  # of what is recorded, in bytes


class CmpKind:
    """What one operand of a comparison is."""

    INT = 0  # an int64
    UINT = 1  # above
    BOOL = 2
    FLOAT = 3  # as its IEEE bits
    BYTES = 4  # up to 8 in the word, the first in its lowest byte
    STR = 5  # as UTF-8; lone surrogates too
    NONE = 6
    OTHER = 7  # an object of another type


OPERAND_LIMIT = 256  # bytes of one operand
ELEMENTS_LIMIT = 64  # records of one `in`

KCOV_REMOTE_MAX_HANDLES = 0x10000
MAX_HANDLES_OF_LINUX = 0x100  # what the patch's limit became
MAX_HANDLE = 2**64 - 1
# The patch: 0000000000000000 - 0000ffffffffffff are common handles.
MAX_COMMON_HANDLE = 0x0000_FFFF_FFFF_FFFF

SUBSYSTEM_COMMON = 0x00 << 56
SUBSYSTEM_USB = 0x01 << 56
_SUBSYSTEM_MASK = 0xFF << 56
INSTANCE_MASK = 0xFFFF_FFFF

# struct kcov_remote_arg: u32 trace_mode, area_size, num_handles, 4 bytes of padding, u64 common_handle.
_REMOTE_ARG = "=IIIxxxxQ"
_REMOTE_ARG_BYTES = 24
_NUM_HANDLES = "=8xI"
_NUM_HANDLES_BYTES = 12


def capacity(size: int, mode: int = TRACE_PC) -> int:
    """Return how many records an area of ``size`` words holds beside its count word."""
    return (size - 1) // RECORD_WORDS[mode]


def remote_handle(subsystem: int, instance: int) -> int:
    """Return the handle of one instance of a subsystem, in Linux 6.1's format.

    ``subsystem`` is SUBSYSTEM_COMMON or SUBSYSTEM_USB (the top byte of the handle), ``instance`` a
    32-bit number. Raises KcovError EINVAL where the kernel's ``kcov_remote_handle`` returns 0.
    """
    if subsystem & ~_SUBSYSTEM_MASK or not 0 <= instance <= INSTANCE_MASK:
        raise KcovError(
            EINVAL,
            f"remote_handle: subsystem {subsystem:#x}, instance {instance:#x}: "
            "a subsystem is the top byte of 64 bits, an instance has 32 bits",
        )
    return subsystem | instance


def pack_remote_arg(
    trace_mode: int, area_size: int, handles: Iterable[int] = (), common_handle: int = 0
) -> bytes:
    """Return ``struct kcov_remote_arg`` as KCOV_REMOTE_ENABLE takes it (24 + 8 n bytes).

    Raises TypeError for what is no int, KcovError EINVAL for one that does not fit.
    """
    call = "pack_remote_arg"
    handles = tuple(integer(call, "handle", handle) for handle in handles)
    for what, number in (
        ("trace_mode", trace_mode), ("area_size", area_size), ("common_handle", common_handle),
    ):  # fmt: skip
        integer(call, what, number)
    form = f"{_REMOTE_ARG}{len(handles)}Q"
    struct = load("struct")
    try:
        packed: bytes = struct.pack(
            form, trace_mode, area_size, len(handles), common_handle, *handles
        )
    except struct.error:
        raise KcovError(
            EINVAL,
            f"{call}: trace_mode {trace_mode}, area_size {area_size}, common_handle {common_handle}: "
            "the first two have 32 bits, this and a handle 64",
        ) from None
    return packed


def unpack_remote_arg(arg: bytes | bytearray | memoryview) -> tuple[int, int, tuple[int, ...], int]:
    """Return ``(trace_mode, area_size, handles, common_handle)``, checked in the kernel's order.

    Raises KcovError EFAULT if the bytes end too early, EINVAL if there are too many handles.
    """
    call = "ioctl KCOV_REMOTE_ENABLE"
    unpack_from = load("struct").unpack_from
    if len(arg) < _NUM_HANDLES_BYTES:
        raise KcovError(EFAULT, f"{call}: {len(arg)} bytes end before num_handles")
    (count,) = unpack_from(_NUM_HANDLES, arg)
    if count > KCOV_REMOTE_MAX_HANDLES:
        raise KcovError(EINVAL, f"{call}: {count} handles, at most {KCOV_REMOTE_MAX_HANDLES}")
    size = _REMOTE_ARG_BYTES + 8 * count
    if len(arg) < size:
        raise KcovError(EFAULT, f"{call}: {len(arg)} bytes, {size} for {count} handles")
    trace_mode, area_size, _, common_handle = unpack_from(_REMOTE_ARG, arg)
    handles = unpack_from(f"={count}Q", arg, _REMOTE_ARG_BYTES)
    return trace_mode, area_size, handles, common_handle
