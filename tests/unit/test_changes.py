"""From a change to the lines whose tests it touches."""

from __future__ import annotations

import textwrap

import pytest

from pykcov.testing.changes import Hunk, compare, lines_of
from pykcov.testing.touched import touched

SOURCE = textwrap.dedent('''\
    """A shop."""
    RATE = 8


    def discount(price):
        """Less."""
        return price * RATE // 10


    def quote(price, member):
        # guests pay in full
        if member:
            price = discount(
                price,
            )
        else:
            price += 0
        return price


    class Cart:
        size = 3

        def add(self, item):
            def inner():
                return item

            return inner()
''')
LINES = SOURCE.splitlines()
DISCOUNT, QUOTE = range(6, 8), range(12, 19)


def after(*edits: tuple[str, str]) -> list[str]:
    text = SOURCE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.splitlines()


def lines(*edits: tuple[str, str]) -> tuple[set[int], bool]:
    found = touched(LINES, after(*edits))
    return set(found.lines), bool(found.module)


def test_nothing_is_touched_if_nothing_has_changed() -> None:
    assert not touched(LINES, LINES)


def test_a_statement_in_the_place_of_another_concerns_who_executed_that() -> None:
    assert lines(("price += 0", "price += 1")) == ({17}, False)


def test_each_line_of_a_statement_stands_for_its_first() -> None:
    assert lines(("            price,\n", "            price + 1,\n")) == ({13}, False)


def test_a_call_that_is_laid_out_anew_is_still_one_statement() -> None:
    old = "discount(\n            price,\n        )"
    assert lines((old, "discount(price)")) == ({13}, False)


def test_a_comment_concerns_nobody() -> None:
    assert lines(("# guests pay in full", "# all pay")) == (set(), False)
    assert lines(("    # guests pay in full\n", "")) == (set(), False)
    assert lines(("RATE = 8\n", "RATE = 8\n# so much\n\n")) == (set(), False)


def test_a_line_in_a_text_is_no_comment() -> None:
    old = ["def f():", '    return """', "# one", '"""']
    assert set(touched(old, [*old[:2], "# two", old[3]]).lines) == {2}


def test_a_statement_that_comes_concerns_the_whole_function() -> None:
    assert lines(("    return price\n", "    price += 1\n    return price\n")) == (
        set(QUOTE),
        False,
    )


def test_a_statement_that_goes_concerns_the_whole_function() -> None:
    assert lines(("    else:\n        price += 0\n", "")) == (set(QUOTE), False)


def test_a_statement_that_leaves_its_block_concerns_the_whole_function() -> None:
    assert lines(("        price += 0\n", "        pass\n    price += 0\n")) == (set(QUOTE), False)
    found, module = lines(("    else:\n        price += 0", "    if True:\n        price += 0"))
    assert 12 in found and not module, "else: is of the statement that it is in"


def test_a_docstring_and_a_declaration_show_no_execution() -> None:
    assert lines(('"""Less."""', '"""Much less."""')) == (set(DISCOUNT), False)
    old = ["def f():", "    global a", "    a = 1"]
    assert set(touched(old, [old[0], "    global b", old[2]]).lines) == {2, 3}


def test_what_is_in_no_function_concerns_who_imports_it() -> None:
    assert lines(("RATE = 8", "RATE = 9")) == (set(), True)
    assert lines(("size = 3", "size = 4")) == (set(), True)
    assert lines(("def discount(price)", "def discount(price=1)")) == (set(), True)
    assert lines(("    def add(self, item)", "    def add(self, item=1)")) == (set(), True)


def test_the_head_of_an_inner_function_is_a_statement_of_the_outer_one() -> None:
    assert lines(("def inner()", "def inner(x=1)")) == ({25}, False)
    assert lines(("return item\n", "return item + 1\n")) == ({26}, False)


def test_a_new_statement_of_an_inner_function_concerns_that_one() -> None:
    new = "            item += 0\n            return item\n"
    assert lines(("            return item\n", new)) == ({26}, False)


def test_a_new_function_concerns_who_imports_it() -> None:
    assert lines(("class Cart:", "def sale():\n    return 1\n\n\nclass Cart:")) == (set(), True)
    new = "        return inner()\n\n    def drop(self):\n        return 1\n"
    assert lines(("        return inner()\n", new)) == (set(), True)


def test_a_function_that_goes_concerns_who_executed_it_and_who_imports_it() -> None:
    gone = "\n".join(LINES[4:7]) + "\n"
    assert lines((gone, "")) == ({6, 7}, True)


def test_a_decorator_that_comes_concerns_who_imports_it() -> None:
    assert lines(("def quote(", "@cache\ndef quote("))[1]


def test_a_new_test_concerns_no_other() -> None:
    old = ["import shop", "", "", "def test_a():", "    assert shop", ""]
    new = [*old, "", "@pytest.mark.slow", "def test_b():", "    assert 1"]
    assert not touched(old, new)
    assert touched(old, [*old, "", "def test_a():", "    assert 1"]).module, "it takes a place"
    assert touched(old, [*old, "", "@register", "def test_b():", "    assert 1"]).module
    assert touched(old, [*old, "", "def helper():", "    assert 1"]).module


@pytest.mark.parametrize("broken", [["def f(:"], ["x = (", "def f(): pass"]])
def test_what_cannot_be_parsed_concerns_all(broken: list[str]) -> None:
    found = touched(LINES, broken)
    assert found.module and {7, 12, 18} <= set(found.lines)
    found = touched(broken, LINES)
    assert found.module


def test_what_the_user_says_is_of_the_text_as_it_is_now() -> None:
    now = ["# new", "# new", *LINES]
    found = touched(LINES, now, [Hunk(19, 19, True)])
    assert found.lines == {17: 17}
    assert not found.module


def test_what_the_user_says_is_gone_concerns_the_functions_around() -> None:
    assert set(touched(LINES, LINES, [Hunk(18, 17, True)]).lines) == set(QUOTE)
    between = touched(LINES, LINES, [Hunk(9, 8, True)])
    assert set(between.lines) == set(DISCOUNT) and between.module


def test_compare_gives_the_lines_of_the_new_text() -> None:
    assert compare(LINES, after(("price += 0", "price += 1"))) == [Hunk(17, 17, True)]
    assert compare(LINES, after(("    # guests pay in full\n", ""))) == []
    assert compare(LINES, after(("        price += 0\n", ""))) == [Hunk(17, 16, False)]
    assert compare([], LINES) == [Hunk(1, len(LINES), False)]


def test_the_line_that_is_told_is_the_one_of_now() -> None:
    now = after(("RATE = 8\n", "RATE = 8\n\n\n"), ("price += 0", "price += 1"))
    assert touched(LINES, now).lines == {17: 19}


def test_a_line_that_comes_within_a_statement_is_a_change_of_that() -> None:
    """Of a call, a list or a text on several lines nothing was touched."""
    old = ["D = [", "    1,", "]", "def f():", "    return [", "        1,", "    ]"]
    inside = touched(old, [*old[:6], "        2,", *old[6:]])
    assert inside.lines == {5: 7} and not inside.module
    assert touched(old, [*old[:2], "    2,", *old[2:]]).module == 3
    text = ["def f():", '    return """', "one", '"""']
    assert set(touched(text, [*text[:3], "", text[3]]).lines) == {2}


def test_a_line_of_a_text_is_no_comment_wherever_the_text_is() -> None:
    old = ["def f(x):", '    if x == """', "# one", '""":', "        return 1", "    return 2"]
    assert 2 in touched(old, [*old[:2], "# two", *old[3:]]).lines
    assert 2 in touched(old, [*old[:2], "", *old[2:]]).lines
    assert touched(["def f(", '    x="""', "# one", '"""', "): pass"], old).module


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return [1]", "yield 1"),
        ("print(T)", "T = 1"),
        ("print(T)", "import T"),
        ("print(T)", "(T := 1)"),
        ("print(T)", "def T(): pass"),
        ("global T", "nonlocal T"),
    ],
)
def test_a_line_that_changes_what_a_function_is_concerns_all_of_it(old: str, new: str) -> None:
    """Who did not execute the line gets a generator, or a name that is not bound."""
    source = ["def f(x):", "    if x:", f"        {old}", "    return T"]
    other = [*source[:2], f"        {new}", source[3]]
    assert set(touched(source, other).lines) == {2, 3, 4}
    assert set(touched(other, source).lines) == {2, 3, 4}


def test_a_line_that_binds_what_was_bound_concerns_who_executed_it() -> None:
    source = ["def f(x):", "    if x:", "        x = 1", "    return [y for y in x]"]
    assert set(touched(source, [*source[:2], "        x = 2", source[3]]).lines) == {3}
    assert set(touched(source, [*source[:3], "    return [z for z in x]"]).lines) == {4}


def test_a_test_that_takes_the_place_of_one_that_was_inherited_is_not_new() -> None:
    """The node id was known, and the test that now has it was left out."""
    new = ["    def test_b(self):", "        pass"]
    for bases, is_new in (
        ("", True),
        ("(unittest.TestCase)", True),
        ("(Base)", False),
        ("(tests.Base, TestCase)", False),
        ("(Here)", True),
    ):
        here = ["class Here(TestCase):", "    pass"]
        old = [*here, f"class TestA{bases}:", "    def test_a(self):", "        pass"]
        assert bool(touched(old, [*old, *new])) is not is_new, bases


def test_lines_are_what_python_counts() -> None:
    """A form feed and its like were the end of a line, and all lines behind it one off."""
    source = "one\r\n\x0c\ntwo\rthree\x0b\x1c\x85\u2028\n\nfour".encode()
    assert lines_of(source) == ["one", "\x0c", "two", "three\x0b\x1c\x85\u2028", "", "four"]
    assert lines_of(b"") == []
    assert lines_of(b"\xef\xbb\xbfone\n") == ["one"]


@pytest.mark.parametrize("cookie", ["# coding: latin-1", "# coding: nonsense", ""])
def test_letters_in_any_encoding_differ_if_they_do(cookie: str) -> None:
    one, two = (
        lines_of(f"{cookie}\nx = '".encode() + byte + b"'\n") for byte in (b"\xe9", b"\xe8")
    )
    assert one != two and touched(one, two).module == 2


def test_what_is_in_no_function_concerns_who_executed_it_as_a_script() -> None:
    assert touched(LINES, after(("RATE = 8", "RATE = 9"))).top >= {2, 21, 22}
    assert not touched(LINES, after(("RATE = 8", "RATE = 9"))).top & {7, 13, 26}
