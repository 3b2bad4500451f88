"""The command ``pykcov``: one module per subcommand, each with ``main(argv) -> exit status``, or Stop.

What a user got wrong is one line on standard error (options: below their usage) and exit status 2,
never a traceback.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ..errors import KcovError
from .streams import Stop, discard_output, say, standard_output

__all__ = ["main"]

COMMANDS = ("run", "report", "diff", "html", "ls", "trace", "doctor")

HELP = """\
usage: pykcov run [options] (SCRIPT | -m MODULE) [ARGS...]
       pykcov report [--format FORMAT] [options] [FILE...]
       pykcov diff [options] A B
       pykcov html [-o FILE] [FILE...]
       pykcov ls [--sections] [--watch [SECONDS]]
       pykcov trace [options] [--] COMMAND [ARGS...]
       pykcov doctor [--clean]

pykcov records which lines of a Python program were executed, in order: by the whole program, by one
thread or asyncio task, or by one request and whatever threads work for it.

  run      run a program as `python` would, write its trace and print a summary
  report   print what traces hold, or write it for coverage.py, lcov, Cobertura, Perfetto, as JSON
  diff     print what one trace executed that another one did not
  html     write one page: sources, and which line was executed for which handle, by which thread
  ls       show the devices that are open now: owner, handles, open sections, fill, drops
  trace    run any program under the kernel's kcov: what the kernel did for each system call
  doctor   say which probe is in use and why, what devices are open, and what is stale

`pykcov COMMAND --help` explains a command.  `pykcov --version` prints the version.

examples:
  pykcov run prog.py input.txt          everything that prog.py executes, into pykcov.trace
  pykcov run -m pytest tests            a module, as `python -m`
  pykcov run --source src --branch -o one.trace prog.py
                                        only files below src, with the arms that branches take
  pykcov report one.trace               the table of files
  pykcov report one.trace --pcs | head  the first PCs, where they are in the source, in order
  pykcov report one.trace two.trace --format coverage
                                        a .coverage with a context for each of them
  pykcov ls --watch                     the devices of all processes, every 2 seconds
"""

SIGPIPE_STATUS = 128 + 13  # what a shell shows for a program that a closed pipe has ended
INTERRUPT_STATUS = 128 + 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status; ``argv`` is by default sys.argv[1:].

    ``run`` may also end with KeyboardInterrupt, when the program that it ran did.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    try:
        return _run(command, arguments[1:])
    except Stop as stop:
        return stop.status
    except KcovError as error:
        say(f"pykcov: {error.strerror or error}")
        return 2
    except BrokenPipeError:  # `| head` has what it wanted
        discard_output()
        return SIGPIPE_STATUS
    except KeyboardInterrupt:
        if command == "run":
            raise
        return INTERRUPT_STATUS


def _run(command: str, arguments: list[str]) -> int:
    if command in COMMANDS:
        module = importlib.import_module(f"{__name__}.{command}")
        status: int = module.main(arguments)
        return status
    if command in ("-h", "--help", "help"):
        with standard_output("help") as out:
            out.write(HELP)
        return 0
    if command in ("-V", "--version"):
        from .. import __version__

        with standard_output("version") as out:
            out.write(f"pykcov {__version__}\n")
        return 0
    say(f"pykcov: no such command: {command!r} (see pykcov --help)" if command else HELP[:-1])
    return 2
