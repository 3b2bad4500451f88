"""Every kind of comparison in a source, and exactly the records that it gives."""

from __future__ import annotations

import enum
import math
import re
from pathlib import Path
from typing import Any

import pytest

import pykcov
from compiling import Module

Record = tuple[str, Any, Any, str]


def run(directory: Path, body: str, *args: Any, **options: bool) -> tuple[Any, list[Record]]:
    """The value of `f(*args)`, whose body is this, and what was compared."""
    lines = body if "\n" in body or body.startswith("return") else f"return {body}"
    text = "def f(x=None, y=None, z=None):\n" + "".join(
        f"    {line}\n" for line in lines.splitlines()
    )
    module = Module(directory, text, **options)
    plain: dict[str, Any] = {}
    exec(text, plain)
    with module.collect() as c:
        value = module.f(*args)
    assert repr(value) == repr(plain["f"](*args))
    assert c.trace.dropped == 0
    return value, [comparison[:4] for comparison in c.trace.comparisons]


class Small(enum.IntEnum):
    ONE = 1


OPERATORS = [
    ("x == 5", (7,), [("==", 7, 5, "right")]),
    ("5 == x", (7,), [("==", 5, 7, "left")]),
    ("x != y", (7, 8), [("!=", 7, 8, "")]),
    ("x < -1", (7,), [("<", 7, -1, "right")]),
    ("x <= 1 << 40", (7,), [("<=", 7, 1 << 40, "right")]),
    ("x >= y", (7.5, 8), [(">=", 7.5, 8, "")]),
    ("x == y", (True, None), [("==", True, None, "")]),
    ("x == y", (b"ab", bytearray(b"abcdefghijkl")), [("==", b"ab", b"abcdefghijkl", "")]),
    ("x == y", ("é", "日本語" * 20), [("==", "é", "日本語" * 20, "")]),
    ("x == y", ("\ud800", ""), [("==", "\ud800", "", "")]),
    ("x == y", ([1], 2), [("==", ..., 2, "")]),
    ("x == y", ([1], (2,)), []),
    ("1 == 2", (), []),
    ("x is None", (7,), [("is", 7, None, "right")]),
    ("x is not None", (None,), [("is not", None, None, "right")]),
    ("None is x", ({},), [("is", None, ..., "left")]),
    ("x is True", (1,), [("is", 1, True, "right")]),
    ("x is ...", ("a",), [("is", "a", ..., "right")]),
    ("x is y", (7, 7), []),
    ("not x == 5", (7,), [("==", 7, 5, "right")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), OPERATORS)
def test_operators(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == expected


IN = [
    ("x in (1, 2)", (2,), [("in", 2, 1, "right"), ("in", 2, 2, "right")]),
    ("x in [1, 'a', y]", (2, 3), [("in", 2, 1, ""), ("in", 2, "a", ""), ("in", 2, 3, "")]),
    ("x not in y", (2, [3]), [("not in", 2, 3, "")]),
    ("x in (1, 2)", (1,), [("in", 1, 1, "right")]),
    ("x in [1, 'a', y]", ("a", 3), [("in", "a", 1, ""), ("in", "a", "a", "")]),
    ("x not in (False, None, 0)", (None,), [("not in", None, False, "right"), ("not in", None, None, "right")]),
    ("'k' in x", ({"a": 1, "b": 2},), [("in", "k", "a", "left"), ("in", "k", "b", "left")]),
    ("'k' in x", ({"a": 1, "k": 2},), [("in", "k", "k", "left")]),
    ("x in {7}", (2,), [("in", 2, 7, "right")]),
    ("x in y", (2, frozenset([3])), [("in", 2, 3, "")]),
    ("x in y", (2, frozenset(range(100))), [("in", 2, 2, "")]),
    ("x not in y", (None, {None, 1.5}), [("not in", None, None, "")]),
    ("x in y", (2**70, {2**70, 2**70 + 1}), [("in", 0, 0, "")]),
    ("x in y", (70, set(range(100))), [("in", 70, 70, "")]),
    ("x not in y", (70, dict.fromkeys(range(100))), [("not in", 70, 70, "")]),
    ("x in y", (70.0, frozenset(range(100))), [("in", 70.0, 70.0, "")]),
    ("x in y", (b"99", {b"%d" % n: n for n in range(100)}), [("in", b"99", b"99", "")]),
    ("x in y", (-1, set(range(100))), [("in", -1, n, "") for n in range(64)]),
    ("x in y", (True, {1: 2, 3: 4}), [("in", True, 1, "")]),
    ("x in y", (1.0, [1, 2]), [("in", 1.0, 1, "")]),
    ("x in y", (b"a", (b"a", b"b")), [("in", b"a", b"a", "")]),
    ("x in y", (2, set()), []),
    ("x in range(3, y)", (2, 9), [("in", 2, 3, ""), ("in", 2, 9, "")]),
    ("'b' in x", ("abc",), [("in", "b", "abc", "left")]),
    ("x in b'abc'", (98,), [("in", 98, b"abc", "right")]),
    ("x in y", (-1, list(range(100))), [("in", -1, n, "") for n in range(64)]),
    ("x in y", (2, list(range(100))), [("in", 2, n, "") for n in range(3)]),
    ("x in iter([2])", (2,), [("in", 2, ..., "")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), IN)
def test_what_is_looked_for_is_compared_with_each_element(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == expected


CHAINS = [
    ("1 < x < 9", (5,), [("<", 1, 5, "left"), ("<", 5, 9, "right")]),
    ("1 < x < 9", (0,), [("<", 1, 0, "left")]),
    ("1 < x < 9", (9,), [("<", 1, 9, "left"), ("<", 9, 9, "right")]),
    ("0 < 1 < x", (5,), [("<", 1, 5, "left")]),
    ("x == y == z == 4", (4, 4, 4),
     [("==", 4, 4, ""), ("==", 4, 4, ""), ("==", 4, 4, "right")]),
    ("x < y in z", (1, 2, [2]), [("<", 1, 2, ""), ("in", 2, 2, "")]),
    ("(1 < x < 9) + (y is None is z)", (5,),
     [("<", 1, 5, "left"), ("<", 5, 9, "right"), ("is", None, None, "right"),
      ("is", None, None, "left")]),
    ("if 1 < x < 9 and not 2 < y < 3:\n    return 1\nreturn 2", (5, 9),
     [("<", 1, 5, "left"), ("<", 5, 9, "right"), ("<", 2, 9, "left"), ("<", 9, 3, "right")]),
    ("while 1 < x < 9:\n    x += 5\nreturn x", (5,),
     [("<", 1, 5, "left"), ("<", 5, 9, "right"), ("<", 1, 10, "left"), ("<", 10, 9, "right")]),
    ("assert 1 < x < 9\nreturn 1", (5,), [("<", 1, 5, "left"), ("<", 5, 9, "right")]),
    ("'in' if 1 < x < 9 else 'out'", (5,), [("<", 1, 5, "left"), ("<", 5, 9, "right")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), CHAINS)
def test_chains_are_compared_as_far_as_they_are_true(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == expected


NESTED = [
    ("[a for a in x if a > 1]", ([1, 2],), [(">", 1, 1, "right"), (">", 2, 1, "right")]),
    ("{a: a == y for a in x}", ([1], 2), [("==", 1, 2, "")]),
    ("list(a == 1 for a in x)", ([3],), [("==", 3, 1, "right")]),
    ("(lambda a, b=x == 1: a < b)(3)", (2,), [("==", 2, 1, "right"), ("<", 3, False, "")]),
    ("f'{x == 1} {x!r:>{4 if x < 9 else 5}}'", (2,), [("==", 2, 1, "right"), ("<", 2, 9, "right")]),
    ("class A:\n    b = x == 1\nreturn A.b", (2,), [("==", 2, 1, "right")]),
    ("@(lambda g: g if x == 1 else len)\ndef g(a=x < 2):\n    return a\nreturn str(g)[:9]", (2,),
     [("<", 2, 2, "right"), ("==", 2, 1, "right")]),
    ("try:\n    raise ValueError(x == 1)\nexcept ValueError as e:\n    return e.args[0] == y", (2, 3),
     [("==", 2, 1, "right"), ("==", False, 3, "")]),
    ("with open('/dev/null') if x == 1 else open('/dev/zero') as file:\n    return file.name", (2,),
     [("==", 2, 1, "right")]),
    ("return {1: 2}[x == 1 or y > 0]", (2, 3), [("==", 2, 1, "right"), (">", 3, 0, "right")]),
    ("def g(a: x == 1) -> x < 2:\n    b: x > 3 = x == 4\n    return b\nreturn g(1)", (2,),
     [("==", 2, 4, "right")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), NESTED)
def test_comparisons_are_seen_wherever_they_stand_but_in_annotations(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == expected


MATCH = """\
match x:
    case 7: return "seven"
    case "a" | b"b": return "text"
    case None | True: return "single"
    case -1.5: return "float"
return "none"
"""
CASES = [7, "a", b"b", None, True, -1.5]


@pytest.mark.parametrize("subject", [7, "b", None, 2.5, "something that is longer"])
def test_a_match_gives_one_record_for_each_case(tmp_path: Path, subject: Any) -> None:
    """As the kernel does for a switch: all of them, whichever matches."""
    found = run(tmp_path, MATCH, subject)[1]
    assert found == [("case", subject, case, "right") for case in CASES]


PATTERNS = [
    ('case ["add", 1, *_]: pass', ["sub", 2, 3], [("case", "sub", "add", "right"), ("case", 2, 1, "right")]),
    ('case ["add", 1]: pass', ["sub", 2, 3], []),
    ('case [_, *_, 5]: pass', (1, 2, 3), [("case", 3, 5, "right")]),
    ('case ["a", [1, 2] as b]: pass', ["x", [3, 4]],
     [("case", "x", "a", "right"), ("case", 3, 1, "right"), ("case", 4, 2, "right")]),
    ('case {"k": 1, "n": "v"}: pass', {"k": 2},
     [("in", "k", "k", "left"), ("case", 2, 1, "right"), ("in", "n", "k", "left")]),
    ('case {"k": {"n": 5}}: pass', {"z": 1, "k": {"n": 6}},
     [("in", "k", "k", "left"), ("in", "n", "n", "left"), ("case", 6, 5, "right")]),
    ('case {"k": _, **rest}: pass', {}, []),
    ('case {1: 5}: pass', {True: 6}, [("in", 1, True, "left"), ("case", 6, 5, "right")]),
    ("case str(): pass", "a", []),
    ("case a if a > 3: pass", 2, [(">", 2, 3, "right")]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "subject", "expected"), PATTERNS)
def test_patterns_of_sequences_and_mappings_are_compared_with_the_parts(
    tmp_path: Path, case: str, subject: Any, expected: list[Record]
) -> None:
    assert run(tmp_path, f"match x:\n    {case}\n", subject)[1] == expected


NAMES = """\
import enum
import signal
LIMIT = 9
class Color(enum.IntEnum):
    RED = 4
class Plain:
    TAG = "tag"
    @property
    def code(self): raise AssertionError("a look-up must not run code")
plain = Plain()
def f(x):
    match x:
        case Color.RED: return 1
        case Plain.TAG: return 2
        case signal.SIGINT: return 3
    return 0
def g(x):
    Color = Plain
    match x:
        case Color.TAG: return 1
    return 0
"""


def test_names_in_patterns_are_compared_if_they_can_be_found_without_running_code(
    tmp_path: Path,
) -> None:
    module = Module(tmp_path, NAMES)
    with module.collect() as c:
        assert module.f(2) == 3
        assert module.g("tag") == 1
    assert [one[:4] for one in c.trace.comparisons] == [
        ("case", 2, 4, ""), ("case", 2, "tag", ""), ("case", 2, 2, ""),
    ]  # fmt: skip


NEEDS_CODE = """\
import enum
class Five:
    def __get__(self, one, kind): return 5
class Meta(type):
    y = property(lambda kind: 7)
class Asked(type):
    def __getattribute__(self, name): return type.__getattribute__(self, name)
class C(metaclass=Meta):
    x = Five()
    y = 3
    z = 9
class D(metaclass=Asked):
    z = 9
class E(enum.IntEnum):
    name = 8
def f(x):
    match x:
        case C.x | D.z: return 1
        case E.name: return 4
        case C.y: return 2
        case C.z: return 3
"""


def test_what_a_descriptor_or_a_metaclass_gives_is_not_taken_for_the_value_in_the_class(
    tmp_path: Path,
) -> None:
    module = Module(tmp_path, NEEDS_CODE)
    with module.collect() as c:
        assert [module.f(x) for x in (5, 7, 9)] == [1, 2, 1]
    assert [one[:4] for one in c.trace.comparisons] == [
        ("case", x, value, "") for x in (5, 7, 9) for value in (8, 9)
    ]


PRIVATE = """\
class __Other: x = 3
_C__Other = __Other
class _C:
    __k = 5
    k__ = __k__ = 6
    def f(self, x):
        match x:
            case _C.__k | _C.__k__ | _C.k__ | __Other.x: return 1
    class __:
        def f(self, x):
            match x:
                case _C._C__k | __Other.x: return 1
class D:
    def f(self, x, __Other):
        match x:
            case __Other.x: return 1
"""


def test_private_names_in_patterns_are_those_of_the_class_around(tmp_path: Path) -> None:
    module = Module(tmp_path, PRIVATE)
    with module.collect() as c:
        assert module._C().f(3) == 1
        assert vars(module._C)["__"]().f(3) == 1
        assert module.D().f(3, module._C__Other) == 1
    assert [one[:4] for one in c.trace.comparisons] == [
        ("case", 3, value, "") for value in (5, 6, 6, 3, 5, 3)
    ]


METHODS = [
    ("x.startswith('ab')", ("xyz",), [("startswith", "xyz", "ab", "right")]),
    ("x.startswith(('a', y))", ("xyz", "x"), [("startswith", "xyz", "a", ""), ("startswith", "xyz", "x", "")]),
    ("x.startswith('b', 1)", ("abc",), [("startswith", "bc", "b", "right")]),
    ("x.startswith('b', -2, 9)", ("abc",), [("startswith", "bc", "b", "right")]),
    ("x.find('1', True)", ("x12",), [("find", "12", "1", "right")]),
    ("x.find('1', 0, True)", ("x12",), [("find", "x", "1", "right")]),
    ("x.find('1', y)", ("x12", 2**70), [("find", "", "1", "right")]),
    ("x.find('1', 2, y)", ("x12", -(2**70)), [("find", "", "1", "right")]),
    ("x.find('1', -(2**64), 2**64)", ("x12",), [("find", "x12", "1", "right")]),
    ("x.startswith(b'a', y)", (b"abc", 2**40), [("startswith", b"", b"a", "right")]),
    ("x.rfind('2', None, -1)", ("x12",), [("rfind", "x1", "2", "right")]),
    ("x.endswith('2', 2, 1)", ("x12",), [("endswith", "", "2", "right")]),
    ("x.find('2', y)", ("x12", Small.ONE), [("find", "12", "2", "right")]),
    ("x.endswith(b'yz')", (b"xyz",), [("endswith", b"xyz", b"yz", "right")]),
    ("x.endswith('z')", ("a" * 300 + "z",), [("endswith", "a" * 255 + "z", "z", "right")]),
    ("x.find(y)", (bytearray(b"hello"), b"l"), [("find", b"hello", b"l", "")]),
    ("x.find(108)", (b"hello",), [("find", b"hello", 108, "right")]),
    ("x.index('l', 3)", ("hello",), [("index", "lo", "l", "right")]),
    ("x.rfind('l')", ("hello",), [("rfind", "hello", "l", "right")]),
    ("x.partition('=')", ("k=v",), [("partition", "k=v", "=", "right")]),
    ("x.split(',', 1)", ("a,b,c",), [("split", "a,b,c", ",", "right")]),
    ("x.split()", ("a b",), []),
    ("x.split(sep=',')", ("a,b",), []),
    ("x.removeprefix('pre')", ("prefix",), [("removeprefix", "prefix", "pre", "right")]),
    ("x.removesuffix('fix')", ("prefix",), [("removesuffix", "prefix", "fix", "right")]),
    ("x.index(2)", ([1, 2],), []),
    ("'ab'.startswith(x)", ("a",), [("startswith", "ab", "a", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), METHODS)
def test_methods_of_texts(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == expected
    assert run(tmp_path, text + " ", *args, methods=False)[1] == []


REGULAR = [
    (r"x.fullmatch(y)", r"GET /(\d+)", "POST", "GET /"),
    (r"x.match(y)", r"^ab+c", "xyz", "ab"),
    (r"x.match(y)", r"abc?d", "xyz", "ab"),
    (r"x.match(y)", r"a\.b\d", "xyz", "a.b"),
    (r"x.match(y)", r"été*", "xyz", "ét"),
    (r"x.match(y)", r"(a|b)", "xyz", None),
    (r"x.match(y)", rb"magic.", b"xyz", b"magic"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "pattern", "subject", "prefix"), REGULAR)
def test_regular_expressions_are_compared_by_the_text_that_they_begin_with(
    tmp_path: Path, text: str, pattern: Any, subject: Any, prefix: Any
) -> None:
    name = text[2:].partition("(")[0]
    expected = [(name, subject, prefix, "")] if prefix else []
    assert run(tmp_path, text, re.compile(pattern), subject)[1] == expected
    body = f"import re\nreturn re.{name}(x, y)"
    assert run(tmp_path, body, pattern, subject)[1] == expected


PARTS = [
    ("x.match(y, 1)", "bc"),
    ("x.match(y, True)", "bc"),
    ("x.match(y, -2)", "abc"),
    ("x.match(y, 2**62)", ""),
    ("x.match(y, 1, 2)", "b"),
    ("x.match(y, endpos=2)", "ab"),
    ("x.fullmatch(y, endpos=2, pos=1)", "b"),
    ("x.match(y, 2, 1)", ""),
    ("x.match(y, 0, -1)", ""),
]


@pytest.mark.parametrize(("text", "part"), PARTS)
def test_a_regular_expression_is_compared_with_the_part_that_it_is_asked_for(
    tmp_path: Path, text: str, part: str
) -> None:
    name = text[2:].partition("(")[0]
    assert run(tmp_path, text, re.compile("b"), "abc")[1] == [(name, part, "b", "")]


class Place:
    """A position that is not to be asked for by anybody but the method."""

    def __init__(self) -> None:
        self.asked = 0

    def __index__(self) -> int:
        self.asked += 1
        return 1


def test_a_position_that_only_code_can_tell_is_not_asked_for_it(tmp_path: Path) -> None:
    module = Module(tmp_path, "def f(x, y, z): return x.find('b', y), z.match(x, y) is not None")
    place = Place()
    with module.collect() as c:
        assert module.f("abc", place, re.compile("b")) == (1, True)
    assert place.asked == 2
    assert [one.left for one in c.trace.comparisons if one.right == "b"] == ["abc", "abc"]


LOOKUPS = [
    ("x.get('k')", ({"a": 1},), [("get", "k", "a", "left")]),
    ("x.get(y, 5)", ({"a": 1, "b": 2}, "b"), [("get", "b", "b", "")]),
    ("x.get(y)", ({"a": 1, "b": 2}, "c"), [("get", "c", "a", ""), ("get", "c", "b", "")]),
    ("x.get(y)", (dict.fromkeys(map(str, range(100))), "99"), [("get", "99", "99", "")]),
    ("x.get(y, 5)", (dict.fromkeys(range(100), 5), 99), [("get", 99, 99, "")]),
    ("x[y]", (dict.fromkeys(map(str, range(100))), "99"), [("[]", "99", "99", "")]),
    ("x[y]", (dict.fromkeys(range(100)), 99), [("[]", 99, 99, "")]),
    ("x[y]", ({1: 2, 3: 4}, 3), [("[]", 3, 3, "")]),
    ("x['k']", ({"k": 2},), [("[]", "k", "k", "left")]),
    ("x[0]", ([5],), []),
    ("x[1:]", ("abc",), []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "args", "expected"), LOOKUPS)
def test_look_ups_if_asked_for(
    tmp_path: Path, text: str, args: tuple[Any, ...], expected: list[Record]
) -> None:
    assert run(tmp_path, text, *args)[1] == []
    assert run(tmp_path, text + " ", *args, lookups=True)[1] == expected


ASKS = """\
class Key:
    asked = []
    def __hash__(self): return hash(5)
    def __eq__(self, other):
        Key.asked.append(other)
        return True
def get(table, key): return table.get(key, 0)
def item(table, key): return table[key]
def member(table, key): return key in table
"""


@pytest.mark.parametrize(("name", "value"), [("get", "v"), ("item", "v"), ("member", True)])
def test_a_look_up_asks_a_key_of_the_program_s_once(tmp_path: Path, name: str, value: Any) -> None:
    module = Module(tmp_path, ASKS, lookups=True)
    with module.collect() as c:
        assert vars(module)[name]({module.Key(): "v"}, 5) == value
    assert module.Key.asked == [5]
    assert [one[1:3] for one in c.trace.comparisons] == [(5, ...)]


def test_what_a_look_up_raises_is_raised(tmp_path: Path) -> None:
    text = "def f(x, y): return x[y]\ndef g(x, *y): return x.get(*y)\n"
    module = Module(tmp_path, text, lookups=True)
    with module.collect() as c:
        with pytest.raises(KeyError, match=r"^5$"):
            module.f({7: 8}, 5)
        for wrong in ((), (1, 2, 3), ([],)):
            with pytest.raises(TypeError):
                module.g({7: 8}, *wrong)
    assert [one[:3] for one in c.trace.comparisons][:1] == [("[]", 5, 7)]


def test_another_method_of_a_dictionary_under_the_name_get_stays_what_it_is(tmp_path: Path) -> None:
    module = Module(tmp_path, "def f(x): return x.get(5)\n", lookups=True)
    table = {5: 6}

    class Odd:
        get = table.pop

    with module.collect() as c:
        assert module.f(Odd) == 6
    assert table == {}
    assert len(c.trace.comparisons) == 0


# -- operands


class Text(str):
    def __str__(self) -> str:
        raise AssertionError("recording must not run code")


def test_subclasses_are_what_their_base_class_keeps(tmp_path: Path) -> None:
    assert run(tmp_path, "x == y", Small.ONE, Text("a"))[1] == [("==", 1, "a", "")]


@pytest.mark.parametrize(
    ("value", "shown", "cut"),
    [
        (2**63 - 1, 2**63 - 1, ""),
        (-(2**63), -(2**63), ""),
        (2**63, 2**63, ""),
        (2**64 - 1, 2**64 - 1, ""),
        (2**64, 0, "left"),
        (2**200 + 17, 17, "left"),
        (-(2**63) - 1, 2**63 - 1, "left"),
        ("a" * 256, "a" * 256, ""),
        ("a" * 257, "a" * 256, "left"),
        ("é" * 128, "é" * 128, ""),
        ("é" * 129, "é" * 128, "left"),
        ("a" + "é" * 128, "a" + "é" * 127, "left"),
        (b"\0" * 8, b"\0" * 8, ""),
        (b"\0" * 9, b"\0" * 9, ""),
        (b"x" * 1000, b"x" * 256, "left"),
        (-0.0, -0.0, ""),
        (math.inf, math.inf, ""),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_long_operands_are_cut_and_say_so(tmp_path: Path, value: Any, shown: Any, cut: str) -> None:
    module = Module(tmp_path, "def f(x): return x == None")
    with module.collect() as c:
        module.f(value)
    (one,) = c.trace.comparisons
    assert repr(one.left) == repr(shown)
    assert (one.right, one.const_side, one.cut) == (None, "right", cut)


def test_a_recorded_text_keeps_no_second_form_of_itself(tmp_path: Path) -> None:
    import sys

    module = Module(tmp_path, "def f(x): return x == 'a'")
    text = "ü" * 100
    size = sys.getsizeof(text)
    with module.collect():
        module.f(text)
    assert sys.getsizeof(text) == size


# -- places


def test_the_place_is_the_comparison_in_the_source(tmp_path: Path) -> None:
    text = "class A:\n    async def b(self, x):\n        return [y for y in x if 1 < (y) <=\n  9]\n"
    module = Module(tmp_path, text)
    with module.collect() as c, pytest.raises(StopIteration):
        module.A().b([5]).send(None)
    first, second = (one.location for one in c.trace.comparisons)
    assert (first.file, first.kind, first.function) == (module.__file__, "cmp", "A.b")
    assert (first.line, first.column) == (3, 32)
    assert (first.end_line, first.end_column, first.arm) == (3, 38, "const <")
    assert (second.line, second.column, second.end_line, second.end_column) == (3, 37, 4, 3)
    assert second.arm == "<= const"


def test_what_is_declared_global_is_named_as_a_global(tmp_path: Path) -> None:
    text = """
def f(x):
    global G, \\
        H
    def G(x):
        def inner(): return x == 1
        return inner() == x
    class H:
        global m
        def m(x): return x == 8
        def n(x): return x == 9
    def other(x): return x == 7
    return H.n(x), m(x), other(x), G(x)
"""
    module = Module(tmp_path, text)
    with module.collect() as c:
        module.f(3)
    assert [one.location.function for one in c.trace.comparisons] == [
        "H.n", "m", "f.<locals>.other", "G.<locals>.inner", "G",
    ]  # fmt: skip
    assert [h.__qualname__ for h in (module.H.n, module.m, module.G)] == ["H.n", "m", "G"]


def test_two_comparisons_never_share_a_place(tmp_path: Path) -> None:
    """Up to 3.11 what is in an f-string has no columns of its own."""
    module = Module(tmp_path, "def f(x): return f'{x == 1}{x == 1}' + f'{x == 1}'")
    with module.collect() as c:
        module.f(1)
    assert len(set(c.trace.pcs)) == 3


# -- what nobody may notice

WARNS = ["x is 1", "x is not 'a'", "x is (1, 2)", "None is 1", "1 is x < 3", "x is -1"]


@pytest.mark.parametrize("text", WARNS)
def test_what_python_warns_of_it_still_warns_of_and_nothing_else(tmp_path: Path, text: str) -> None:
    with pytest.warns(SyntaxWarning) as plain:
        compile(f"def f(x): return {text}\n", str(tmp_path), "exec")
    with pytest.warns(SyntaxWarning) as probed:
        Module(tmp_path, f"def f(x): return {text}\n")
    assert [str(w.message) for w in probed] == [str(w.message) for w in plain]


def test_a_scope_without_probes_is_a_warning_that_names_its_modules(tmp_path: Path) -> None:
    with (
        pytest.warns(pykcov.KcovWarning, match="no comparison is recorded: .*test_comparisons"),
        pykcov.collect(include=[__file__], mode=pykcov.TRACE_CMP),
    ):
        pass
