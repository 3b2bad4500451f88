"""Standard output and standard error, either of which may be closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from errno import EBADF
from typing import NoReturn, TextIO

from .. import wholefile
from ..errors import KcovError

__all__ = ["Parser", "Stop", "discard_output", "say", "standard_output"]


class Stop(Exception):
    """The end of a command that does not begin: all has been said. ``status``: 0 after --help, 2 after a mistake."""

    def __init__(self, status: int) -> None:
        self.status = status


class Parser(argparse.ArgumentParser):
    """The parser of a command, that says all as the command does, and then raises Stop.

    argparse ignores that the help cannot be written, and where standard error is closed writes to standard output.
    """

    def print_help(self, file: object = None) -> None:
        """Write the help to standard output, as --help asks for it. KcovError as ``standard_output``."""
        with standard_output(self.prog.rpartition(" ")[2]) as out:
            out.write(self.format_help())

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, as argparse does."""
        say(f"{self.format_usage()}{self.prog}: error: {message}")
        raise Stop(2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after --help."""
        raise Stop(status)


def say(text: str, stream: TextIO | None = None) -> None:
    """Write a line to standard error, or to what that was: it may be closed, and then nothing is said."""
    # Never print(file=None): that is standard output.
    stream = stream or sys.stderr or sys.__stderr__
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=stream, flush=True)


@contextlib.contextmanager
def standard_output(call: str) -> Iterator[TextIO]:
    """Give standard output, and see that all is written. KcovError if not, BrokenPipeError if nobody reads."""
    out = sys.stdout
    if out is None:
        raise KcovError(EBADF, f"{call}: standard output: {os.strerror(EBADF)}")
    try:
        yield out
        out.flush()
    except (KcovError, BrokenPipeError):
        raise
    except OSError as error:
        discard_output()
        raise wholefile.failed(call, "standard output", error) from error


def discard_output() -> None:
    """Let go nowhere what standard output still has: the interpreter flushes once more at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
