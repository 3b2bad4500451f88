"""Probes in a syntax tree have the places that the interpreter's events have, in every code object."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from pykcov.probes import places
from pykcov.probes.placeholders import number_of
from pykcov.probes.recipe import Recipe, Variant, compile_file
from pykcov.probes.sites import inner_codes
from pykcov.probes.source import analyse

from . import programs

LIBRARY = Path(sysconfig.get_path("stdlib"))
PACKAGES = ["asyncio", "json", "email", "concurrent", "importlib", "unittest", "wsgiref", "xml"]


def places_of(recipe: Recipe, code: CodeType) -> Iterator[object]:
    """Yields what the probes of one code object record."""
    for value in code.co_consts:
        number = number_of(value)
        if number >= 0:
            _, first, count, _flags = recipe.probes[number]
            yield from recipe.places[first : first + count]


def differences(text: str, name: str = "file.py") -> list[str]:
    """Returns what the probes of a file's code objects lack, or have too much."""
    source = analyse(text)
    recipe = compile_file(text.encode(), name)
    assert source is not None and recipe is not None
    plain = list(inner_codes(compile(text, name, "exec", dont_inherit=True)))
    probed = list(inner_codes(recipe.code))
    assert [c.co_qualname for c in plain] == [c.co_qualname for c in probed]
    found = []
    for before, after in zip(plain, probed, strict=True):
        wanted = {places.entry(before), *places.line_table(before, source).values()}
        got = set(places_of(recipe, after))
        # The constants of code that the compiler found to be dead are still there.
        dead = {place for place in got - wanted if is_dead(place, before)}
        if got - dead != wanted:
            found.append(f"{name}: {before.co_qualname}: {wanted ^ got}")
    return found


def is_dead(place: object, code: CodeType) -> bool:
    return isinstance(place, int) and all(line != place for _, _, line in code.co_lines())


def test_every_construct_has_the_places_that_events_have() -> None:
    assert differences(programs.CONSTRUCTS) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_standard_library_has_the_places_that_events_have(package: str) -> None:
    files = sorted((LIBRARY / package).rglob("*.py"))
    files = [file for file in files if "test" not in file.parts]
    assert files
    found = []
    for file in files:
        found += differences(file.read_text("utf-8"), str(file))
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    '''doc'''\n",
        "def f(): return 1\n",
        "class A: x = 1\n",
        "@a\n@b(1,\n   2)\ndef f(x):\n    return x\n",
        "@a\nclass A:\n    '''doc'''\n    x: int\n    y: int = 1\n",
        "from __future__ import annotations\nfrom __future__ import generators\nx: int\n",
        "'''doc'''\nfrom __future__ import annotations; x = 1\n",
        "def f():\n    global x\n    y: (int)\n    x = 1; y = 2\n    return x\n",
        "for x in y: z()\nelse: w()\n",
        "while x: y(); z()\n",
        "try: a()\nexcept b: c()\nexcept (d,\n        e): f()\nelse: g()\nfinally: h()\n",
        "try:\n    a()\nexcept* b:\n    c()\n",
        "match a:\n    case 1: b()\n    case (2 |\n          3) if c:\n        d()\n    case _: pass\n",
        "x = [y for y in z]\nf = lambda: (yield)\ng = (a\n     for a in b\n     if a)\n",
        "async def f():\n    async with a as b, c:\n        async for d in e:\n            await d\n",
        "with (a as b,\n      c as d):\n    pass\n",
        "def f():\n    return 'a %s' % (b,)\n",
        "if 0:\n    a()\nelif b:\n    c()\nelse:\n    ...\n",
        "def f():\n    while True:\n        with a:\n            continue\n",
        "x = 1 if y else (\n    2)\n",
    ],
)
def test_what_is_odd_has_the_places_that_events_have(text: str) -> None:
    assert differences(text) == []


def test_a_decorated_definition_of_documentation_alone_has_its_decorators() -> None:
    text = "class A:\n    @a\n    def f(x): 'doc'\n    @b\n    @c\n    class B: 'doc'\n"
    recipe = compile_file(text.encode(), "x.py")
    assert recipe is not None
    assert {place for place in recipe.places if isinstance(place, int)} == {1, 2, 4, 5}


def test_an_assertion_that_is_not_compiled_records_nothing() -> None:
    text = b"a = 1\nassert a\n"
    with_them, without = (compile_file(text, "x.py", Variant(o)) for o in (0, 1))
    assert with_them is not None and without is not None
    assert 2 in with_them.places and 2 not in without.places


def test_what_is_no_python_is_left_to_python() -> None:
    for data in (b"def f(:\n", b"return\n", b"# coding: nonsense\n", b"x = '\xff'\n", b"\0"):
        assert compile_file(data, "x.py") is None


def test_the_program_keeps_its_lines_and_columns() -> None:
    text = programs.CONSTRUCTS
    recipe = compile_file(text.encode(), "x.py")
    assert recipe is not None
    plain = {p for code in inner_codes(compile(text, "x.py", "exec")) for p in code.co_positions()}
    probed = {p for code in inner_codes(recipe.code) for p in code.co_positions()}
    # What is new has no column; but what the compiler optimises no more has its own.
    nodes = {
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.expr | ast.stmt | ast.pattern)
    }
    assert {p for p in probed - plain if p[2] is not None} <= nodes
    module = compile(text, "x.py", "exec", dont_inherit=True)
    for before, after in zip(inner_codes(module), inner_codes(recipe.code), strict=True):
        assert after.co_firstlineno == before.co_firstlineno
        assert after.co_flags == before.co_flags
        assert after.co_varnames == before.co_varnames
        assert after.co_freevars == before.co_freevars


def test_warnings_are_pythons_own() -> None:
    text = b"def f(x):\n    assert (x, 'm')\n    return x is 1\n"
    with pytest.warns(SyntaxWarning) as caught:
        compile(text, "x.py", "exec")
    plain = [(str(w.message), w.lineno, w.filename) for w in caught]
    with pytest.warns(SyntaxWarning) as caught:
        compile_file(text, "x.py")
    assert [(str(w.message), w.lineno, w.filename) for w in caught] == plain
    assert len(plain) == 2


def test_future_flags_are_kept() -> None:
    recipe = compile_file(b"from __future__ import annotations\nx: y\n", "x.py")
    assert recipe is not None
    plain = compile("from __future__ import annotations\nx: y\n", "x.py", "exec")
    assert recipe.code.co_flags == plain.co_flags
    names: dict[str, object] = {}
    exec(plain, names)
    assert names["__annotations__"] == {"x": "y"}


def test_lines_between_which_nothing_can_happen_share_a_probe() -> None:
    text = "def f(n):\n    total = 0\n    pass\n    try:\n        g(n)\n    finally:\n        h()\n"
    recipe = compile_file(text.encode(), "x.py")
    assert recipe is not None
    tree = ast.parse(text)
    assert isinstance(tree.body[0], ast.FunctionDef)
    shared = [recipe.places[f + 1 : f + c] for _, f, c, _ in recipe.probes if c > 1]
    assert (2, 3, 4, 5) in shared
