"""Lines without LINE events: INSTRUCTION, BRANCH and JUMP give the same sequence."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pykcov.probes import places
from pykcov.probes.monitoring import by_instruction
from unit import programs
from unit.watching import MONITORING, Line, codes_of, lines_of, monitoring, steps_of

if not MONITORING:
    pytest.skip("3.11 has no sys.monitoring, and needs no steps", allow_module_level=True)

Run = Callable[[], object]
Prepare = Callable[[], tuple[list[types.CodeType], places.Source | None, Run]]


def sequences(prepare: Prepare) -> tuple[list[Line], list[Line]]:
    """Return the lines that a program gives by LINE events and by steps, each time made anew."""
    found = []
    for watch in (lines_of, steps_of):
        codes, source, run = prepare()
        seen: list[Line] = []
        tables = {code: places.line_table(code, source) for code in codes}
        with watch(tables, seen):
            run()
        found.append(seen)
    return found[0], found[1]


def program(text: str, *calls: tuple[Any, ...], identity: bool = False) -> Prepare:
    """A text whose `f` is called with arguments; with `identity` each line counts."""

    def prepare() -> tuple[list[types.CodeType], places.Source | None, Run]:
        module = compile(text, "x.py", "exec", dont_inherit=True)
        names: dict[str, Any] = {"__name__": "program"}

        def run() -> None:
            exec(module, names)
            for arguments in calls:
                with contextlib.suppress(Exception):
                    names["f"](*arguments)

        return list(codes_of(module)), None if identity else places.analyse(text), run

    return prepare


def test_every_construct_gives_the_lines_that_line_events_give() -> None:
    lines, steps = sequences(program(programs.CONSTRUCTS + "\nf = main\n", ()))
    assert len(lines) > 600
    assert steps == lines


def test_a_long_function_gives_the_lines_that_line_events_give() -> None:
    text = programs.long_function() + "f = long\n"
    code = next(c for c in codes_of(compile(text, "x", "exec")) if c.co_name == "long")
    assert by_instruction(code)
    lines, steps = sequences(program(text, (0,), (1,), (2,), (5,)))
    assert len(lines) > 6000
    assert steps == lines


def test_modules_give_the_lines_that_line_events_give() -> None:
    def prepare() -> tuple[list[types.CodeType], places.Source | None, Run]:
        codes = programs.compiled(("json.decoder", *programs.MODULES[1:]))

        def run() -> None:
            with programs.private_copies(codes) as modules:
                programs.work(modules)

        return [each for code in codes.values() for each in codes_of(code)], None, run

    lines, steps = sequences(prepare)
    assert len(lines) > 15_000
    # With no source each line counts, and some jump within a statement on several lines (see below).
    more = Counter(steps) - Counter(lines)
    assert Counter(lines) - Counter(steps) == Counter()
    assert sum(more.values()) < len(lines) // 100
    repeated = {line[:2] for line in more}
    assert [line for line in steps if line[:2] not in repeated] == [
        line for line in lines if line[:2] not in repeated
    ]


ONE_LINE_LOOPS = """\
    def f(n, o):
        i = n
        while i: i -= 1
        for j in range(n): k = j
        while n:
            n -= 1
            for j in range(n): continue
        x = [j
             for j in range(3)]
        try: raise o
        except: pass
        return x
"""


def test_a_loop_on_one_line_gives_its_line_when_it_is_entered() -> None:
    text = textwrap.dedent(ONE_LINE_LOOPS)
    for identity in (True, False):
        lines, steps = sequences(program(text, (3, KeyError), identity=identity))
        assert steps == lines


# -- the two exceptions that steps() names


def test_a_loop_on_one_line_behind_what_may_raise_gives_its_line_at_each_return() -> None:
    text = "def f(o):\n    o.x = 3\n    while o.x: o.x -= 1; continue\n"
    lines, steps = sequences(program(text, (types.SimpleNamespace(),)))
    assert [line for _, _, line in lines][-2:] == [2, 3]
    assert [line for _, _, line in steps][-5:] == [2, 3, 3, 3, 3]


def test_an_exception_in_the_header_of_a_with_gives_the_header_again() -> None:
    text = (
        "import contextlib\n"
        "def f():\n"
        "    with contextlib.suppress(KeyError), {}['x']:\n"
        "        pass\n"
    )
    lines, steps = sequences(program(text, ()))
    assert [line for _, _, line in lines][-1:] == [3]
    assert [line for _, _, line in steps][-2:] == [3, 3]
    body = text.replace(", {}['x']", "").replace("pass", "raise KeyError")
    lines, steps = sequences(program(body, ()))
    assert steps == lines
    assert [line for _, _, line in lines][-3:] == [3, 4, 3]


def test_nothing_is_given_that_does_not_happen() -> None:
    text = "def f(o):\n    o()\n    while o: o = 0\n"
    lines, steps = sequences(program(text, (print,), (1,)))
    assert [line for _, _, line in steps] == [line for _, _, line in lines] == [1, 2, 3, 2]


# -- what the interpreter does


def instructions_of(
    function: types.FunctionType, disabled: Callable[[int], bool] = lambda _: False
) -> Callable[[], list[int]]:
    seen: list[int] = []

    def instruction(code: types.CodeType, offset: int) -> object:
        seen.append(offset)
        return sys.monitoring.DISABLE if disabled(offset) else None

    def once() -> list[int]:
        seen.clear()
        function(1)
        return list(seen)

    sys.monitoring.register_callback(3, sys.monitoring.events.INSTRUCTION, instruction)
    return once


def sample(x: int) -> int:
    y = x + 1
    z = y * 2
    return z


@pytest.fixture
def tool() -> Any:
    """Two tool ids, the second of another tool."""
    monitoring_ = sys.monitoring
    for number in (3, 4):
        monitoring_.use_tool_id(number, "test")
    yield monitoring_
    for number in (3, 4):
        monitoring_.set_local_events(number, sample.__code__, 0)
        monitoring_.register_callback(number, monitoring_.events.INSTRUCTION, None)
        monitoring_.register_callback(number, monitoring_.events.PY_START, None)
        monitoring_.free_tool_id(number)
    sample.__code__ = sample.__code__.replace()  # with no instrumentation left


def test_instructions_are_disabled_one_by_one_until_their_events_are_set_anew(tool: Any) -> None:
    events = tool.events
    chosen: set[int] = set()
    once = instructions_of(sample, lambda offset: offset in chosen)
    tool.set_local_events(3, sample.__code__, events.INSTRUCTION)
    every = once()
    chosen = set(every[1:3])
    once()
    assert once() == [offset for offset in every if offset not in chosen]
    tool.set_local_events(3, sample.__code__, events.INSTRUCTION)  # the same again
    assert once() == [offset for offset in every if offset not in chosen]
    chosen = set()
    tool.set_local_events(3, sample.__code__, 0)
    tool.set_local_events(3, sample.__code__, events.INSTRUCTION)
    assert once() == every


def test_another_tool_takes_instruction_events_away_until_they_are_set_anew(tool: Any) -> None:
    """cpython#157900: the two have an event in common. If this fails, the interpreter is cured."""
    events = tool.events
    once = instructions_of(sample)
    tool.register_callback(3, events.PY_START, lambda *_: None)
    tool.register_callback(4, events.PY_START, lambda *_: None)
    tool.set_local_events(3, sample.__code__, events.INSTRUCTION | events.PY_START)
    every = once()
    tool.set_local_events(4, sample.__code__, events.PY_START)
    assert every and once() == []
    tool.set_local_events(3, sample.__code__, 0)
    tool.set_local_events(3, sample.__code__, events.INSTRUCTION | events.PY_START)
    assert once() == every


def test_instruction_events_of_two_tools_once_seen_survive_any_other(tool: Any) -> None:
    events = tool.events
    code = sample.__code__
    once = instructions_of(sample)
    tool.register_callback(3, events.PY_START, lambda *_: None)
    tool.register_callback(4, events.PY_START, lambda *_: None)
    # Two tools at once: the interpreter makes the array of tools by instruction, and keeps it.
    tool.set_local_events(4, code, events.INSTRUCTION)
    tool.set_local_events(3, code, events.INSTRUCTION)
    tool.set_local_events(4, code, 0)
    tool.set_local_events(3, code, 0)
    tool.set_local_events(3, code, events.INSTRUCTION | events.PY_START)
    every = once()
    tool.set_local_events(4, code, events.PY_START)
    assert every and once() == every
    tool.set_local_events(4, code, 0)
    assert once() == every


def test_a_line_event_of_a_function_on_one_line_needs_py_start() -> None:
    """On 3.13.0 a RESUME that is not instrumented hides the line event behind it."""
    names = sys.monitoring.events
    for extra in (0, names.PY_START):
        function = eval("lambda x: x + 1")
        function(1)
        seen: list[int] = []
        callbacks = {names.LINE: lambda _, line: seen.append(line), names.PY_START: lambda *_: None}  # noqa: B023
        with monitoring([function.__code__], names.LINE | extra, callbacks):
            for _ in range(3):
                function(1)
        assert len(seen) == (3 if extra else 0 if sys.version_info >= (3, 13) else 3)
