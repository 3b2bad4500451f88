"""``pykcov trace``: run any program under the kernel's kcov; print what the kernel did for each system call."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from errno import EBADF, EIO, ENOENT
from typing import TextIO

from ..abi import INSTANCE_MASK, MAX_SIZE, SUBSYSTEM_USB, remote_handle
from ..errors import KcovError
from ..linux import Device, vmlinux
from ..linux.calls import Call, Calls
from ..linux.child import end_as
from ..linux.command import Command, Remote
from ..linux.vmlinux import Vmlinux
from ..report.text import plain, printable
from .streams import Parser

__all__ = ["main"]

EPILOG = """\
Each system call is one line, in order: its name, and the kernel's functions that it went through, in the order in
which they were first executed. What page faults and interrupts did until the next call is shown with it. Only the
program's first thread is traced, not its other threads and children: the kernel's kcov does not follow.

It needs root and a kernel with CONFIG_KCOV. Function names are the running kernel's. --lines needs its vmlinux with
debug information, which is looked for where distributions install it; --vmlinux or PYKCOV_VMLINUX name another one.

--remote common adds what the kernel's background threads did for the program: those that pass the common handle on
(vhost workers, say). --remote usb:N adds what was done for USB bus N meanwhile, for whomever.

The exit status is the program's; if a signal ended it, pykcov ends by the same. 2 if it cannot be traced.

examples:
  pykcov trace -- cat /etc/hostname
  pykcov trace -e openat,read -o calls.txt -- ls -l
  pykcov trace --lines -- mount -t tmpfs none /mnt
  pykcov trace -c -- python3 prog.py      how often each call, how many PCs and functions
  pykcov trace --remote usb:1 -- ./plug.sh
"""

AREA_SIZE = 1 << 21  # words


def main(argv: Sequence[str]) -> int:
    """Return the program's exit status; Stop for wrong usage, KcovError if it cannot be traced."""
    parser = _parser()
    options = parser.parse_args(argv)
    words = options.command[options.command[:1] == ["--"] :]
    if not words:
        parser.error("a COMMAND is required")
    path = shutil.which(words[0])
    if path is None:
        raise KcovError(ENOENT, f"trace: {words[0]}: no such command")
    # First what may be missing: the program is not begun in vain.
    with Device():
        names = _Names(options)
    with _output(options.output) as out:
        command = Command([path, *words[1:]], options.area_size, options.remote)
        _Report(names, frozenset(options.calls), out, summary=options.summary).run(command)
    return end_as(command.status)


class _Names:
    """What is printed for PCs: functions, or lines."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.symbols = vmlinux.symbols()
        self._shown: dict[int, str] = {}
        self._debug = None
        if options.lines or options.vmlinux:
            named = options.vmlinux
            self._debug = vmlinux.checked(Vmlinux(named)) if named else vmlinux.find()
            if self._debug is None:
                raise KcovError(
                    ENOENT, "trace: --lines needs the vmlinux of this kernel: --vmlinux FILE"
                )
        self.lines = options.lines

    def learn(self, pcs: Iterable[int]) -> None:
        """Look up what is new in these PCs, all at once."""
        new = set(pcs).difference(self._shown)
        if self.lines and self._debug is not None:
            for pc, frames in self._debug.resolve(new).items():
                if frames:
                    self._shown[pc] = f"{frames[0].file}:{frames[0].line}"
            new.difference_update(self._shown)
        for pc in new:
            symbol = self.symbols.symbol(pc)
            module = f"[{symbol.module}]" if symbol is not None and symbol.module else ""
            self._shown[pc] = f"{pc:#x}" if symbol is None else symbol.name + module

    def of(self, pcs: Iterable[int]) -> list[str]:
        """Return the names of these PCs, each once, in order; learn() comes first."""
        return list(dict.fromkeys(map(self._shown.__getitem__, pcs)))


class _Count:
    """The line of one call in the table of ``-c``."""

    def __init__(self) -> None:
        self.calls = self.pcs = 0
        self.names: set[str] = set()


class _Report:
    """Writes the calls as they come, or counts them."""

    def __init__(self, names: _Names, only: frozenset[str], out: TextIO, *, summary: bool) -> None:
        self._names = names
        self._only = only
        self._out = out
        self._calls = Calls(names.symbols)
        self._table: dict[str, _Count] | None = {} if summary else None

    def run(self, command: Command) -> None:
        """Report all that the command does, until it has ended."""
        for part in command.parts():
            self._report(self._calls.feed(part))
        self._report([self._calls.end()])
        for part in command.remote_parts():
            self._report([Call("remote", [*part])])
        if self._table is not None:
            self._write_table(self._table)
        if command.lost:
            self._write("pykcov: an area was full, and what came then is lost: see --area-size")

    def _report(self, calls: Iterable[Call]) -> None:
        # What comes before the first call was the end of pykcov's own work.
        wanted = [call for call in calls if call.name and self._is_wanted(call.name)]
        self._names.learn(pc for call in wanted for pc in call.pcs)
        for call in wanted:
            found = self._names.of(call.pcs)
            if self._table is None:
                self._write(" ".join([f"{call.name}:", *found]))
            else:
                row = self._table.setdefault(call.name, _Count())
                row.calls += 1
                row.pcs += len(call.pcs)
                row.names.update(found)

    def _is_wanted(self, name: str) -> bool:
        return not self._only or name in self._only or name == "remote"

    def _write_table(self, table: dict[str, _Count]) -> None:
        ordered = sorted(table.items(), key=lambda item: -item[1].pcs)
        rows = [(name, str(row.calls), str(row.pcs), str(len(row.names))) for name, row in ordered]
        what = "lines" if self._names.lines else "functions"
        for line in plain([("call", "calls", "PCs", what), None, *rows]):
            self._write(line)

    def _write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the program goes on without a reader
            print(printable(line), file=self._out, flush=True)


@contextlib.contextmanager
def _output(name: str | None) -> Iterator[TextIO]:
    if name is None:
        if sys.stderr is None:
            raise KcovError(EBADF, f"trace: standard error: {os.strerror(EBADF)}")
        yield sys.stderr
        return
    try:
        file = open(name, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise KcovError(error.errno or EIO, f"trace: {name}: {error.strerror}") from None
    try:
        yield file
    finally:
        with contextlib.suppress(BrokenPipeError):
            file.close()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "pykcov trace",
        usage="pykcov trace [options] [--] COMMAND [ARGS...]",
        description="Run any program under the kernel's kcov, and print for each of its system calls what the "
        "kernel executed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--lines", action="store_true", help="print lines of the source, file:line, not functions"
    )
    parser.add_argument(
        "-c",
        "--summary",
        action="store_true",
        help="print only a table: how often each call was made, its PCs, its distinct functions",
    )
    parser.add_argument(
        "-e",
        dest="calls",
        action="extend",
        type=calls,
        default=[],
        metavar="CALLS",
        help="only these system calls; a,b or repeated",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write there, by default to standard error"
    )
    parser.add_argument(
        "--remote",
        action=_AddRemote,
        type=remote,
        metavar="usb:N|common",
        help="also what background threads of the kernel do for USB bus N, or for the program; repeatable",
    )
    parser.add_argument(
        "--vmlinux", metavar="FILE", help="the running kernel's, with debug information"
    )
    parser.add_argument(
        "--area-size",
        type=area_size,
        default=AREA_SIZE,
        metavar="WORDS",
        help="words of 8 bytes that the kernel can record ahead; default: %(default)s",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


class _AddRemote(argparse.Action):
    """Joins what several --remote ask for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, Remote)
        before: Remote = namespace.remote or Remote()
        handles = tuple(dict.fromkeys((*before.handles, *values.handles)))
        namespace.remote = Remote(handles, before.common or values.common)


# argparse puts the names of these into its messages: "invalid remote value: 'x'".


def calls(text: str) -> list[str]:
    return [name for word in text.removeprefix("trace=").split(",") if (name := word.strip())]


def remote(text: str) -> Remote:
    if text == "common":
        return Remote(common=True)
    kind, _, number = text.partition(":")
    bus = int(number, 0)
    if kind != "usb" or not 0 <= bus <= INSTANCE_MASK:
        raise ValueError
    return Remote((remote_handle(SUBSYSTEM_USB, bus),))


def area_size(text: str) -> int:
    number = int(text, 0)
    if not 2 <= number <= MAX_SIZE:
        raise ValueError
    return -(-number // 512) * 512  # whole pages
