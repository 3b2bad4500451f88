"""Which text of a file ran: what was edited since its import, or has another file's name, is not taken for what is there now."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.commands import PYKCOV, run, write

SHOP = """
    def price(n):
        if n > 1:
            n -= 1
        return n

"""
EDITS = {
    "above": "# 1\n# 2\n# 3\n# 4\n"
    + "def price(n):\n    if n > 1:\n        n -= 1\n    return n\n",
    "within": "def price(n):\n    n = 2 * n\n    if n > 1:\n        n -= 1\n    return n\n",
    "behind": "def price(n):\n    if n > 1:\n        n -= 1\n    n += n\n    return n\n",
    "in place": "def price(n):\n    if n > 2:\n        n -= 1\n    return n\n\n",
    "all in one": "def price(n): return (\n    n,\n    n,\n    n,\n)\n",
    "shorter": "x = 1\n",
    "no Python": "def price(n:\n",
}
PROGRAM = """
    import sys
    from pathlib import Path

    import pykcov
    import shop

    Path("shop.py").write_text(sys.argv[1])
    with pykcov.collect(include=["shop.py"], branch="branch" in sys.argv) as c:
        shop.price(3)
    file = shop.__file__
    assert c.trace.lines()[file] == {2, 3, 4}, c.trace.lines()
    assert c.trace.functions() == {file: {"price"}}
    places = [c.trace.symbolize(pc) for pc in c.trace.pcs]
    assert [p.line for p in places if p.kind != "arm"] == [1, 2, 3, 4], places
    c.trace.save("x.trace")
"""


@pytest.mark.parametrize("branch", [(), ("branch",)], ids=["lines", "arms"])
@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_since_its_import_keeps_its_lines_and_is_refused_by_reports(
    tmp_path: Path, edit: str, branch: tuple[str, ...]
) -> None:
    """Its lines were taken for those of the new text, and vanished where that has none."""
    write(tmp_path, "shop.py", SHOP)
    write(tmp_path, "main.py", PROGRAM)
    done = run([sys.executable, "main.py", EDITS[edit], *branch], tmp_path)
    assert done.returncode == 0, done.stderr
    done = run([*PYKCOV, "report", "--missing", "x.trace"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "changed since it ran: shop.py" in done.stderr


@pytest.mark.parametrize(
    "text", ["x = 1\ny = 2\n", "def f(): pass\nf()\n", "\n" * 50 + "x = 1\n"], ids=repr
)
def test_code_that_was_compiled_under_another_files_name_is_not_of_that(
    tmp_path: Path, text: str
) -> None:
    path = write(tmp_path, "other.py", "import os\nimport re\n\n\ndef g():\n    pass\n\n\nz = 1\n")
    write(
        tmp_path,
        "main.py",
        f"""
        import pykcov
        code = compile({text!r}, {str(path)!r}, "exec")
        with pykcov.collect(include=["other.py"]) as c:
            exec(code)
        assert c.trace.lines() == {{{str(path)!r}: {{n for _, _, n in code.co_lines() if n}}}}, c.trace.lines()
        c.trace.save("x.trace")
        """,
    )
    done = run([sys.executable, "main.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    done = run([*PYKCOV, "report", "--missing", "x.trace"], tmp_path)
    assert done.returncode == 2
    assert "changed since it ran: other.py" in done.stderr


MADE = r'''
"""Made by a program: \d."""
import re
from functools import wraps


def keep(f):
    @wraps(f)
    def inner(*a):
        return f(*a)
    return inner


@keep
def f(x):
    """What it does,
    in two lines."""
    class Inner:
        y = [i for i in range(x)
             if re.match(r"\d\_", "1_")]
    return (lambda: max(
        Inner.y))


CALLS = {"f": f,
         "g": "\\"}
'''


@pytest.mark.parametrize("options", [(), ("-O",), ("-OO",)], ids=str)
def test_a_module_that_the_program_has_made_has_its_statements(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """It is newer than the process, but what was imported is its text; nobody is warned of that twice."""
    write(
        tmp_path,
        "main.py",
        f"""
        import warnings
        from pathlib import Path
        import pykcov
        Path("made.py").write_text({MADE!r})
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pykcov.collect() as c:
                import made
                made.f(3)()
        print([w.category for w in seen].count(SyntaxWarning) <= 1, len(c.trace.sources[made.__file__]))
        print(sorted(c.trace.lines()[made.__file__]))
        """,
    )
    done = run([sys.executable, *options, "main.py"], tmp_path)
    assert done.stdout == "True 1\n[3, 4, 7, 8, 9, 10, 11, 14, 15, 18, 19, 21, 25]\n", done.stderr
