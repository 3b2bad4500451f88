"""What the probes know of a source file and of a code object before it runs."""

from __future__ import annotations

import ast
import doctest
import linecache
import os
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykcov.probes import places
from pykcov.probes.monitoring import by_instruction
from unit import programs
from unit.watching import MONITORING, codes_of, monitoring


def analyse(text: str) -> places.Source:
    source = places.analyse(textwrap.dedent(text))
    assert source is not None
    return source


def code_of(text: str, name: str) -> types.CodeType:
    module = compile(textwrap.dedent(text), "x.py", "exec", dont_inherit=True)
    return next(code for code in codes_of(module) if code.co_name == name)


def table_of(text: str, name: str = "<module>") -> dict[int, int]:
    return places.line_table(code_of(text, name), analyse(text))


# -- statements


def test_the_lines_of_a_statement_lead_to_its_first() -> None:
    source = analyse(
        """\
        x = [
            1,
        ]
        f(a,
          b); g(c,
          d)
        y = '''
        '''
        z = 1 + \\
            2
        a = 1; \\
        b = 2
        """
    )
    assert source.first == {2: 1, 3: 1, 5: 4, 6: 4, 8: 7, 10: 9, 12: 11}
    assert source.nlines == 12


def test_headers_decorators_cases_and_handlers_are_statements_without_their_blocks() -> None:
    source = analyse(
        """\
        @deco(
            1)
        @other
        def f(a,
              b) -> (
                int):
            return a
        if (a and
                b
            ):
            c
        elif (d or
                e): f(
                    g)
        else: h(
            i)
        try: j()
        except (k,
                l):
            m
        match (
                n):
            case (
                    1
                ) if (o
                      ):
                p
        with (q,
              r):
            s
        for t in (
                u): v
        class W(
                X): y = (
                    1)
        """
    )
    firsts: dict[int, list[int]] = {}
    for line, first in source.first.items():
        firsts.setdefault(first, []).append(line)
    assert firsts == {
        1: [2], 4: [5, 6], 8: [9, 10], 12: [13, 14], 15: [16], 18: [19], 21: [22],
        23: [24, 25, 26], 28: [29], 31: [32], 33: [34, 35],
    }  # fmt: skip


def test_blank_lines_and_comments_behind_a_header_belong_to_no_statement() -> None:
    assert analyse("if a:\n\n    # why\n    b\n").first == {}


def test_docstrings_of_modules_classes_and_functions_are_known() -> None:
    source = analyse(
        '''\
        """Of the
        module."""
        class A:
            "Of A."
            x = "none"
            def f(self):
                """Of
                f."""
                "none"
        def g(): "of g, and its statement"
        '''
    )
    assert source.docstrings == {1, 2, 4, 7, 8, 10}


def test_functions_are_named_as_their_code_objects() -> None:
    source = analyse(programs.CONSTRUCTS)
    module = compile(programs.CONSTRUCTS, "x.py", "exec")
    named = {
        (code.co_qualname, code.co_firstlineno)
        for code in codes_of(module)
        if not code.co_name.startswith("<")
    }
    assert {(name, first) for name, first, _ in source.functions} == named
    assert "later" in {name for name, _ in named}  # declared global in a function


def test_what_is_declared_global_on_several_lines_is_named_as_a_global() -> None:
    source = analyse("def f():\n    global a, \\\n        b\n    def b(): pass\n")
    assert [name for name, _, _ in source.functions] == ["f", "b"]
    assert source.first == {3: 2}


def test_a_line_is_in_the_innermost_function_whose_body_has_it() -> None:
    source = analyse(
        """\
        x = 1
        @deco
        def f(a,
              b=2):
            y = 1
            class C:
                z = 1
                def g(self):
                    return (
                        1)
                w = 2

            return y
        def h(): return 1
        """
    )
    names = {
        1: "<module>", 2: "<module>", 3: "<module>", 4: "<module>", 5: "f", 6: "f",
        7: "f.<locals>.C", 8: "f.<locals>.C", 9: "f.<locals>.C.g", 10: "f.<locals>.C.g",
        11: "f.<locals>.C", 13: "f", 14: "<module>", 99: "<module>",
    }  # fmt: skip
    assert {line: source.function_at(line) for line in names} == names
    assert source.functions == (
        ("f", 2, 13),
        ("f.<locals>.C", 6, 11),
        ("f.<locals>.C.g", 8, 10),
        ("h", 14, 14),
    )


def test_a_long_chain_of_elifs_is_no_deep_recursion() -> None:
    text = "if a: b\n" + "".join(f"elif a == {i}:\n  (b,\n  c)\n" for i in range(900))
    assert len(analyse(text).first) == 900
    assert places.analyse(text, branch=True) is not None


def test_a_long_sum_is_no_deep_recursion() -> None:
    text = "x = " + " + ".join(["a"] * 900) + "\n"
    source = places.analyse(text, branch=True)
    assert source is not None and source.first == {}


@given(st.text(max_size=40))
def test_any_text_is_python_or_is_not(text: str) -> None:
    source = places.analyse(text, branch=True)
    assert source is None or len(source.digest) == 16


def test_the_digest_is_of_the_text() -> None:
    assert analyse("x = 1").digest == analyse("x = 1").digest
    assert analyse("x = 1").digest != analyse("x = 2").digest


def test_analysing_warns_of_nothing_and_moves_nothing() -> None:
    text = 'a = "\\d\\\\" + b"\\w" + \'\\q\' + f"{x}\\y" \\\n    + """\\z\n"""\n'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = analyse(text)
    assert source.first == {2: 1, 3: 1}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_for_python(newline: str) -> None:
    source = analyse(newline.join(["x = (1,", "  2)", "y = '\x0c\x0b\u2028'", "z = (", ")"]))
    assert source.first == {2: 1, 5: 4}
    assert source.nlines == 5


# -- reading


def test_a_file_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    file = tmp_path / "latin.py"
    file.write_bytes("# -*- coding: latin-1 -*-\nx = 'é' + (\n  y)\n".encode("latin-1"))
    source = places.read_source(str(file))
    assert source is not None and source.first == {3: 2}


def test_what_is_no_python_has_no_source(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>{{ x }}</p>")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "null.py").write_bytes(b"x = 1\0\n")
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("page.html", "broken.py", "binary.py", "null.py", "pipe.py", "missing.py", ""):
        assert places.read_source(str(tmp_path / name)) is None, name
    assert places.read_source("<nowhere>") is None
    assert places.read_source("nul\0l.py") is None


def test_code_without_a_file_is_looked_up_in_linecache() -> None:
    name = "<cell 1>"
    linecache.cache[name] = (11, None, ["x = (\n", "  1)\n"], name)
    try:
        source = places.read_source(name)
    finally:
        del linecache.cache[name]
    assert source is not None and source.first == {2: 1}


def test_a_doctest_has_its_source_while_it_runs() -> None:
    seen: list[places.Source | None] = []

    def look() -> None:
        seen.append(places.read_source(sys._getframe(1).f_code.co_filename))

    test = doctest.DocTestParser().get_doctest(
        ">>> x = look(\n...     )\n", {"look": look}, "spam", "spam.txt", 0
    )
    doctest.DocTestRunner().run(test)
    assert [source.first for source in seen if source is not None] == [{2: 1}]


# -- the table of lines


def test_only_the_line_of_a_statements_first_instruction_counts() -> None:
    assert table_of("x = [\n    a,\n    b,\n]\nf(a,\n  b)\n") == {2: 1, 5: 5}


def test_without_a_source_each_line_counts() -> None:
    code = code_of("x = [\n    a,\n    b,\n]\n", "<module>")
    assert places.line_table(code, None) == {1: 1, 2: 2, 3: 3}


def test_docstrings_count_in_no_code_object() -> None:
    text = '"""Of the\nmodule."""\nclass A:\n    """Of A."""\n    x = 1\ndef f():\n    "Of f."\n    y\n'
    assert table_of(text) == {3: 3, 6: 6}
    assert table_of(text, "A") == {3: 3, 5: 5}
    assert table_of(text, "f") == {8: 8}


def test_an_empty_module_has_no_lines() -> None:
    for text in ("", "\n", "# a comment\n"):
        assert table_of(text) == {}, text


def test_code_within_an_expression_counts_on_the_first_line_of_the_statement_only() -> None:
    text = "f = lambda: (y +\n    1 +\n    x)\ng(\n    lambda: 2,\n    (i for i in x))\nh(i for i in x)\n"
    lambdas = [code for code in codes_of(compile(text, "x", "exec")) if "<" in code.co_name]
    source = analyse(text)
    tables = {
        (code.co_name, code.co_firstlineno): places.line_table(code, source) for code in lambdas
    }
    assert tables[("<lambda>", 1)] == {1: 1}
    assert tables[("<lambda>", 5)] == {}
    assert tables[("<genexpr>", 6)] == {}
    assert tables[("<genexpr>", 7)] == {7: 7}


def test_a_function_on_one_line_counts_its_line() -> None:
    assert table_of("def f(): return 1\n", "f") == {1: 1}
    assert table_of("def f(a,\n      b): return a\n", "f") == {2: 1}
    assert table_of("def f(a,\n      b):\n    yield a\n", "f") == {3: 3}


# -- entries


def test_entries_tell_all_code_objects_of_a_file_apart() -> None:
    text = (
        "a, b = lambda: 0, lambda: 1\n"
        "c, d = lambda x: x, lambda x: x\n"
        "e = [i for i in x] + [j for j in y] + list(k for k in z) + list(m for m in z)\n"
        "f = lambda g=(lambda h: h): g\n" + programs.CONSTRUCTS
    )
    codes = list(codes_of(compile(text, "x", "exec")))
    entries = {places.entry(code) for code in codes}
    # Code objects that are equal are one place: a `finally` has copies of what is in it.
    assert len(entries) == len(set(codes))
    assert ("<module>", 1) in {entry[1:3] for entry in entries}
    named = {(name, first) for name, first, _ in analyse(text).functions}
    assert {entry[1:3] for entry in entries} >= named


def test_entries_of_code_without_positions_still_differ() -> None:
    text = "a, b = lambda: 0, lambda: 1\ndef f(): pass\n"
    done = subprocess.run(
        [sys.executable, "-X", "no_debug_ranges", "-c", _ENTRIES, text],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": _path()},
    )  # fmt: skip
    module, first, second, function = ast.literal_eval(done.stdout)
    assert module[1:4] in (("<module>", 0, None), ("<module>", 1, None))
    assert first[1:3] == second[1:3] == ("<lambda>", 1)
    assert first != second and first[3] < -1 and second[3] < -1
    assert function[1:4] == ("f", 2, None)


_ENTRIES = """
import sys
from pykcov.probes import places
from unit.watching import codes_of
print([places.entry(code) for code in codes_of(compile(sys.argv[1], 'x', 'exec'))])
"""


def _path() -> str:
    return os.pathsep.join(sys.path)


# -- long code objects


@pytest.mark.skipif(not MONITORING, reason="3.11 has no sys.monitoring")
@pytest.mark.parametrize(
    "line", ["x = 1", "x = x + x * x - x / (x + 1) + x + x + x", "x = f(1, 2)"]
)
def test_code_is_long_before_its_line_events_cost_more(line: str) -> None:
    """Not with a clock: LINE events are dear from where the distance does not fit in 8 bits."""

    def is_long(lines: int) -> bool:
        return by_instruction(code_of("def f(x):\n" + f"    {line}\n" * lines, "f"))

    assert not is_long(100)
    assert is_long(2000)
    shortest = next(n for n in range(100, 2000) if is_long(n))
    code = code_of("def f(x):\n" + f"    {line}\n" * (shortest - 1), "f")
    for start, end, number in code.co_lines():
        if number is not None:
            for unit in (start // 2, end // 2 - 1):
                assert -127 < number - code.co_firstlineno - (unit >> 4) <= 127


def test_short_code_is_not_long() -> None:
    codes = list(codes_of(compile(programs.CONSTRUCTS, "x", "exec")))
    assert not any(by_instruction(code) for code in codes if code.co_name != "<module>")


# -- content


def test_the_content_of_a_code_object_has_the_same_digest_in_each_process() -> None:
    text = "def f(x={1, 'a', None, (2.0, b'')}):\n    return x in {3, 'b', -0.0, 1j, ...}, lambda: {'q', 'r'}\n"
    script = f"import sys; sys.path[:] = {sys.path!r}\n" + _DIGEST
    found = set()
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, text],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        found.add(done.stdout.strip())
    here = compile(text, "here", "exec", dont_inherit=True)
    assert found == {places.content_digest(here)}


_DIGEST = """
from pykcov.probes import places
print(places.content_digest(compile(sys.argv[1], 'there', 'exec')))
"""


def test_the_digest_of_content_depends_on_all_of_it_but_the_files_name() -> None:
    texts = ["x = 1", "x = 2", "x = 1.0", "x = True", "x = '1'", "y = 1", "\nx = 1", "x  = 1"]
    texts += ["def f(): 1.0", "def f(): x = 1", "def f(): x = 0.0", "def f(): x = -0.0"]
    assert len({places.content_digest(compile(t, "a", "exec")) for t in texts}) == len(texts)


def test_running_does_not_change_the_digest_of_content() -> None:
    names: dict[str, Any] = {}
    exec(compile("def f(n):\n    for i in range(n): n += i\n    return n\n", "x", "exec"), names)
    code = names["f"].__code__
    before = places.content_digest(code)
    names["f"](1000)
    assert places.content_digest(code) == before
    if MONITORING:
        events = sys.monitoring.events
        with monitoring([code], events.LINE, {events.LINE: lambda *_: None}):
            names["f"](1000)
            assert places.content_digest(code) == before


def test_what_has_run_has_the_same_tables() -> None:
    source = places.analyse(programs.CONSTRUCTS, branch=True)
    module = compile(programs.CONSTRUCTS, "x", "exec")

    def tables() -> list[object]:
        return [
            (places.line_table(code, source), places.arms(code, source), places.entry(code))
            for code in codes_of(module)
        ]

    before = tables()
    names: dict[str, Any] = {"__name__": "constructs"}
    exec(module, names)
    for _ in range(20):  # until the interpreter has specialised it
        names["main"]()
    assert tables() == before
