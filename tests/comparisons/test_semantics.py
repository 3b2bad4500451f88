"""What a comparison runs of the program, how often and in which order, is the same with probes as without."""

from __future__ import annotations

import asyncio
import gc
import pickle
import random
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pykcov
from compiling import Module

# -- objects that write down what they are asked


class Truth:
    """What a comparison returns that is no bool: NumPy's arrays, SQLAlchemy's expressions."""

    def __init__(self, log: list[str], name: str, value: bool | None) -> None:
        self.log, self.name, self.value = log, name, value

    def __bool__(self) -> bool:
        self.log.append(f"bool({self.name})")
        if self.value is None:
            raise ValueError(f"the truth of {self.name} is ambiguous")
        return self.value

    def __repr__(self) -> str:
        return self.name


class Thing:
    """Compares as it was told to, and tells."""

    def __init__(self, log: list[str], name: str, dice: random.Random) -> None:
        self.log, self.name, self.dice = log, name, dice

    def _answer(self, op: str, other: object) -> Any:
        shown = other.name if isinstance(other, Thing) else repr(other)
        self.log.append(f"{self.name} {op} {shown}")
        kind = self.dice.randrange(8)
        if kind == 0:
            raise KeyError(self.name)
        if kind == 1:
            return NotImplemented
        if kind <= 3:
            return Truth(self.log, f"({self.name} {op})", self.dice.choice([True, False, None]))
        return kind % 2 == 0

    def __eq__(self, other: object) -> Any:
        return self._answer("==", other)

    def __ne__(self, other: object) -> Any:
        return self._answer("!=", other)

    def __lt__(self, other: object) -> Any:
        return self._answer("<", other)

    def __gt__(self, other: object) -> Any:
        return self._answer(">", other)

    def __contains__(self, other: object) -> Any:
        return self._answer("has", other)

    def __hash__(self) -> int:
        self.log.append(f"hash({self.name})")
        return 7

    def __repr__(self) -> str:
        return self.name


class Writer:
    """Makes functions of a, b, c and d, which are Things."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def operand(self) -> str:
        return self.dice.choice([*"abcd", *"abcd", "7", "'k'", "g(a)"])

    def comparison(self) -> str:
        parts = [self.operand()]
        for _ in range(self.dice.choice([1, 1, 2, 3])):
            op = self.dice.choice(
                ["==", "!=", "<", ">", "==", "<", "in", "not in", "is not None <"]
            )
            right = (
                self.operand()
                if "in" not in op
                else self.dice.choice(["(a, b)", "{c}", "d", "[a, 7]"])
            )
            parts += [op, right]
        return " ".join(parts)

    def expression(self, depth: int) -> str:
        kind = self.dice.randrange(7) if depth else 0
        if kind <= 2:
            return f"({self.comparison()})"
        one, two = self.expression(depth - 1), self.expression(depth - 1)
        if kind == 3:
            return f"({one} {self.dice.choice(['and', 'or'])} {two})"
        if kind == 4:
            return f"(not {one})"
        if kind == 5:
            return f"({one} if {two} else {self.expression(0)})"
        return f"[{one}, {two}]"

    def function(self) -> str:
        lines = ["def f(a, b, c, d, g, r):"]
        for _ in range(self.dice.randint(1, 3)):
            test = self.expression(2)
            lines += self.dice.choice(
                [
                    [f"    r.append({test})"],
                    [f"    if {test}: r.append(1)", f"    else: r.append({self.comparison()})"],
                    [f"    assert {test}, r"],
                    [f"    r += [x for x in (a, b) if x != c and {test}]"],
                    [f"    while len(r) < 3 and {test}: r.append(2)"],
                    [
                        "    match a:",
                        "        case 7 | 'k': r.append(3)",
                        f"        case _ if {test}: r.append(4)",
                    ],
                    [f"    r.append({self.operand()} < {test} < 3)"],
                ]
            )
        return "\n".join([*lines, "    return r", ""])


def told(function: Callable[..., Any], seed: int) -> list[str]:
    """Everything that one call asks of its arguments, what it returns or raises, and from where."""
    log: list[str] = []
    dice = random.Random(seed)
    things = [Thing(log, name, dice) for name in "abcd"]

    def g(value: Thing) -> bool:
        log.append(f"g({value.name})")
        return bool(value < 3)

    result: list[Any] = []
    try:
        log.append(f"returns {function(*things, g, result)}")
    except Exception as error:
        log.append(f"raises {error!r}")
        # The lines too. Of a `not (a < b)` 3.13 underlines the whole.
        lines = traceback.format_exc().splitlines()[4:]
        log += [line for line in lines if "^" not in line]
    log.append(f"has {result}")
    return log


@pytest.mark.parametrize("block", range(4))
def test_random_objects_are_asked_the_same_questions_in_the_same_order(
    tmp_path: Path, block: int
) -> None:
    for seed in range(25 * block, 25 * block + 25):
        source = Writer(seed).function()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `'k' is not None`
            module = Module(tmp_path, source)
            plain: dict[str, Any] = {}
            exec(compile(source, str(module.__file__), "exec"), plain)
        for again in range(3):
            expected = told(plain["f"], again)
            assert told(module.f, again) == expected, f"seed {seed}, idle\n{source}"
            with module.collect() as c:
                assert told(module.f, again) == expected, f"seed {seed}\n{source}"
            assert c.trace.dropped == 0


# -- one by one


def test_an_array_is_compared_element_by_element(tmp_path: Path) -> None:
    class Array:
        def __init__(self, *values: int) -> None:
            self.values = values

        def __lt__(self, other: int) -> Array:
            return Array(*(value < other for value in self.values))

        def __bool__(self) -> bool:
            raise ValueError("the truth of an array is ambiguous")

    module = Module(tmp_path, "def f(x): return x < 5\ndef g(x): return 1 < x < 5\n")
    with module.collect() as c:
        assert module.f(Array(1, 9)).values == (True, False)
        with pytest.raises(TypeError):
            module.g(Array(1, 9))
    assert [one[:4] for one in c.trace.comparisons] == [
        ("<", ..., 5, "right"),
        ("<", 1, ..., "left"),
    ]


def test_a_comparison_that_compares_is_recorded_after_the_one_that_asked(tmp_path: Path) -> None:
    text = """
class Deep:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return self.n == 0 or Deep(self.n - 1) == other < 9
def f(n): return Deep(n) == 5
"""
    module = Module(tmp_path, text)
    with module.collect() as c:
        assert module.f(2) is True
    asked = ("==", ..., 5, "right")
    inner = ("==", ..., 5, "")
    assert [one[:4] for one in c.trace.comparisons] == [
        asked,
        ("==", 2, 0, "right"), inner,
        ("==", 1, 0, "right"), inner,
        ("==", 0, 0, "right"),
        ("<", 5, 9, "right"), ("<", 5, 9, "right"),
    ]  # fmt: skip


def test_endless_recursion_is_a_recursion_error(tmp_path: Path) -> None:
    module = Module(
        tmp_path, "class A:\n    def __eq__(self, x): return A() == x\ndef f(): return A() == 1\n"
    )
    with module.collect() as c, pytest.raises(RecursionError):
        module.f()
    assert len(c.trace.comparisons) > 100
    assert c.trace.dropped == 0


def test_an_operand_that_is_changed_while_it_is_compared_is_recorded_as_it_was(
    tmp_path: Path,
) -> None:
    class Evil:
        def __init__(self, victim: list[int]) -> None:
            self.victim = victim

        def __eq__(self, other: object) -> bool:
            self.victim.clear()
            return False

        __hash__ = None  # type: ignore[assignment]

    module = Module(tmp_path, "def f(x, y): return x in y\ndef g(x, y): return x == y\n")
    victim: list[Any] = [1, 2, 3]
    victim.append(Evil(victim))
    data = bytearray(b"0123456789")

    class Shrinks(bytes):
        def __eq__(self, other: object) -> bool:
            data.clear()
            return True

        __hash__ = bytes.__hash__

    with module.collect() as c:
        assert module.f(5, victim) is False
        assert module.g(Shrinks(b"ab"), data) is True
    assert [one[:3] for one in c.trace.comparisons] == [
        ("in", 5, 1), ("in", 5, 2), ("in", 5, 3), ("in", 5, ...), ("==", b"ab", b"0123456789"),
    ]  # fmt: skip
    assert victim == []


def test_descriptors_and_awaits_run_once(tmp_path: Path) -> None:
    text = """
class Later:
    def __get__(self, owner, kind):
        owner.asked += 1
        async def value(): return owner.asked
        return value()
class Owner:
    asked = 0
    later = Later()
async def f(owner):
    return 0 < await owner.later < 9, await owner.later == 2
"""
    module = Module(tmp_path, text)
    with module.collect() as c:
        assert asyncio.run(module.f(module.Owner())) == (True, True)
    assert [one[:3] for one in c.trace.comparisons] == [("<", 0, 1), ("<", 1, 9), ("==", 2, 2)]


def test_generators_suspended_in_the_middle_of_chains_do_not_mix(tmp_path: Path) -> None:
    module = Module(
        tmp_path, "def f(a):\n    r = a < (yield 1) < (yield 2) < (yield 3)\n    yield r\n"
    )
    with module.collect() as c:
        running = [module.f(n) for n in range(8)]
        for generator in running:
            next(generator)
        for step in (10, 20):
            for n, generator in enumerate(running):
                generator.send(step + n)
        assert [generator.send(30 + n) for n, generator in enumerate(running)] == [True] * 8
    assert len(c.trace.comparisons) == 24


def test_threads_in_the_middle_of_chains_do_not_mix(tmp_path: Path) -> None:
    module = Module(tmp_path, "def f(a, b, c):\n    return a < b < c\n")
    wrong: list[int] = []

    class Slow(int):
        def __lt__(self, other: int) -> bool:
            threading.Event().wait(0.0001)  # another thread runs
            return int(self) < int(other)

    def run(n: int) -> None:
        for i in range(200):
            if module.f(Slow(n), Slow(n + i), n + i + 1) is not (i > 0):
                wrong.append(i)

    with module.collect() as c:
        threads = [threading.Thread(target=run, args=(n,)) for n in range(0, 4000, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(c.trace.comparisons) == 4 * (200 + 199)


def test_no_operand_lives_longer(tmp_path: Path) -> None:
    class Value:
        def __lt__(self, other: object) -> bool:
            return False

        __gt__ = __eq__ = __lt__
        __hash__ = None  # type: ignore[assignment]

    text = "def f(make):\n    r = 1 < make() < 3\n    if 1 < make() < 3 or make() == 2: pass\n    return r\n"
    module = Module(tmp_path, text)
    made: list[weakref.ref[Value]] = []

    def make() -> Value:
        value = Value()
        made.append(weakref.ref(value))
        return value

    gc.disable()
    try:
        with module.collect():
            module.f(make)
        assert [ref() for ref in made] == [None] * 3
    finally:
        gc.enable()


def test_a_debugger_that_raises_between_the_links_of_a_chain_leaves_nothing_wrong(
    tmp_path: Path,
) -> None:
    module = Module(tmp_path, "def f(a, b, c):\n    return (a <\n        b <\n        c)\n")

    def trace(frame: Any, event: str, arg: object) -> Any:
        if frame.f_code is not module.f.__code__:  # on 3.11, sys.settrace may be pykcov's
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and trace.left == 0:  # type: ignore[attr-defined]
            raise InterruptedError
        trace.left -= event == "opcode"  # type: ignore[attr-defined]
        return trace

    with module.collect():
        for at in range(40):
            trace.left = at  # type: ignore[attr-defined]
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                module.f(1, 2, 3)
            except InterruptedError:
                pass
            finally:
                sys.settrace(before)
            assert module.f(1, 2, 3) is True
            assert module.f(1, 5, 3) is False


def test_tracebacks_are_the_same(tmp_path: Path) -> None:
    text = """
def f(x):
    return [y for y in x if 1 < y <
            x]
def g(x):
    match x.startswith(7) or x:
        case 1: pass
def h(x):
    assert 2 > len(x
        ) != x in 5
"""
    module = Module(tmp_path, text)
    plain: dict[str, Any] = {}
    exec(compile(text, str(module.__file__), "exec"), plain)

    def shown(function: Callable[[Any], Any], value: Any) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            function(value)
        return "".join(traceback.format_exception(caught.value)).partition("in shown")[2]

    with module.collect():
        for name, value in (("f", [2]), ("g", "text"), ("h", [1])):
            assert shown(vars(module)[name], value) == shown(plain[name], value)


def test_pickled_sites_do_what_is_plain(tmp_path: Path) -> None:
    module = Module(tmp_path, "def f(x): return x == 5\n")
    sites = [value for value in module.f.__code__.co_consts if callable(value)]
    assert len(sites) == 1
    copy = pickle.loads(pickle.dumps(sites[0]))
    assert (copy(5, 5), copy(5, 6), copy(b"", [])) == (True, False, False)


def test_signal_handlers_may_raise_in_the_middle_of_a_collection_that_is_full(
    tmp_path: Path,
) -> None:
    import signal

    module = Module(tmp_path, "def f(n):\n    while n > 0:\n        n -= 1\n    return n\n")

    running = False

    def interrupt(*_: object) -> None:
        nonlocal running
        if running:
            running = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with module.collect() as c:
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            for _ in range(50):
                with pytest.raises(KeyboardInterrupt):
                    running = True
                    module.f(1 << 60)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # What was lost when the handler raised where room was made is counted.
    start = 1 << 60
    gaps, before = 0, start + 1
    for one in c.trace.comparisons:
        assert isinstance(one.left, int)
        if one.left > before:  # the next call
            before = start + 1
        gaps += before - one.left - 1
        before = one.left
    assert 0 <= gaps <= c.trace.dropped <= gaps + 100


def test_two_collections_get_the_same(tmp_path: Path) -> None:
    module = Module(tmp_path, "def f(x): return x == 'something longer than a word' or 1 < x < 3\n")
    with module.collect() as one:
        with module.collect() as two, pykcov.collect(include=[str(module.__file__)]) as lines:
            assert module.f(2)
    assert list(one.trace.comparisons) == list(two.trace.comparisons) != []
    assert len(lines.trace.comparisons) == 0
