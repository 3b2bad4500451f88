"""collect(): the coverage that one block of code causes, in whichever thread or task.

It is a device, remote-enabled with the caller's handles and a common handle of its own; the block itself is
a section of that, and whatever the block causes inherits the common handle and is a section too.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections.abc import Iterable
from errno import EBADF, EINVAL
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _recorder, abi, device, probes, task
from .abi import TRACE_CMP, TRACE_PC
from .area import Area, Head
from .errors import KcovError
from .reading import copy_records, make_trace, read_records
from .remote import Section, enter
from .scope import Scope
from .spool import Spool
from .task import quietly
from .trace import SectionRecord, Trace

if TYPE_CHECKING:
    from .linux import background

__all__ = ["collect"]

_RECORDS = 4096


class collect:
    """Collect what a ``with`` block executes and everything that it causes.

    That is: the block itself; tasks and threads created in it and the jobs that it submits to executors (also
    to pools that were started long before); the sections, in any thread, that are annotated with one of
    ``handles``; and those that are annotated with the block's own common handle, ``c.handle``.

    ``mode`` is TRACE_PC, or TRACE_CMP for ``trace.comparisons``: what this code compared; for both, nest two.
    ``source``, ``include`` and ``omit`` choose the files as coverage.py's do. ``branch=True`` records branch arms
    too. ``area_size`` is the size in words of the device's area, and of a section's in another process: a full
    one is emptied by this process, so nothing is dropped in it. ``kernel=True`` adds what the kernel did for the
    block, by the kernel's own kcov: the system calls of all threads and processes that are collected, each behind
    the line that made it, and the kernel's sections for a USB bus among ``handles``. Several may be open at once,
    nested or not; each gets its own. Raises KcovError EEXIST if a handle is in use, EINVAL for what is not a handle;
    with ``kernel=True`` also as the verbs of the kernel's device do.
    """

    @quietly
    def __init__(
        self,
        handles: int | Iterable[int] = (),
        *,
        source: Iterable[str] = (),
        include: Iterable[str] = (),
        omit: Iterable[str] = (),
        branch: bool = False,
        area_size: int = 1 << 16,
        mode: int = TRACE_PC,
        kernel: bool = False,
    ) -> None:
        if mode not in (TRACE_PC, TRACE_CMP):
            raise KcovError(
                EINVAL,
                f"collect: there is no mode {mode!r}: TRACE_PC or TRACE_CMP; for both, nest two collect()",
            )
        if kernel and mode == TRACE_CMP:
            raise KcovError(EINVAL, "collect: kernel=True is for TRACE_PC; for both, nest two")
        self._mode = mode
        self._handles = (handles,) if isinstance(handles, int) else tuple(handles)
        self._scope = Scope(source, include, omit)
        self._branch = branch
        self._area_size = area_size
        self._kernel = kernel
        self._background: background.Background | None = None
        self._device: device.Device | None = None
        self._section: Section | None = None
        self._token: task.Token | None = None
        self._trace: Trace | None = None
        self._records: list[tuple[bytes, int]] = []  # read_records() reads them
        self._behind: list[SectionRecord] = []  # of what comes behind all others
        self._recorded = 0
        self._spool = Spool()
        self._lost = 0  # of the background's
        self._pid = 0
        self.handle = 0

    @classmethod
    def _of(cls, scope: Scope) -> Self:
        """Return a collection of the files of a scope that was made before."""
        made = cls()
        made._scope = scope
        return made

    @quietly
    def __enter__(self) -> Self:
        if self._device is not None or self._trace is not None:
            raise KcovError(EINVAL, "collect: it can be entered once")
        # This raises where a section would only warn.
        probes.bit(self._scope, branch=self._branch, mode=self._mode)
        probes.check(self._mode, self._scope)
        task.current()  # before it inherits from this block: it is a section of it as it is
        with contextlib.ExitStack() as held:
            if self._kernel:
                from .linux import background, threads

                held.enter_context(threads.enabled())
                self._background = self._background or background.of_handles(self._handles)
            try:
                self._begin()
            except BaseException:
                if self._background is not None:
                    self._background.close()
                raise
        return self

    def _begin(self) -> None:
        opened = device.Device(
            self._scope, branch=self._branch, sections=_RECORDS, kernel=self._kernel
        )
        try:
            opened.init_trace(self._area_size)
            self._area: Area = opened._get_area()
            self.handle = opened._collect(self._area_size, self._handles, self._mode, self._drain)
        except BaseException:
            opened.close()
            raise
        self._device = opened
        self._pid = os.getpid()
        self._token = opened._pass_on(follow=True)
        self._section = enter(self.handle, opened._key(), implicit=True)

    @quietly
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened = self._device
        if opened is None:
            raise KcovError(EINVAL, "collect: there is no block that could end")
        if self._pid != os.getpid():
            return  # a forked child goes on being collected: its parent's block ends when that says so
        if self._section is not None:
            self._section.leave()
        if self._token is not None:
            token, self._token = self._token, None
            found = _recorder.inherited_var.get()
            # Else a block that began in this one goes on: what it causes inherits from it.
            if found is not None and found.device == opened._key():
                task.reset(token)
        opened._end_collect()
        if self._background is not None:
            self._take_background(self._background)
        self._trace = self._read(opened)
        opened.close()
        self._spool.close()
        self._device = None

    @property
    @quietly
    def trace(self) -> Trace:
        """What was collected so far; after the block, all of it."""
        if self._trace is not None:
            return self._trace
        if self._device is None:
            raise KcovError(EINVAL, "collect: nothing is collected before the block begins")
        if self._pid != os.getpid():
            raise KcovError(EBADF, f"collect: the trace is in process {self._pid}, which collects")
        self._device.sync()
        return self._read(self._device)

    def _drain(self) -> None:
        """Empty the device's area. Must be called with the device's lock held."""
        area, words, spool = self._area, self._area.words, self._spool
        spool.make_room()
        while True:
            has, start = words[0], self._recorded
            count = min(has, abi.capacity(len(words), self._mode))
            data = bytes(words[1 : count * abi.RECORD_WORDS[self._mode] + 1])
            table = area.operands if self._mode == TRACE_CMP else None
            operands = area.read_operands() if table else b""
            taken_out = table[1] + len(operands) if table else 0
            parts, records = [(data, operands)], [(copy_records(area), start)]
            recorded = start + count
            # From here on nothing is called, and no collector runs: a signal handler that raises in between would
            # leave records twice, or lost; and one that ends a section, or a finalizer that does, has done so before.
            if words[0] == has and self._recorded == start:
                break
        spool.parts += parts
        self._records += records
        self._recorded = recorded
        words[0] = 0
        area.head[Head.RECORDED] = 0
        if table:
            table[1] = taken_out

    def _take_background(self, found: background.Background) -> None:
        """Bring in what the kernel's background threads did, as a section behind all others."""
        assert self._device is not None
        pcs, self._lost = found.take(settled=True)
        found.close()
        with self._device._get_lock():
            self._drain()
        if pcs:
            start, self._recorded = self._recorded, self._recorded + len(pcs)
            self._spool.parts += [(array("Q", pcs).tobytes(), b"")]
            began, now = found.began_ns, time.monotonic_ns()
            self._behind.append(
                SectionRecord(found.handle, 0, 0, "kernel", 0, start, self._recorded, began, now)
            )

    def _read(self, opened: device.Device) -> Trace:
        with opened._get_lock():
            self._drain()
            words, operands = self._spool.read()
            sections = [record for part in self._records for record in read_records(*part)]
        return make_trace(
            self._mode,
            array("Q", words),
            (*sections, *self._behind),
            opened.dropped + self._lost,
            operands,
            kernel=self._kernel,
        )
