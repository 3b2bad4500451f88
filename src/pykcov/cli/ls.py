"""``pykcov ls``: the live devices of the namespace, or their open sections, once or again and again."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TextIO

from .. import listing
from ..errors import KcovError
from ..listing import Listing, LiveDevice, OpenSection
from ..report.text import encodable, plain, printable
from .streams import Parser, standard_output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["main"]

INTERVAL = 2.0
SHORTEST, LONGEST = 0.1, 86400.0
_SHOWN = 3  # handles of a device; how many more there are is a number
_PROGRAM = 80  # characters of a command line

EPILOG = """\
One line for each device that is open in the namespace (PYKCOV_NAMESPACE):

  device    its number
  mode      DISABLED has no area yet, INIT is not enabled, TRACE_PC collects
  owner     the process that enabled it, or else opened it
  sections  sections that record for it now, in any process
  waiting   areas that it takes at its next read: full ones, and those of processes that died
  used      words of records in its area, out of size - 1; fill is that in percent
  dropped   events that did not fit
  handles   the first ones, and how many more; - for none, as when it collects its own task
  program   the owner's command line; (gone) if it died: `pykcov doctor --clean` frees the device

With --sections, one line for each section instead. Its state: open; over, its device was disabled
meanwhile; parked, its area was full and waits; left, its process died; damaged, the file is not
what pykcov wrote.

Two spaces or more separate the columns, and no cell has two in a row; - is an empty cell. Looking
changes nothing, and nobody waits for it. The exit status is 0, also if nothing is open; 2 if the
namespace cannot be used.

examples:
  pykcov ls                             what is open now
  pykcov ls --watch 0.5                 again every half second, until Ctrl-C
  pykcov ls --sections | grep 0x42      who works for handle 0x42 now
"""


def main(argv: Sequence[str]) -> int:
    """Return 0; Stop for wrong usage, KcovError if the namespace cannot be used."""
    parser = Parser(
        "pykcov ls",
        description="Show the live devices of the namespace: owner, handles, open sections, fill, drops.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sections", action="store_true", help="list the open sections, one per line"
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=INTERVAL,
        metavar="SECONDS",
        help=f"show it again every SECONDS (default: {INTERVAL:g}), until Ctrl-C",
    )
    options = parser.parse_args(argv)
    view = _sections if options.sections else _devices
    found = listing.read()
    if options.watch is None:
        with standard_output("ls") as out:
            _print(view(found), out)
        return 0
    with standard_output("ls") as out:
        _watch(found, view, options.watch, out)


def seconds(text: str) -> float:
    """Return an interval, in seconds."""
    number = float(text)
    if not SHORTEST <= number <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text}: from {SHORTEST:g} seconds to a day")
    return number


class _View(NamedTuple):
    """A table, or where there are no rows a sentence; ``left`` are the columns that are aligned left."""

    sentence: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: tuple[int, ...]
    alarms: list[bool]  # rows that a person should look at

    def lines(self) -> list[str]:
        return plain([self.head, *self.rows], self.left) if self.rows else [self.sentence]


def _devices(found: Listing) -> _View:
    head = (
        "device", "mode", "owner", "sections", "waiting", "used", "size", "fill", "dropped", "handles",
        "program",
    )  # fmt: skip
    return _View(
        f"No device is open in {printable(found.path)}.",
        head,
        [_device(device) for device in found.devices],
        (0, 1, 9, 10),
        [device.dropped > 0 or device.damaged or not device.alive for device in found.devices],
    )


def _device(device: LiveDevice) -> tuple[str, ...]:
    used = fill = "-"
    if device.damaged:
        used = "damaged"
    elif device.used is not None:
        used = str(device.used)
        fill = f"{100 * device.used // device.capacity if device.capacity else 0}%"
    handles = [f"{handle:#x}" for handle in device.handles[:_SHOWN]]
    if len(device.handles) > _SHOWN:
        handles.append(f"+{len(device.handles) - _SHOWN}")
    return (
        str(device.number),
        device.mode,
        str(device.pid or "-"),
        str(device.sections),
        str(device.waiting),
        used,
        str(device.size or "-"),
        fill,
        str(device.dropped),
        ",".join(handles) or "-",
        _cell(device.program) if device.alive else "(gone)",
    )


def _sections(found: Listing) -> _View:
    head = (
        "device", "state", "pid", "tid", "handle", "records", "moved", "lost", "thread",
        "program",
    )  # fmt: skip
    return _View(
        f"No section is open in {printable(found.path)}.",
        head,
        [_section(section) for section in found.sections],
        (0, 1, 4, 8, 9),
        [section.state not in ("open", "parked") or section.lost > 0 for section in found.sections],
    )


def _section(section: OpenSection) -> tuple[str, ...]:
    is_known = section.device is not None
    return (
        str(section.device) if is_known else "-",
        section.state,
        str(section.pid),
        str(section.tid or "-"),
        f"{section.handle:#x}" if is_known else "-",
        *(
            str(number) if is_known else "-"
            for number in (section.records, section.moved, section.lost)
        ),
        _cell(section.thread),
        _cell(section.program) if section.alive else "(gone)",
    )


def _cell(text: str) -> str:
    """Return a text of somebody else's as one cell: no end of line, no two spaces in a row."""
    text = printable(" ".join(text.split()))
    return (text if len(text) <= _PROGRAM else text[: _PROGRAM - 3] + "...") or "-"


def _print(view: _View, out: TextIO) -> None:
    """Write the table once, with ``rich`` if a person looks and it is there."""
    console = _console(out)
    if console is None:
        out.write("".join(encodable(line, out) + "\n" for line in view.lines()))
    else:
        console.print(_styled(view, out), soft_wrap=True)


def _watch(
    found: Listing, view: Callable[[Listing], _View], seconds: float, out: TextIO
) -> NoReturn:
    """Show it again and again. Ends by KeyboardInterrupt, or BrokenPipeError."""
    frame = view(found)
    with _screen(out, seconds) as show:
        while True:
            show(frame)
            time.sleep(seconds)
            try:
                frame = view(listing.read())
            except KcovError as error:  # it may be mended while we look
                frame = _View(f"pykcov: {error.strerror or error}", (), [], (), [])


@contextlib.contextmanager
def _screen(out: TextIO, seconds: float) -> Iterator[Callable[[_View], None]]:
    """Give a function that shows a table in the place of the one before; in a pipe, after it."""
    if not out.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        with _discarded(out):
            yield _Appended(out)
        return
    console = _console(out)
    with _terminated():
        if console is None:
            yield lambda view: _redraw(view, seconds, out)
            return
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        # No thread of rich's own: what is not ours to draw stays as it is.
        with Live(
            console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as live:
            yield lambda view: live.update(
                Group(Text(_title(seconds), style="dim"), _styled(view, out)), refresh=True
            )


class _Appended:
    """Tables one after another, with an empty line between them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._between = ""

    def __call__(self, view: _View) -> None:
        lines = "".join(encodable(line, self._out) + "\n" for line in view.lines())
        self._out.write(self._between + lines)
        self._out.flush()
        self._between = "\n"


def _redraw(view: _View, seconds: float, out: TextIO) -> None:
    """Write the table at the top of the terminal, as much of it as fits."""
    try:
        columns, rows = os.get_terminal_size(out.fileno())
    except OSError:
        columns = rows = 0
    lines = [_title(seconds), *view.lines()][: (rows or 24) - 1]
    text = "".join(f"{encodable(line, out)[: columns or 80]}\x1b[K\n" for line in lines)
    out.write(f"\x1b[H{text}\x1b[J")
    out.flush()


def _title(seconds: float) -> str:
    return f"every {seconds:g} s, {time.strftime('%H:%M:%S')}; Ctrl-C ends"


@contextlib.contextmanager
def _discarded(out: TextIO) -> Iterator[None]:
    """At an interrupt drop what a slow reader has not taken: the exit would wait for it."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM end a redrawn terminal as it should be left: with a cursor."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _console(out: TextIO) -> Console | None:
    """Return what writes to a terminal, if it is one and ``rich`` is there: it knows NO_COLOR, TERM, the width."""
    if not out.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=out)


def _styled(view: _View, out: TextIO) -> RenderableType:
    """Return the same lines with styles. Text and not str: a program may be called [bold]."""
    from rich.text import Text

    head, *rows = [encodable(line, out) for line in view.lines()]
    text = Text(head, style="bold" if rows else "", overflow="fold")
    for row, alarm in zip(rows, view.alarms, strict=False):
        text.append("\n" + row, style="not bold red" if alarm else "not bold")
    return text
