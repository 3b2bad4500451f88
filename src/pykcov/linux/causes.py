"""What the kernel's answers most likely mean: an errno and what was asked, in words.

The kernel only says EINVAL. Each function makes its checks again, in its order, and names the first one that
the call did not pass. Where none is found the state is to blame, which other processes may have changed.
"""

from __future__ import annotations

import mmap
import os
from errno import EACCES, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOTTY, EPERM

from .. import abi
from ..errors import KcovError

__all__ = [
    "of_disable",
    "of_enable",
    "of_init_trace",
    "of_mmap",
    "of_open",
    "of_remote_enable",
    "of_request",
]

_DEBUGFS = "/sys/kernel/debug"


def of_open(code: int, path: str) -> str:
    """Say why the device cannot be opened, and what to do."""
    if code in (EACCES, EPERM) and os.geteuid() == 0:
        return "not even this root may open it: the kernel is locked down, or root is a container's"
    if code in (EACCES, EPERM):
        return "only root may open it: run this as root, or let root hand over the open descriptor"
    points = _debugfs()
    if code == ENOENT and not points and path.startswith(f"{_DEBUGFS}/"):
        return f"debugfs is not mounted: as root, mount -t debugfs none {_DEBUGFS}"
    if code == ENOENT and any(path.startswith(f"{point}/") for point in points):
        return "this kernel has no kcov: it has to be built with CONFIG_KCOV=y"
    return os.strerror(code)


def _debugfs() -> list[str]:
    """Return where debugfs is mounted."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        fields = [line.split() for line in mounts]
    return [point for _, point, kind, *_ in fields if kind == "debugfs"]


def of_init_trace(code: int, size: int) -> str:
    """Say why the size cannot be set."""
    if code == EINVAL:
        return f"{size} words: from {abi.MIN_SIZE} to {abi.MAX_SIZE} can be had"
    if code == EBUSY:
        return "the device has its size already"
    if code == ENOMEM:
        return f"the kernel has no memory for {size} words"
    return of_request(code)


def of_mmap(code: int, length: int, offset: int, size: int | None) -> str:
    """Say why the area cannot be mapped. ``size`` in words, 0 before init_trace, None if nobody here knows."""
    if code == EACCES:
        return "the descriptor is not open for reading and writing"
    if code == EINVAL and size and 8 * size % mmap.PAGESIZE:
        return f"{size} words are no whole pages of {mmap.PAGESIZE // 8}: the kernel never maps it"
    if code == EINVAL and size:
        return f"{length} bytes from {offset}: the area has {8 * size} bytes from 0"
    if code == EINVAL and size is None:
        return f"{length} bytes from {offset}: where the size was set elsewhere, give all of it, in bytes"
    if code == EINVAL:
        return "init_trace comes first"
    return of_request(code)


def of_enable(code: int, mode: int, state: str) -> str:
    """Say why this thread cannot collect. ``state`` is why the device is not ready, '' if it may be."""
    if code == EINVAL and not state and mode not in (abi.TRACE_PC, abi.TRACE_CMP):
        return f"there is no mode {mode}: TRACE_PC is 0, TRACE_CMP is 1"
    return _of_any_enable(code, state)


def of_remote_enable(code: int, arg: bytes, state: str) -> str:
    """Say why ``arg``, the struct, cannot be had; in the order of the kernel's checks."""
    if code == EFAULT:
        return f"{len(arg)} bytes are less than struct kcov_remote_arg and its handles"
    try:
        mode, _, handles, common = abi.unpack_remote_arg(arg)
    except KcovError as error:  # more handles than anybody takes
        return error.strerror or str(error)
    if code == EEXIST:
        shown = ", ".join(f"{handle:#x}" for handle in (*handles[:4], common) if handle)
        return f"a handle is in use: one of {shown}{', ...' * (len(handles) > 4)}"
    if code != EINVAL:
        return _of_any_enable(code, state)
    if len(handles) > abi.MAX_HANDLES_OF_LINUX:
        return f"{len(handles)} handles: Linux takes at most {abi.MAX_HANDLES_OF_LINUX}"
    if state:
        return state
    if mode not in (abi.TRACE_PC, abi.TRACE_CMP):
        return f"there is no mode {mode}: TRACE_PC is 0, TRACE_CMP is 1"
    for handle in handles:
        if handle & ~abi.INSTANCE_MASK != abi.SUBSYSTEM_USB:
            return (
                f"handle {handle:#x}: this kernel takes remote_handle(SUBSYSTEM_USB, bus); "
                "a common handle goes into common_handle"
            )
    if common > abi.INSTANCE_MASK:
        return (
            f"common handle {common:#x}: this kernel takes 1 ... {abi.INSTANCE_MASK:#x}, 0 for none"
        )
    return _of_any_enable(code, state)


def _of_any_enable(code: int, state: str) -> str:
    if code == EINVAL:
        return state or "the device is not ready: another process has it enabled, or it has no size"
    if code == EBUSY:
        return "this thread has enabled another device; one that was closed counts too"
    if code == abi.ENOTSUPP:
        return "TRACE_CMP: this kernel is built without CONFIG_KCOV_ENABLE_COMPARISONS"
    return of_request(code)


def of_disable(code: int, arg: int, state: str) -> str:
    """Say why the device is not this thread's to disable. ``state`` is whose it is."""
    if code == EINVAL and arg:
        return f"the argument is {arg}, not 0"
    if code == EINVAL:
        return f"this thread did not enable the device: {state}"
    return of_request(code)


def of_request(code: int) -> str:
    """Say what any request may answer."""
    if code == ENOTTY:
        return "not a request of kcov, or not kcov's device"
    return os.strerror(code)
