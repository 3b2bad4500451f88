"""Sites: found in the bytecode, put to sleep and woken in place; copies sleep for ever."""

from __future__ import annotations

import ast
import copy
import dis
import gc
import itertools
import marshal
import pickle
import struct
import sys
import threading
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import pytest

from pykcov import _recorder
from pykcov.probes.placeholders import LINES, PREFIX, Placeholders, text_of
from pykcov.probes.recipe import compile_file
from pykcov.probes.sites import find_sites, inner_codes, with_prologue

SITE = struct.Struct("=II")


def probed(text: str, name: str = "sites.py") -> tuple[dict[str, Any], CodeType]:
    """Executes a module with probes that have no PCs; returns its names and its code."""
    recipe = compile_file(text.encode(), name)
    assert recipe is not None
    recipe = recipe._replace(code=marshal.loads(marshal.dumps(recipe.code)))
    places = _recorder.Places(len(recipe.places))
    _recorder.plant(recipe.code, _recorder.make_probes(places, recipe.probes, LINES), PREFIX)
    for code, sites in zip(inner_codes(recipe.code), recipe.sites, strict=True):
        _recorder.add_sites(code, sites)
    names: dict[str, Any] = {"__name__": "sites"}
    exec(recipe.code, names)
    return names, recipe.code


TEXT = '''
def work(n):
    """doc"""
    total = 0
    for i in range(n):
        try:
            if i % 3 == 0:
                raise ValueError(i)
            total += i
        except ValueError as error:
            total -= error.args[0]
        except (TypeError, KeyError):
            raise
        finally:
            total += 1
    match total:
        case 0:
            return "none"
        case int() if total > 5:
            return [total, sum(x for x in range(n)), (lambda q: q + 1)(n)]
        case _:
            return total
'''


@pytest.fixture
def sleeping() -> Any:
    yield
    _recorder.wake(False)


def test_asleep_and_awake_it_does_the_same(sleeping: None) -> None:
    plain: dict[str, Any] = {}
    exec(compile(TEXT, "plain.py", "exec"), plain)
    names, _ = probed(TEXT)
    for turn in range(60):  # the interpreter specialises it meanwhile
        _recorder.wake(turn % 2 == 0)
        for n in (0, 1, 2, 4, 9):
            assert names["work"](n) == plain["work"](n)


def test_every_use_of_a_probe_is_a_site_that_can_sleep() -> None:
    recipe = compile_file(TEXT.encode(), "x.py")
    assert recipe is not None
    numbers = range(len(recipe.probes))
    found = [site for code in inner_codes(recipe.code) for site in find_sites(code, numbers)]
    assert {site.probe for site in found} == set(numbers)
    assert all(site.skip for site in found)


def test_a_probe_behind_two_hundred_constants_is_a_site(sleeping: None) -> None:
    text = (
        "def f():\n"
        + "".join(f"    x{i} = {i + 1000}.5\n" for i in range(400))
        + "    return x399\n"
    )
    names, _ = probed(text)
    for awake in (True, False, True):
        _recorder.wake(awake)
        assert names["f"]() == 1399.5


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="FOR_ITER has events and counts")
def test_a_site_that_leaves_nothing_is_two_instructions(sleeping: None) -> None:
    names, _ = probed(TEXT + "".join(f"    str({i}.5)\n" for i in range(400)))
    code = names["work"].__code__
    _recorder.wake(True)
    found = [
        after.opname
        for one, after in itertools.pairwise(dis.get_instructions(code, adaptive=True))
        if type(one.argval).__name__ == "Probe"
    ]
    # What is a value: of exceptions' types, and guards.
    assert found.count("FOR_ITER") > 400
    assert set(found) == {"FOR_ITER", "UNARY_INVERT"}
    assert found.count("UNARY_INVERT") < 10
    assert code.replace(co_name="copy").co_code == code.co_code
    assert dis.opmap["FOR_ITER"] not in code.replace().co_code[::2][-400:]


def test_a_copy_of_a_code_object_sleeps_for_ever(sleeping: None) -> None:
    names, _ = probed(TEXT)
    code = names["work"].__code__
    copies: list[Callable[[], CodeType]] = [
        lambda: marshal.loads(marshal.dumps(code)),
        lambda: code.replace(co_name="other"),
        lambda: copy.copy(code),
    ]
    for awake in (True, False):
        _recorder.wake(awake)
        for make in copies:
            made = make()
            assert made is code or not _recorder.is_probed(made)
            assert FunctionType(made, {**names})(4) == names["work"](4)


def test_a_probe_can_be_pickled_as_part_of_code() -> None:
    names, _ = probed(TEXT)
    probes = [
        value for value in names["work"].__code__.co_consts if type(value).__name__ == "Probe"
    ]
    assert len({type(probe) for probe in probes}) > 1
    assert all(pickle.loads(pickle.dumps(probe)) for probe in probes)


def test_frames_that_are_suspended_go_on_awake_and_asleep(sleeping: None) -> None:
    names, _ = probed(
        "def gen(n):\n    for i in range(n):\n        yield i\n        yield -i\n"
        "async def co(x):\n    async with x as y:\n        return y\n"
    )
    generators = [names["gen"](5) for _ in range(3)]
    out: list[list[int]] = [[], [], []]
    for turn in range(10):
        _recorder.wake(turn % 3 == 0)
        for generator, got in zip(generators, out, strict=True):
            got.append(next(generator))
    assert out == [[0, 0, 1, -1, 2, -2, 3, -3, 4, -4]] * 3


def test_threads_run_while_others_wake_and_sleep(sleeping: None) -> None:
    names, _ = probed(TEXT)
    expected = [names["work"](n) for n in range(8)]
    wrong: list[object] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            got = [names["work"](n) for n in range(8)]
            if got != expected:
                wrong.append(got)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=run) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for turn in range(20_000):
            _recorder.wake(turn % 2 == 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not wrong


def test_sites_go_with_their_code() -> None:
    gc.collect()
    before = _recorder.count_sites()[0]
    names, code = probed(TEXT)
    assert _recorder.count_sites()[0] > before
    del names, code
    gc.collect()
    assert _recorder.count_sites()[0] == before


def test_what_is_no_site_is_refused() -> None:
    code = compile("x = 1", "x.py", "exec")
    for unit, skip in ((1 << 20, 1), (0, 256), (0, 200)):
        with pytest.raises(ValueError, match="no such site"):
            _recorder.add_sites(code, SITE.pack(unit, skip))
    with pytest.raises(ValueError, match="2 of them"):
        _recorder.Probe(_recorder.Places(3), 2, 2)
    with pytest.raises(ValueError, match="2 of them"):
        _recorder.make_probes(_recorder.Places(3), ((LINES, 2, 2, 0),), LINES)
    assert _recorder.make_probes(_recorder.Places(3), (("other", 2, 2, 0),), LINES) == [None]
    with pytest.raises(ValueError, match="1 PCs for 3"):
        _recorder.Places(3).fill(bytes(8), 1)


# -- the prologue of code that is an expression


EXPRESSIONS = [
    "lambda: 0",
    "lambda x, *y, z=1, **k: (x, y, z, k)",
    "lambda: (yield)",
    "(x for x in y)",
    "(x for x in y if x for z in (a for a in x))",
    "lambda: [a for a in (lambda: y)()]",
    "(lambda x: lambda: x)(1)",
    "lambda x:\\\n (x +\n    1)",
    "(await x async for x in y)",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_a_prologue_leaves_lines_columns_and_handlers_as_they_are(text: str) -> None:
    outer = compile(f"async def f(y):\n    return {text}\n", "x.py", "exec")
    for code in inner_codes(outer):
        made = with_prologue(code, text_of(0))
        (site,) = find_sites(made, {0})
        start, end = site.unit, site.unit + 1 + site.skip
        old, new = list(code.co_positions()), list(made.co_positions())
        assert new[:start] + new[end:] == old
        assert set(new[start:end]) == {(None, None, None, None)}
        before = [(i.opname, i.argval) for i in dis.get_instructions(code)]
        after = [(i.opname, i.argval) for i in dis.get_instructions(made)]
        assert len(after) == len(before) + (end - start)
        shift = 2 * (end - start)
        old_rows = [
            (e.start, e.end, e.target, e.depth) for e in dis.Bytecode(code).exception_entries
        ]
        new_rows = [
            (e.start, e.end, e.target, e.depth) for e in dis.Bytecode(made).exception_entries
        ]

        def moved(offset: int, at: int = 2 * start, by: int = shift) -> int:
            return offset + by if offset >= at else offset

        assert [
            (s if s < 2 * start else s + shift, e if e <= 2 * start else e + shift, moved(t), d)
            for s, e, t, d in old_rows
        ] == new_rows


def test_generators_with_a_prologue_raise_and_close_as_before() -> None:
    names: dict[str, Any] = {}
    code = compile("def f(y):\n    return (1 // x for x in y)\n", "x.py", "exec")

    def with_prologues(code: CodeType) -> CodeType:
        consts = tuple(
            with_prologues(value) if isinstance(value, CodeType) else value
            for value in code.co_consts
        )
        code = code.replace(co_consts=consts)
        return with_prologue(code, "text") if code.co_name == "<genexpr>" else code

    made = with_prologues(code)
    # ~"text" raises: the prologue is really there, and where it raises the handlers of the generator are in force.
    exec(made, names)
    with pytest.raises(TypeError, match="unary ~"):
        next(names["f"]([1]))


def test_placeholders_are_distinct_and_found_again() -> None:
    placeholders = Placeholders()
    texts = {node.value for node in (placeholders.new("lines", i) for i in range(300))}
    assert len(texts) == 300
    assert isinstance(placeholders.lines([1], 5), ast.UnaryOp)
