"""Work that produces events: functions whose every step is known beforehand.

A device that is opened with `include=[work.FILE]` records these functions and nothing of the test
that calls them, so a test can say which steps it expects and not only that there are some. The
kernel's device records the calls of marks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from conformance import marks

FILE: str = __file__


class Step(NamedTuple):
    """One event, as a person would say it: the function's entry, a line of it, or its system call."""

    kind: str
    function: str
    line: int


def one() -> int:
    return marks.mark(1)


def two(value: int = 1) -> int:
    value += marks.mark(2)
    return value


def three() -> str:
    text = "a" * marks.mark(3)
    text += "b"
    return text


def nested() -> int:
    value = one()
    return two(value)


def loop(times: int) -> int:
    total = 0
    for number in range(times):
        total += number
    return total


def either(flag: bool) -> str:
    if flag:
        return "yes"
    return "no"


def equal(value: int) -> bool:
    return value == 5


def differ(text: str) -> bool:
    return text != "something longer"


def compares(value: int = 5, text: str = "") -> bool:
    return value == 5 or text != "something longer"


def fails() -> None:
    try:
        raise KeyError("on purpose")
    except KeyError:
        two()


def _steps(function: Callable[..., Any], *offsets: int) -> list[Step]:
    """The entry of `function` and its lines, counted from its `def` line."""
    first = function.__code__.co_firstlineno
    name = function.__qualname__
    return [
        Step("entry", name, first),
        *(Step("line", name, first + offset) for offset in offsets),
    ]


def lines_of(function: Callable[..., Any], argument: Any = None) -> list[Step]:
    """The exact steps of one call of a function of this module, as pykcov records them."""
    if function is one:
        return _steps(one, 1)
    if function is two:
        return _steps(two, 1, 2)
    if function is three:
        return _steps(three, 1, 2, 3)
    if function is nested:
        entry, first, last = _steps(nested, 1, 2)
        return [entry, first, *lines_of(one), last, *lines_of(two)]
    if function is loop:  # the head of the loop is reached once more than its body
        return _steps(loop, 1, *(2, 3) * argument, 2, 4)
    if function is equal:
        return _steps(equal, 1)
    if function is either:
        return _steps(either, 1, 2 if argument else 3)
    if function is fails:
        return [*_steps(fails, 1, 2, 3, 4), *lines_of(two)]
    raise LookupError(f"no steps are known for {function!r}")


def calls_of(function: Callable[..., Any], argument: Any = None) -> list[Step]:
    """The system calls of one call of such a function, as the kernel records them."""
    makes = {one: (1,), two: (2,), three: (3,), nested: (1, 2), fails: (2,)}
    return [call(number) for number in makes.get(function, ())]


def call(number: int) -> Step:
    return Step("call", f"mark {number}", 0)


steps_of = calls_of if marks.DEVICE else lines_of


def steps(*functions: Callable[..., Any]) -> list[Step]:
    """The exact steps of these functions, called without arguments one after the other."""
    return [step for function in functions for step in steps_of(function)]
