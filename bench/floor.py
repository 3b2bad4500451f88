"""The floor: what the interpreter's events cost when a C callback does nothing.

3.12 and later: PY_START and LINE of sys.monitoring, set locally on the measured code objects. 3.11: a trace
function set with PyEval_SetTrace, in the calling thread.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

MONITORING = sys.version_info >= (3, 12)


def build(directory: Path) -> Path:
    """Compile the callbacks, as the recorder is compiled; return the extension's path."""
    made = directory / f"_floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    subprocess.run(
        [
            *compiler, "-O3", "-std=c11", "-fPIC", "-shared", "-Wall", "-Wextra", f"-I{include}",
            str(Path(__file__).with_name("_floor.c")), "-o", str(made),
        ],
        check=True,
    )  # fmt: skip
    return made


class Floor:
    """The callbacks that do nothing, for the code objects of some modules."""

    def __init__(self, extension: Path, modules: list[ModuleType]) -> None:
        spec = importlib.util.spec_from_file_location("_floor", extension)
        assert spec is not None and spec.loader is not None
        self._c: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._c)
        self._codes = list(code_objects(modules))

    def on(self) -> None:
        """Begin. 3.11: in the calling thread."""
        if not MONITORING:
            self._c.trace(True)
            return
        monitoring = sys.monitoring
        events = monitoring.events.PY_START, monitoring.events.LINE
        self._tool = next(i for i in range(5, -1, -1) if monitoring.get_tool(i) is None)
        monitoring.use_tool_id(self._tool, "floor")
        for event in events:
            monitoring.register_callback(self._tool, event, self._c.callback)
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, events[0] | events[1])

    def off(self) -> None:
        """End."""
        if not MONITORING:
            self._c.trace(False)
            return
        for code in self._codes:
            sys.monitoring.set_local_events(self._tool, code, 0)
        for event in (sys.monitoring.events.PY_START, sys.monitoring.events.LINE):
            sys.monitoring.register_callback(self._tool, event, None)
        sys.monitoring.free_tool_id(self._tool)


def code_objects(modules: list[ModuleType]) -> Iterator[CodeType]:
    """Yield the code of all functions that the modules define, and of those within these."""
    seen: set[CodeType] = set()
    for module in modules:
        for value in vars(module).values():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            members = vars(value).values() if isinstance(value, type) else [value]
            for member in members:
                function = getattr(member, "__func__", getattr(member, "fget", member))
                if isinstance(function, FunctionType):
                    yield from _and_within(function.__code__, seen)


def _and_within(code: CodeType, seen: set[CodeType]) -> Iterator[CodeType]:
    if code in seen:
        return
    seen.add(code)
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _and_within(constant, seen)
