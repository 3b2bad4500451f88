"""How pykcov speaks up: an error to who called a verb, a warning to who annotates, and the log."""

from __future__ import annotations

import os
import sys

from . import _recorder, late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from logging import Logger

__all__ = ["KcovError", "KcovWarning", "contain", "integer", "is_own", "listed", "log", "warn"]


class KcovError(OSError):
    """A verb could not do what was asked.

    ``errno`` is the kernel's for the same call in the same state (Linux 6.1; 524 is its internal
    ENOTSUPP, which kcov lets through). The text names the call, the state and the cause.
    """


class KcovWarning(RuntimeWarning):
    """Something is wrong with an annotation. Where the kernel has ``WARN_ON``, pykcov warns.

    An annotation never raises into the code that it annotates.
    """


_DEBUG = 10  # logging's
_HERE = os.path.dirname(__file__) + os.sep


def integer(call: str, what: str, value: object) -> int:
    """Return an argument that has to be an int. TypeError that says of which call, and what it is."""
    if not isinstance(value, int):
        raise TypeError(f"{call}: {what} has to be an int, not {type(value).__name__}")
    return value


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return what a message says of many: the first of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def warn(text: str) -> None:
    """Give a KcovWarning at the program's own line; never raise, not even where warnings are errors."""
    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        depth, frame = depth + 1, frame.f_back
    try:
        import warnings

        warnings.warn(text, KcovWarning, stacklevel=depth)
    except (KcovWarning, ImportError):  # an ImportError at the end of the interpreter
        # Not by logging: it would ask for the current thread, and at the end of one make a dummy.
        if sys.stderr is not None:
            sys.stderr.write(f"KcovWarning: {text}\n")


def is_own(error: BaseException) -> bool:
    """Tell whether pykcov has raised it: else it is a signal handler's that ran meanwhile, whatever its type."""
    walk = error.__traceback__
    while walk is not None and not isinstance(error, KcovError):
        name = walk.tb_frame.f_code.co_filename
        if not (name.startswith((_HERE, "<frozen ")) or late.is_library(name)):
            return False
        walk = walk.tb_next
    return isinstance(error, Exception)


def contain(error: BaseException) -> bool:
    """Tell whether an exception in an annotation or a callback is pykcov's own fault; then warn of it.

    Else it is the program's: a signal handler's that ran while pykcov did, KeyboardInterrupt.
    """
    if not is_own(error):
        return False
    if isinstance(error, KcovError):
        warn(f"events are lost: {error}")
        return True
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    warn(f"an error of pykcov's, some events may be lost: {error!r}{where}")
    return True


class _Log:
    """``logging.getLogger("pykcov")``, as far as the program has imported logging: else nobody asked for it."""

    def __init__(self) -> None:
        self._logger: Logger | None = None

    def debug(self, text: str, *args: object) -> None:
        """Say something at level DEBUG."""
        logger = self._logger
        if logger is None and "logging" in sys.modules and self._find():
            logger = self._logger
        if logger is not None and logger.isEnabledFor(_DEBUG):
            logger.debug(text, *args, stacklevel=2)

    def warning(self, text: str, *args: object) -> None:
        """Say something that is shown if nobody says otherwise."""
        if self._logger is None:
            late.load("logging")
            self._find()
        if self._logger is not None:
            self._logger.warning(text, *args, stacklevel=2)

    def _find(self) -> bool:
        logging = sys.modules.get("logging")
        # Not while it is being imported, and not a module of the program's that has the name.
        origin = getattr(getattr(logging, "__spec__", None), "origin", None)
        if logging is None or not late.is_library(str(origin)):
            return False
        if hasattr(logging, "getLogger"):
            self._logger = logging.getLogger("pykcov")
        return self._logger is not None


log = _Log()
_recorder.install(contain=contain, own=_HERE)
