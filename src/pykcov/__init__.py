"""pykcov: the coverage that one request, test or fuzz input causes, exactly that and nothing else.

A map of this folder:

    abi         every number that is the kernel's        errors      KcovError, KcovWarning
    device      open ... close: the state machine        remote      sections, and the move into a device
    task        the current task, what it inherits       collect     collect(): all of it in one `with`
    area        buffers of words, and their pool         registry    handle -> device, for all processes
    directory   where the shared files are, kept open    namespace   who uses them, and their locks
    codemap     source file <-> PCs                      late        what is imported when it is needed
    gathering   what sections of others have left        scope       which files; choices: source=, include=, omit=
    probes      an event becomes a PC                    symbolize   PC -> Location
    instrument  compile modules with probes              inventory   what `pykcov doctor` shows
    trace       the result                               tracefile   its file
    arcs        from line to line, out of the order      calls       who called whom, likewise
    comparisons what was compared                        wholefile   written whole or not at all
    reading     from an area to a Trace                  listing     what `pykcov ls` shows
    carry       a handle travels with the work           report, cli what one reads and types
    linux       the kernel's own device                  closing     the end of a device

`_recorder` is the hot path, in C: is this task collecting, append, count what did not fit.

PYTEST_DONT_REWRITE: pytest warns of a plugin's package that is imported before pytest, unless that says so here.
"""

from __future__ import annotations

import sys

from .late import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .abi import SUBSYSTEM_COMMON, SUBSYSTEM_USB, TRACE_CMP, TRACE_PC, remote_handle
    from .collect import collect
    from .comparisons import Comparison
    from .device import Device, open
    from .errors import KcovError, KcovWarning
    from .instrument import instrument
    from .remote import remote, remote_start, remote_stop
    from .symbolize import Location, symbolize
    from .task import common_handle
    from .trace import Trace

    __version__: str

__all__ = [
    "SUBSYSTEM_COMMON",
    "SUBSYSTEM_USB",
    "TRACE_CMP",
    "TRACE_PC",
    "Comparison",
    "Device",
    "KcovError",
    "KcovWarning",
    "Location",
    "Trace",
    "__version__",
    "collect",
    "common_handle",
    "instrument",
    "open",
    "remote",
    "remote_handle",
    "remote_start",
    "remote_stop",
    "symbolize",
]


# Where they are: each is imported when it is first asked for (late.py says why).
_HOMES = {
    "SUBSYSTEM_COMMON": "abi",
    "SUBSYSTEM_USB": "abi",
    "TRACE_CMP": "abi",
    "TRACE_PC": "abi",
    "Comparison": "comparisons",
    "Device": "device",
    "KcovError": "errors",
    "KcovWarning": "errors",
    "Location": "symbolize",
    "Trace": "trace",
    "collect": "collect",
    "common_handle": "task",
    "instrument": "instrument",
    "open": "device",
    "remote": "remote",
    "remote_handle": "abi",
    "remote_start": "remote",
    "remote_stop": "remote",
    "symbolize": "symbolize",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        found = load("importlib.metadata").version("pykcov")
    elif name in _HOMES:
        found = getattr(load(f"pykcov.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(type(sys)):  # type: ignore[misc]
    """Keeps the public names: a file that has the name of one does not take its place when it is imported.

    A __getattr__ of this class instead of the module's would make each look-up of a name many times slower.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES or not isinstance(value, type(sys)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
