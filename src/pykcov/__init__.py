"""pykcov: the coverage that one request, test or fuzz input causes, exactly that and nothing else.

A map of this folder:

    abi         every number that is the kernel's        errors      KcovError, KcovWarning
    device      open ... close: the state machine        remote      sections, and the move into a device
    task        the current task, what it inherits       collect     collect(): all of it in one `with`
    area        buffers of words, and their pool         registry    handle -> device, for all processes
    namespace   the shared files                         codemap     source file <-> PCs
    probes      an event becomes a PC                    scope       source=, include=, omit=
    trace       the result                               symbolize   PC -> Location
    reading     from an area to a Trace                  listing     what `pykcov ls` shows
    carry       a handle travels with the work           report, cli what one reads and types

`_recorder` is the hot path, in C: is this task collecting, append, count what did not fit.
"""

from __future__ import annotations

from .abi import SUBSYSTEM_COMMON, SUBSYSTEM_USB, TRACE_CMP, TRACE_PC, remote_handle
from .collect import collect
from .comparisons import Comparison
from .device import Device, open
from .errors import KcovError, KcovWarning
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
    "open",
    "remote",
    "remote_handle",
    "remote_start",
    "remote_stop",
    "symbolize",
]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Half of the time that importing pykcov would take, and each child process does.
    from importlib.metadata import version

    globals()[name] = found = version("pykcov")
    return found
