"""What the interpreter reports of chosen code objects: the events that the tables of places.py are for."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pykcov.probes import places

MONITORING = sys.version_info >= (3, 12)


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


@contextmanager
def monitoring(
    codes: list[types.CodeType], events: int, callbacks: Mapping[int, Callable[..., Any]]
) -> Iterator[None]:
    """Let events of code objects go to callbacks; those that cannot be local are global."""
    names = sys.monitoring.events
    everywhere = names.EXCEPTION_HANDLED | names.PY_RESUME
    tool = next(number for number in (3, 4, 0, 1) if sys.monitoring.get_tool(number) is None)
    sys.monitoring.use_tool_id(tool, "test")
    try:
        for event, callback in callbacks.items():
            sys.monitoring.register_callback(tool, event, callback)
        for code in codes:
            sys.monitoring.set_local_events(tool, code, events & ~everywhere)
        sys.monitoring.set_events(tool, events & everywhere)
        yield
    finally:
        sys.monitoring.set_events(tool, 0)
        for code in codes:
            sys.monitoring.set_local_events(tool, code, 0)
        for event in callbacks:
            sys.monitoring.register_callback(tool, event, None)
        sys.monitoring.free_tool_id(tool)


@contextmanager
def tracing(trace: Callable[..., Any]) -> Iterator[None]:
    old = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(old)


@contextmanager
def arms_of(tables: Mapping[types.CodeType, places.Arms], seen: list[places.Arm]) -> Iterator[None]:
    """Append the arms that happen in some code objects, in order."""
    if not MONITORING:
        with tracing(_opcode_tracer(tables, seen)):
            yield
        return

    def branched(code: types.CodeType, offset: int, destination: int) -> None:
        branch = tables[code].branches.get(offset)
        if branch is not None:
            seen.extend(outcome(branch, destination))

    def handled(code: types.CodeType, offset: int, error: BaseException) -> None:
        arm = tables[code].handlers.get(offset) if code in tables else None
        if arm is not None:
            seen.append(arm)

    names = sys.monitoring.events
    callbacks = {names.BRANCH: branched, names.EXCEPTION_HANDLED: handled}
    with monitoring(list(tables), names.BRANCH | names.EXCEPTION_HANDLED, callbacks):
        yield


def outcome(branch: places.Branch, destination: int) -> list[places.Arm]:
    if destination == branch.fall:
        return [branch.not_taken] if branch.not_taken is not None else []
    assert destination == branch.target
    return [*([branch.taken] if branch.taken is not None else []), *branch.implied]


def _opcode_tracer(
    tables: Mapping[types.CodeType, places.Arms], seen: list[places.Arm]
) -> Callable[..., Any]:
    waiting: dict[types.FrameType, places.Branch] = {}

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        table = tables.get(frame.f_code)
        if table is None:
            return None
        frame.f_trace_opcodes = True
        if event == "return":
            waiting.pop(frame, None)
        elif event == "opcode":
            branch = waiting.pop(frame, None)
            if branch is not None and frame.f_lasti in (branch.fall, branch.target):
                seen.extend(outcome(branch, frame.f_lasti))
            if frame.f_lasti in table.handlers:
                seen.append(table.handlers[frame.f_lasti])
            if frame.f_lasti in table.branches:
                waiting[frame] = table.branches[frame.f_lasti]
        return trace

    return trace


class Program:
    """A text whose function `f` is called under observation."""

    def __init__(self, text: str) -> None:
        self.text = textwrap.dedent(text)
        self.source = places.analyse(self.text, branch=True)
        module = compile(self.text, "x.py", "exec", dont_inherit=True)
        self.tables = {code: places.arms(code, self.source) for code in codes_of(module)}
        self.names: dict[str, Any] = {}
        exec(module, self.names)

    def run(self, *args: Any) -> list[tuple[str, str]]:
        seen: list[places.Arm] = []
        with arms_of(self.tables, seen), contextlib.suppress(Exception):
            self.names["f"](*args)
        return [(self.text_of(arm), arm.what) for arm in seen]

    def text_of(self, arm: places.Arm) -> str:
        """Return what the arm's position has, of several lines only the first; columns are bytes."""
        line = self.text.splitlines()[arm.line - 1].encode()
        end = arm.end_column if arm.end_line == arm.line else len(line)
        return line[arm.column : end].decode() or f"line {arm.line}"


Line = tuple[str, int, int]


@contextmanager
def lines_of(
    tables: Mapping[types.CodeType, Mapping[int, int]], seen: list[Line]
) -> Iterator[None]:
    """Append the lines that LINE events give, through the tables: qualified name, first line, line."""

    def line(code: types.CodeType, number: int) -> None:
        recorded = tables[code].get(number, 0)
        if recorded:
            seen.append((code.co_qualname, code.co_firstlineno, recorded))

    names = sys.monitoring.events
    # As the probes have it. Without PY_START 3.13.0 gives no LINE event to a function on one line.
    events = names.LINE | names.PY_START | names.PY_RESUME
    ignored = {names.PY_START: _ignore, names.PY_RESUME: _ignore}
    with monitoring(list(tables), events, {names.LINE: line, **ignored}):
        yield


@contextmanager
def steps_of(
    tables: Mapping[types.CodeType, Mapping[int, int]], seen: list[Line]
) -> Iterator[None]:
    """Append the lines that INSTRUCTION, BRANCH and JUMP events give, with steps()."""
    steps = {code: places.steps(code, table) for code, table in tables.items()}

    def note(code: types.CodeType, line: int) -> None:
        if line:
            seen.append((code.co_qualname, code.co_firstlineno, line))

    def instruction(code: types.CodeType, offset: int) -> object:
        line = steps[code].starts.get(offset, 0)
        note(code, line)
        return None if line else sys.monitoring.DISABLE

    def jumped(code: types.CodeType, offset: int, destination: int) -> object:
        jump = steps[code].jumps.get(offset)
        if jump is None:
            return sys.monitoring.DISABLE
        fall, taken, not_taken = jump
        note(code, not_taken if destination == fall else taken)
        return None

    names = sys.monitoring.events
    callbacks = {
        names.INSTRUCTION: instruction,
        names.BRANCH: jumped,
        names.JUMP: jumped,
        names.PY_START: _ignore,
        names.PY_RESUME: _ignore,
    }
    events = names.INSTRUCTION | names.BRANCH | names.JUMP | names.PY_START | names.PY_RESUME
    with monitoring(list(tables), events, callbacks):
        yield


def _ignore(*arguments: object) -> None:
    pass
