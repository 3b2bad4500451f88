"""Which arms of branches happen, by the interpreter's own events; the same on all Pythons."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from typing import Any

from pykcov.probes import decisions, places
from unit import programs
from unit.watching import Program, arms_of, codes_of

Arms = list[tuple[str, str]]


def arms(text: str, *args: Any) -> Arms:
    return Program(text).run(*args)


def test_an_if_has_two_arms() -> None:
    text = """\
        def f(a, b):
            if a: x = 1
            elif not b:
                x = 2
            else: x = 3
            return x
        """
    assert arms(text, 1, 1) == [("a", "true")]
    assert arms(text, 0, 0) == [("a", "false"), ("b", "false")]
    assert arms(text, 0, 1) == [("a", "false"), ("b", "true")]


def test_each_operand_that_is_tested_has_arms() -> None:
    text = "def f(a, b, c):\n    if a and (b or not c): return 1\n"
    assert arms(text, 0, 1, 1) == [("a", "false")]
    assert arms(text, 1, 1, 1) == [("a", "true"), ("b", "true")]
    assert arms(text, 1, 0, 1) == [("a", "true"), ("b", "false"), ("c", "true")]


def test_the_value_of_and_and_or_tests_all_operands_but_the_last() -> None:
    text = "def f(a, b, c):\n    return a and b or c\n"
    a_and_b = "a and b"
    assert arms(text, 0, 1, 1) == [("a", "false"), (a_and_b, "false")]
    assert arms(text, 1, 0, 1) == [("a", "true"), (a_and_b, "false")]
    assert arms(text, 1, 1, 1) == [("a", "true"), (a_and_b, "true")]


def test_operands_of_operands_have_arms_wherever_the_interpreter_jumps() -> None:
    text = "def f(a, b, c, d):\n    return ((a or b) and c) or d\n"
    assert arms(text, 1, 0, 0, 0) == [
        ("a", "true"),
        ("a or b", "true"),
        ("(a or b) and c", "false"),
    ]
    assert arms(text, 0, 0, 1, 0) == [
        ("a", "false"),
        ("a or b", "false"),
        ("(a or b) and c", "false"),
    ]
    text = "def f(a, b, c):\n    return (a or b) or c\n"
    assert arms(text, 1, 0, 0) == [("a", "true"), ("a or b", "true")]


def test_a_conditional_expression_has_arms() -> None:
    text = "def f(a, b, c):\n    return (a if b else c) if c else a or b\n"
    assert arms(text, 1, 0, 0) == [("c", "false"), ("a", "true")]
    assert arms(text, 1, 1, 1) == [("c", "true"), ("b", "true")]
    text = "def f(a, b, c):\n    if (a if b else c): return 1\n"
    assert arms(text, 1, 0, 0) == [("b", "false"), ("c", "false")]


def test_a_chained_comparison_has_arms_for_each_part() -> None:
    text = "def f(a, b, c):\n    if a < b < c: return 1\n"
    assert arms(text, 2, 1, 0) == [("a < b", "false")]
    assert arms(text, 0, 1, 0) == [("a < b", "true"), ("a < b < c", "false")]
    assert arms(text, 0, 1, 2) == [("a < b", "true"), ("a < b < c", "true")]
    text = "def f(a, b, c):\n    return a < b < c\n"
    assert arms(text, 0, 1, 0) == [("a < b", "true")]


def test_comparing_with_none_has_the_truth_of_the_comparison() -> None:
    text = "def f(a):\n    if a is None: return 1\n    if a is not None: return 2\n"
    assert arms(text, None) == [("a is None", "true")]
    assert arms(text, 1) == [("a is None", "false"), ("a is not None", "true")]


def test_what_is_named_in_a_test_is_tested() -> None:
    text = "def f(a):\n    if (b := a): return b\n    return (c := a + 1) and c\n"
    assert arms(text, 1) == [("b := a", "true")]
    assert arms(text, 0) == [("b := a", "false"), ("c := a + 1", "true")]


def test_each_test_of_a_while_is_the_same_place() -> None:
    text = "def f(n):\n    while n and n > 1:\n        n -= 1\n    else: return 0\n"
    test, more = ("n", "true"), ("n > 1", "true")
    assert arms(text, 3) == [test, more, test, more, test, ("n > 1", "false")]
    assert arms(text, 0) == [("n", "false")]
    assert arms("def f(n):\n    while True:\n        if n: break\n", 1) == [("n", "true")]


def test_a_for_has_its_body_and_its_end() -> None:
    text = "def f(x):\n    for a, b in x.items():\n        if a: break\n    else: return 0\n"
    body, end = ("x.items()", "body"), ("x.items()", "end")
    assert arms(text, {0: 1, 1: 1}) == [body, ("a", "false"), body, ("a", "true")]
    assert arms(text, {}) == [end]
    for target in ("a.b", "a[0]", "[b, (c, *d)]", "a.b[0].c"):
        text = f"def f(x, a=None):\n    for {target} in x: pass\n"
        assert arms(text, []) == [("x", "end")], target


def test_loops_within_comprehensions_have_their_own_arms() -> None:
    text = "def f(x, y):\n    return [i for i in x if i for j in y if not j]\n"
    assert arms(text, [0, 1], [0]) == [
        ("x", "body"),
        ("i", "false"),
        ("x", "body"),
        ("i", "true"),
        ("y", "body"),
        ("j", "false"),
        ("y", "end"),
        ("x", "end"),
    ]
    text = "def f(x):\n    return sum(i for i in x)\n"
    assert arms(text, [1]) == [("x", "body"), ("x", "end")]


def test_an_assertion_has_arms() -> None:
    text = "def f(a):\n    assert a, 'no'\n"
    assert arms(text, 1) == [("a", "true")]
    assert arms(text, 0) == [("a", "false")]


MATCH = """\
    class P:
        __match_args__ = ("x", "y")
        def __init__(self, x, y): self.x, self.y = x, y
    def f(x, g=0):
        match x:
            case 1 | 2 | 3: return 1
            case [a, 4, *b] if a or g: return 2
            case {"k": 5, "l": v, **r}: return 3
            case None: return 4
            case P(1 | 2, y=[z]) as p: return 5
            case str(): return 6
            case P(): return 7
            case rest if rest: return 8
"""
ONE, SEQUENCE, MAPPING = "1 | 2 | 3", "[a, 4, *b]", '{"k": 5, "l": v, **r}'
POINT = "P(1 | 2, y=[z]) as p"


def failed(*patterns: str) -> Arms:
    return [(pattern, "false") for pattern in patterns]


def test_a_case_has_one_decision_however_much_of_its_pattern_is_tested() -> None:
    program = Program(MATCH)
    point = program.names["P"]
    assert program.run(1) == [(ONE, "true")]
    assert program.run(3) == [(ONE, "true")]
    assert program.run([7, 4]) == [*failed(ONE), (SEQUENCE, "true"), ("a", "true")]
    for x in ([], [7, 5], [7]):
        before = failed(ONE, SEQUENCE, MAPPING, "None", POINT, "str()", "P()")
        assert program.run(x) == [*before, ("rest", "true" if x else "false")]
    assert program.run([0, 4])[:4] == [
        *failed(ONE),
        (SEQUENCE, "true"),
        ("a", "false"),
        ("g", "false"),
    ]
    assert program.run({"k": 5, "l": 1}) == [*failed(ONE, SEQUENCE), (MAPPING, "true")]
    assert program.run({"k": 6, "l": 1})[2] == (MAPPING, "false")
    assert program.run({"k": 5})[2] == (MAPPING, "false")
    assert program.run(None)[2:] == [(MAPPING, "false"), ("None", "true")]
    assert program.run(point(2, [0]))[-1] == (POINT, "true")
    assert program.run(point(3, [0]))[-3:] == [*failed(POINT, "str()"), ("P()", "true")]
    assert program.run("x")[-1] == ("str()", "true")


def test_a_case_that_matches_anything_decides_nothing() -> None:
    assert arms("def f(x):\n    match x:\n        case y: return y\n", 1) == []
    assert arms("def f(x):\n    match x:\n        case _: return 1\n", 1) == []


def test_a_case_of_none_alone_has_both_arms() -> None:
    text = "def f(x):\n    match x:\n        case None: x = 1\n"
    assert arms(text, None) == [("None", "true")]
    assert arms(text, 1) == [("None", "false")]


def test_a_case_that_ends_a_loop_has_both_arms() -> None:
    text = """\
        def f(x):
            for i in x:
                match i:
                    case None: pass
                    case [1, _]: pass
        """
    body = ("x", "body")
    assert arms(text, [None, [1, 2], 3]) == [
        body,
        ("None", "true"),
        body,
        ("None", "false"),
        ("[1, _]", "true"),
        body,
        ("None", "false"),
        ("[1, _]", "false"),
        ("x", "end"),
    ]


ERRORS = """\
    def f(error):
        try:
            if error: raise error
        except ValueError: return 1
        except (KeyError, OSError) as e:
            return 2
        except:
            return 3
        return 4
"""


def test_an_except_has_the_arms_of_its_type() -> None:
    types_ = "(KeyError, OSError)"
    assert arms(ERRORS, None) == [("error", "false")]
    assert arms(ERRORS, ValueError) == [("error", "true"), ("ValueError", "true")]
    assert arms(ERRORS, OSError) == [("error", "true"), ("ValueError", "false"), (types_, "true")]
    assert arms(ERRORS, TypeError) == [
        ("error", "true"),
        ("ValueError", "false"),
        (types_, "false"),
    ]


def test_a_bare_except_and_a_finally_have_an_arm_if_an_exception_enters_them() -> None:
    text = """\
        def f(x):
            try:
                try: x.y
                except: 1 / 0
            finally:
                g = (
                    1)
        """
    assert arms(text, 1) == [("except", "handler"), ("line 6", "handler")]
    assert arms(text, types.SimpleNamespace(y=1)) == []
    text = "def f(x):\n    try: x()\n    finally:\n        with x as y: pass\n"
    assert arms(text, 1) == [("line 4", "handler")]
    text = "def f(x):\n    try: x()\n    finally:\n        try: x\n        finally: f = x\n"
    assert arms(text, 1) == [("line 4", "handler")]


def test_except_star_has_the_arms_of_its_types() -> None:
    text = """\
        def f(*errors):
            try: raise ExceptionGroup("", errors)
            except* ValueError as e: pass
            except* KeyError: pass
        """
    error, key = ("ValueError", "true"), ("KeyError", "false")
    assert arms(text, ValueError()) == [error, key]
    assert arms(text, TypeError()) == [("ValueError", "false"), key]
    assert arms(text, KeyError(), ValueError()) == [error, ("KeyError", "true")]


def test_a_with_decides_nothing() -> None:
    text = """\
        import contextlib
        def f(x):
            with contextlib.suppress(ValueError):
                assert x
                raise ValueError
            with contextlib.suppress(KeyError): raise ValueError
        """
    assert arms(text, 1) == [("x", "true")]


def test_awaiting_decides_nothing() -> None:
    text = """\
        import asyncio
        class A:
            async def __aenter__(self): return self
            async def __aexit__(self, *error):
                await asyncio.sleep(0)
                return True
        async def ticks():
            for i in (0, 1): yield i
        async def g(x):
            async with A():
                assert x
            async with A():
                assert not x
            async for i in ticks():
                if await asyncio.sleep(0, i): break
            return [i async for i in ticks() if i]
        def f(x): asyncio.run(g(x))
        """
    seen = arms(text, 1)
    assert [arm for arm in seen if arm[0] != "(0, 1)"] == [
        ("x", "true"),
        ("x", "true"),
        ("await asyncio.sleep(0, i)", "false"),
        ("await asyncio.sleep(0, i)", "true"),
        ("i", "false"),
        ("i", "true"),
    ]


def test_a_test_that_raises_has_no_arm() -> None:
    text = """\
        class Bad:
            def __bool__(self): raise ValueError
            def __iter__(self): return self
            def __next__(self): raise KeyError
        def f(x):
            try:
                if Bad(): return 1
            except ValueError: pass
            try:
                for i in Bad(): return 2
            finally: x = 2
        """
    assert arms(text, 1) == [("ValueError", "true"), ("line 11", "handler")]


def test_far_jumps_are_found() -> None:
    """Their distance needs a prefix, at which 3.11 reports them."""
    filler = "        x = x + 1\n" * 300
    text = f"def f(a, x):\n    for i in a:\n        if i:\n{filler.replace(' ' * 8, ' ' * 12)}"
    text += f"        elif x and i is None:\n    {filler.replace(chr(10), chr(10) + '    ')}\n"
    assert arms(text, [1, 0], 0) == [
        ("a", "body"),
        ("i", "true"),
        ("a", "body"),
        ("i", "false"),
        ("x", "true"),
        ("i is None", "false"),
        ("a", "end"),
    ]


def test_columns_are_of_bytes() -> None:
    assert arms("def f(a):\n    'é'; x = 'é' and a or 'ü'\n", 1)[0] == ("'é' and a", "true")


# -- all arms


def test_each_decision_of_the_tree_is_found_in_the_bytecode() -> None:
    for file in programs.files_of():
        source = places.read_source(file, branch=True)
        assert source is not None and source.decisions is not None
        with open(file, encoding="utf-8") as opened:
            module = compile(opened.read(), file, "exec", dont_inherit=True)
        found = set()
        for code in codes_of(module):
            table = places.arms(code, source)
            found |= set(table.handlers.values())
            for branch in table.branches.values():
                found |= {branch.taken, branch.not_taken, *branch.implied}
        if os.path.basename(file) != "textwrap.py":  # has an `if 0 and ...`
            assert found - {None} == set(_all_arms(source.decisions)), file


def _all_arms(known: decisions.Decisions) -> Iterator[places.Arm]:
    for decision in known.tests.values():
        yield places.Arm(*decision.span, "true")
        yield places.Arm(*decision.span, "false")
    for span in known.patterns:
        yield places.Arm(*span, "true")
        yield places.Arm(*span, "false")
    for span in known.loops.values():
        yield places.Arm(*span, "body")
        yield places.Arm(*span, "end")
    for span in known.handlers.values():
        yield places.Arm(*span, "handler")


def test_without_a_source_different_decisions_have_different_arms() -> None:
    text = "def f(a, b):\n    if a and b or (a < b < 3): return [i for i in a if i]\n    while a: a = b\n"
    for positions in (True, False):
        module = compile(text, "x", "exec", dont_inherit=True)
        code = next(code for code in codes_of(module) if code.co_name == "f")
        if not positions:
            code = code.replace(co_linetable=_without_columns(code))
        table = places.arms(code)
        seen: list[places.Arm] = []
        call = types.FunctionType(code, {})
        with arms_of({code: table}, seen):
            call(0, 0)
        assert [arm.what for arm in seen][:2] == ["false", "false"]
        assert len(set(seen)) == len(seen)
        for arm in seen:
            assert (arm.column >= 0) == positions


def _without_columns(code: types.CodeType) -> bytes:
    """Return the line table as `-X no_debug_ranges` has it: entries of kind 13, and 15 for no line."""
    table = bytearray()
    last = code.co_firstlineno
    for start, end, line in code.co_lines():
        units = (end - start) // 2
        while units:
            size = min(units, 8)
            units -= size
            if line is None:
                table.append(0x80 | 15 << 3 | (size - 1))
                continue
            delta, last = line - last, line
            number = delta << 1 if delta >= 0 else (-delta << 1) | 1
            table.append(0x80 | 13 << 3 | (size - 1))
            while number > 63:
                table.append(0x40 | number & 63)
                number >>= 6
            table.append(number)
    return bytes(table)
