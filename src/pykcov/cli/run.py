"""``pykcov run``: run a program as ``python`` would, write its trace and print a summary.

The program must not notice. It gets the ``sys.argv``, ``sys.path[0]`` and ``__main__`` module that
the interpreter would have given it, its uncaught exception looks as it always does, and it ends
with its own exit status. What cannot be hidden: ``sys.orig_argv``, and the frames of this module
below the program's own in ``traceback.print_stack()``.
"""

from __future__ import annotations

import argparse
import atexit
import builtins
import contextlib
import os
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import (
    BuiltinImporter,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, NamedTuple, TextIO

from .. import namespace, report, wholefile
from ..abi import TRACE_CMP, TRACE_PC
from ..collect import collect
from ..errors import listed
from ..late import give_way
from ..probes import compiled
from ..probes.rewrite import Extent
from ..report.text import shown
from ..task import quiet
from ..trace import Trace
from .streams import Parser, say

if TYPE_CHECKING:
    from ..linux.background import Background

__all__ = ["DEFAULT_OUTPUT", "Target", "execute", "main"]

DEFAULT_OUTPUT = "pykcov.trace"
MODES = {"pc": TRACE_PC, "cmp": TRACE_CMP}

EPILOG = """\
SCRIPT is a file, a directory or zip file with a __main__.py, or - for standard input. What follows
SCRIPT or MODULE belongs to the program.

The trace is written when the program ends: after its other threads and its atexit handlers, and
also if it failed or was interrupted; not if there was no program to run. It is lost if the program
is killed or ends itself with os._exit() or exec(). The summary goes to standard error.
The exit status is the program's own; if that is 0 but the trace could not be written, it is 2.

examples:
  pykcov run prog.py --verbose          everything of your own that prog.py executes
  pykcov run --source src,lib -m app    only files below src and lib
  pykcov run --mode cmp prog.py         what its code compared: pykcov report --comparisons
  pykcov run --handle 0x42 server.py    also sections that other processes annotate with 0x42
"""


class Target(NamedTuple):
    """What to run: a module if ``is_module``, else a path or '-'; and the program's arguments."""

    name: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False


def main(argv: Sequence[str]) -> int:
    """Run ``pykcov run``: return the program's exit status, or 2 for a scope that means nothing.

    Stop for wrong usage; KeyboardInterrupt, already shown, if the program was interrupted.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    target = _target(parser, options)
    if options.mode == "cmp" and not options.compiled:
        parser.error("--mode cmp needs --compiled: the interpreter has no events for comparisons")
    if options.mode != "cmp" and (options.lookups or not options.methods):
        parser.error("--lookups and --no-methods say what is a comparison: with --mode cmp")
    if options.mode == "cmp" and options.kernel:
        parser.error("--kernel records PCs: not with --mode cmp")
    background = None
    if options.kernel:
        from ..linux import background as kernel

        background = kernel.around()
    try:
        recording = Recording(options, background)
    except ValueError as error:  # of --source, --include, --omit
        say(f"pykcov run: {error}")
        return 2
    try:
        recording.status = execute(target, recording.program)
    except KeyboardInterrupt:
        # It has been shown. Let the interpreter end as it does on Ctrl-C: by the signal, after its
        # clean-up.
        sys.excepthook = _show_nothing
        raise
    return recording.status


class Recording:
    """A collection around all that the program does until its last atexit handler."""

    def __init__(self, options: argparse.Namespace, background: Background | None) -> None:
        """Start to collect. KcovError if that, or to write the trace later, is impossible."""
        self.output = os.path.abspath(options.output)  # the program may change the directory
        self.root = os.getcwd()
        self.shown = None if options.quiet else sys.stderr  # the program may change that, too
        self.errors = sys.stderr
        self.compiled: bool = options.compiled
        self.process = os.getpid()
        self.program = _main_module()
        self.status = 1
        wholefile.check_writable(self.output, "Trace.save")
        self.open = contextlib.ExitStack()
        self.collection = collect(
            options.handle,
            source=options.source,
            include=options.include,
            omit=options.omit,
            branch=options.branch,
            mode=MODES[options.mode],
            kernel=options.kernel,
        )
        self.collection._background = background
        if options.compiled:
            extent = Extent(methods=options.methods, lookups=options.lookups)
            comparisons = extent if options.mode == "cmp" else None
            compiled.install(self.collection._scope, comparisons=comparisons)
        self.open.enter_context(self.collection)
        # At exit the interpreter waits for threads, then calls the atexit handlers from the last to
        # the first: the program's, then this one, then those of pykcov's own modules.
        atexit.register(self.finish)

    def finish(self) -> None:
        """Close the collection, write the trace, print the summary. Never raises."""
        if os.getpid() != self.process:
            return  # a forked child has come to the end: the trace is its parent's
        saved = False
        try:
            self.open.close()
            trace = self.collection.trace
            if not trace and not _has_begun(self.program):
                return  # it is not there, say: the trace of another run stays as it is
            try:
                trace.save(self.output)
                saved = True
            except OSError as error:
                say(f"pykcov: {error.strerror or error}", self.errors)
            if self.shown is not None:
                self._summarize(trace, self.shown, saved=saved)
        except BaseException as error:  # whatever the program did to the interpreter: one line
            if not saved:
                say(f"pykcov: no trace was written: {type(error).__name__}: {error}", self.errors)
        if not saved and self.status == 0:
            _exit_now(2)

    def _summarize(self, trace: Trace, out: TextIO, *, saved: bool) -> None:
        out.write("\n")
        report.summary({"": trace}, out, report.Options(root=self.root))
        if not trace:
            say("nothing that was executed is in scope: see --source and --include", out)
        elif trace.comparisons:
            say("pykcov report --comparisons shows what was compared", out)
        late = compiled.without_probes(self.collection._scope) if self.compiled else []
        if late:
            names = listed([shown(name, self.root) for name in late])
            say(f"recorded by event probes: {names}", out)
        if saved:
            say(f"trace written to {shown(self.output, self.root)}", out)


def execute(target: Target, program: ModuleType) -> int:
    """Run the target in this thread as the program of this process, in its ``__main__``, and return its exit status.

    An uncaught exception is shown as the interpreter shows it, without frames of pykcov.
    KeyboardInterrupt is shown likewise and raised again, for the interpreter to end by it. Threads
    and atexit handlers are left to the interpreter's own end.
    """
    sys.modules["__main__"] = program
    error: BaseException
    try:
        if target.is_module:
            _run_module(target)
        else:
            _run_path(target, program)
        return 0
    except SystemExit as stop:
        error = stop
    except BaseException as uncaught:
        error = uncaught
    # Outside of `except`, where a hook finds no exception being handled and its own gets no
    # context.
    if isinstance(error, SystemExit):
        return _exit_status(error)
    status = _show(error)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return status


def _run_module(target: Target) -> None:
    sys.argv = ["-m", *target.arguments]
    _set_path(os.getcwd())
    # What `python -m` itself calls, so that even the frames below the program are the same.
    runpy._run_module_as_main(target.name)  # type: ignore[attr-defined]


def _run_path(target: Target, program: ModuleType) -> None:
    sys.argv = [target.name, *target.arguments]
    path = os.path.join(os.getcwd(), target.name)
    if target.name != "-" and pkgutil.get_importer(path) is not None:  # a directory, a zip file
        _set_path(path, always=True)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    names = program.__dict__
    if target.name == "-":
        _set_path("")
        code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
        names.update(__loader__=BuiltinImporter, __file__="<stdin>", __cached__=None)
    else:
        _set_path(os.path.dirname(os.path.realpath(path)))
        loader = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
        code = _code(path)
        names.update(__loader__=loader("__main__", path), __file__=path, __cached__=None)
    exec(code, names)


def _code(path: str) -> CodeType:
    try:
        with open(path, "rb") as file:
            if path.endswith(".pyc"):
                code: CodeType | None = pkgutil.read_code(file)
                if code is None:
                    raise RuntimeError("Bad magic number in .pyc file")
                return code
            source = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        say(f"pykcov: can't open file {path!r}: {reason}")
        raise SystemExit(2) from None
    # Python compiles a script at each start, warns and finds errors; what is in the cache does neither.
    plain = compile(source, path, "exec", dont_inherit=True)
    with quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probed = compiled.code_of(path, source)
    return probed or plain


def _main_module() -> ModuleType:
    """Return a new ``__main__`` with the names, and their order, that the interpreter's own has."""
    program = ModuleType("__main__")
    program.__dict__.update(__annotations__={}, __builtins__=builtins)
    return program


def _has_begun(program: ModuleType) -> bool:
    """Tell whether its code was there: only then runpy, and what is above, give it a ``__file__``."""
    return "__file__" in vars(program)


def _set_path(entry: str, *, always: bool = False) -> None:
    """Put the program's entry of sys.path in the place of pykcov's; with -P there is none."""
    if not sys.flags.safe_path:
        sys.path[:1] = [entry]
    elif always:
        sys.path.insert(0, entry)
    else:
        return
    give_way([entry], sys.modules)


def _exit_status(stop: SystemExit) -> int:
    """Do what the interpreter does with an uncaught SystemExit."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    text = ""
    with contextlib.suppress(Exception):
        text = str(stop.code)
    say(text)
    return 1


def _show(error: BaseException) -> int:
    """Do what the interpreter does with an uncaught exception, but without our frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == _show.__code__.co_filename:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        say("sys.excepthook is missing")
        hook = sys.__excepthook__
    try:
        hook(type(error), error, trace)
        return 1
    except SystemExit as stop:
        return _exit_status(stop)
    except BaseException as failure:
        second = failure
    if second.__traceback__ is not None:
        second.__traceback__ = second.__traceback__.tb_next
    say("Error in sys.excepthook:")
    sys.__excepthook__(type(second), second, second.__traceback__)
    say("\nOriginal exception was:")
    sys.__excepthook__(type(error), error, trace)
    return 1


def _show_nothing(*_: object) -> None:
    pass


def _exit_now(status: int) -> None:
    """End with ``status`` out of an atexit handler, where nothing else changes the exit status."""
    namespace.leave()  # the one handler that was still to come and matters
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def _target(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Target:
    if options.module is not None:
        words, is_module = options.module, True
    else:
        words, is_module = options.program, False
        if words[:1] == ["--"]:
            words = words[1:]
    if not words:
        parser.error("a SCRIPT or -m MODULE is required")
    return Target(words[0], tuple(words[1:]), is_module)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "pykcov run",
        usage="pykcov run [options] (SCRIPT | -m MODULE) [ARGS...]",
        description="Run a program as `python` would, and record which of its lines were executed, "
        "in order.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add_names(option: str, text: str) -> None:
        parser.add_argument(
            option, action="extend", type=names, default=[], metavar="NAMES", help=text
        )

    add_names("--source", "record only these directories, packages or modules; a,b or repeated")
    add_names("--include", "record only files that match these patterns; a,b or repeated")
    add_names("--omit", "do not record files that match these patterns; a,b or repeated")
    parser.add_argument(
        "--branch", action="store_true", help="also record which arm each branch takes"
    )
    probe = parser.add_mutually_exclusive_group()
    probe.add_argument(
        "--compiled",
        action="store_true",
        default=True,
        help="compile what is imported with probes in it, the fastest way; event probes record other code "
        "(default)",
    )
    probe.add_argument(
        "--events",
        action="store_false",
        dest="compiled",
        help="change no code: let the interpreter's own events record all of it",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="pc",
        help="pc: lines and entries (default); cmp: which values are compared instead",
    )
    parser.add_argument(
        "--no-methods",
        action="store_false",
        dest="methods",
        help="with --mode cmp: not what methods like startswith() and regular expressions compare",
    )
    parser.add_argument(
        "--lookups", action="store_true", help="with --mode cmp: also d[k] and d.get(k)"
    )
    parser.add_argument(
        "--kernel",
        action="store_true",
        help="also record what the kernel does for the program, by its own kcov; needs root",
    )
    parser.add_argument(
        "--handle",
        action="append",
        type=handle,
        default=[],
        metavar="H",
        help="also record sections that are annotated with this handle, in any process; repeatable",
    )
    parser.add_argument(
        "-o", "--output", default=DEFAULT_OUTPUT, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print no summary")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


# argparse puts the names of these into its messages: "invalid handle value: 'x'".


def names(text: str) -> list[str]:
    return [name for word in text.split(",") if (name := word.strip())]


def handle(text: str) -> int:
    number = int(text, 0)
    if not 0 < number < 1 << 64:
        raise ValueError
    return number
