"""Comparisons with the import hook: whole programs, their children, tasks and pools."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pykcov
from pykcov import _recorder, abi, registry
from pykcov.area import Pool
from pykcov.registry import Word

TARGET = """\
def check(x):
    if x == "a word that is longer":
        return 1
    return 2 < len(x) < 5
"""


def run(directory: Path, *command: str, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env={**os.environ, "PYKCOV_NAMESPACE": f"comparing-{os.getpid()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def program(directory: Path, text: str) -> list[str]:
    (directory / "target.py").write_text(TARGET)
    (directory / "main.py").write_text(textwrap.dedent(text))
    return run(directory, "-W", "error", "main.py")[0].splitlines()


def test_tasks_threads_pools_and_child_processes_are_followed(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        import asyncio, subprocess, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        import pykcov
        pykcov.instrument(include=["target.py"], comparisons=True)
        import target

        async def main():
            await asyncio.gather(*(asyncio.to_thread(target.check, t) for t in ("one", "two")))

        with pykcov.collect(include=["target.py"], mode=pykcov.TRACE_CMP) as c:
            asyncio.run(main())
            thread = threading.Thread(target=target.check, args=("three",))
            thread.start(), thread.join()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(target.check, "four").result()
            child = "import target; target.check('five')"
            subprocess.run([sys.executable, "-W", "error", "-c", child], check=True)
        print(sorted(one.left for one in c.trace.comparisons if one.op == "=="))
        print(c.trace.dropped, c.trace.probe)
        """,
    )
    assert said == ["['five', 'four', 'one', 'three', 'two']", "0 comparisons"]


def test_a_collection_compiles_what_is_imported_in_it_and_warns_of_what_was_before(
    tmp_path: Path,
) -> None:
    said = program(
        tmp_path,
        """
        import warnings
        import pykcov
        with pykcov.collect(include=["target.py"], mode=pykcov.TRACE_CMP) as c:
            import target
            target.check("abc")
        print([one[:4] for one in c.trace.comparisons])
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pykcov.collect(include=["main.py"], mode=pykcov.TRACE_CMP) as c:
                1 < len(__name__) < 3
        print(*(warning.message for warning in seen))
        print(list(c.trace.comparisons))
        """,
    )
    assert said == [
        "[('==', 'abc', 'a word that is longer', 'right'), ('<', 2, 3, 'left'), ('<', 3, 5, 'right')]",
        "TRACE_CMP: no comparison is recorded: __main__ was imported without comparison probes",
        "[]",
    ]


def test_modules_are_given_comparison_probes_later(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        import pykcov
        import target
        pykcov.instrument(target, comparisons=True)
        with pykcov.collect(include=["target.py"], mode=pykcov.TRACE_CMP) as c:
            target.check("abc")
        print(len(c.trace.comparisons))
        """,
    )
    assert said == ["3"]


KINDS = """
def check(text, table):
    return text in table and table[text], text.startswith("x"), table.get(text)
"""


@pytest.mark.parametrize(
    ("chosen", "command", "expected"),
    [
        ("", "", ["in", "startswith"]),
        ("methods=False", "--no-methods", ["in"]),
        ("lookups=True", "--lookups", ["in", "[]", "startswith", "get"]),
        ("methods=False, lookups=True", "--no-methods --lookups", ["in", "[]", "get"]),
    ],
)
def test_methods_and_lookups_are_switched(
    tmp_path: Path, chosen: str, command: str, expected: list[str]
) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    text = f"""
    import pykcov
    pykcov.instrument(include=["kinds.py"], comparisons=True, {chosen})
    import kinds
    with pykcov.collect(include=["kinds.py"], mode=pykcov.TRACE_CMP) as c:
        kinds.check("a", {{"a": 1}})
    print(*(one.op for one in c.trace.comparisons))
    """
    assert program(tmp_path, text) == [" ".join(expected)]
    (tmp_path / "main.py").write_text("import kinds\nkinds.check('a', {'a': 1})\n")
    run(tmp_path, "-m", "pykcov", "run", "-q", "--mode", "cmp", *command.split(), "main.py")
    trace = pykcov.Trace.load(tmp_path / "pykcov.trace")
    assert [one.op for one in trace.comparisons] == expected


def test_modules_that_were_compiled_without_comparison_probes_are_named(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        import warnings
        import pykcov
        pykcov.instrument(include=["target.py"])
        import target
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            pykcov.instrument(include=["target.py"], comparisons=True)
            pykcov.instrument(target, comparisons=True)
        print(*(warning.message for warning in seen), sep="\\n")
        """,
    )
    assert said == [
        "instrument: compiled before, without comparison probes: target",
        "instrument: target was compiled before, without comparison probes",
    ]


def test_run_and_report(tmp_path: Path) -> None:
    (tmp_path / "target.py").write_text(TARGET)
    (tmp_path / "main.py").write_text(
        "import target\nfor word in 'ab', 'c' * 300:\n    target.check(word)\n"
    )
    _, said = run(tmp_path, "-m", "pykcov", "run", "--mode", "cmp", "main.py")
    assert "pykcov report --comparisons shows what was compared" in said
    table, _ = run(tmp_path, "-m", "pykcov", "report", "--comparisons")
    lines = [re.sub(r"  +", " | ", line) for line in table.splitlines() if "---" not in line]
    long = "'" + "c" * 19 + "…"
    assert lines == [
        "place | operator | times | constants | values seen",
        f"target.py:2:8 | == const | 2 | 'a word that is long… | 'ab', {long}",
        "target.py:4:12 | const < | 2 | 2 | 2, 300",
        "target.py:4:16 | < const | 1 | 5 | 300",
        "total | 5",
        "dropped | 0",
    ]
    _, said = run(tmp_path, "-m", "pykcov", "run", "--mode", "cmp", "--events", "main.py", status=2)
    assert "--mode cmp needs --compiled" in said
    _, said = run(tmp_path, "-m", "pykcov", "run", "--lookups", "main.py", status=2)
    assert "with --mode cmp" in said
    run(tmp_path, "-m", "pykcov", "run", "-q", "main.py")
    table, _ = run(tmp_path, "-m", "pykcov", "report", "--comparisons")
    assert "no comparisons: a trace has them if it was collected with --mode cmp" in table


ARMS = """\
def f(x, y, s):
    r = [i for i in range(5) if 1 < i < 4 and i != 2]
    if x < 5 and y == 3: r += [1]
    if 1 < x < 9: r += [2]
    elif not 1 < y <= 9 or x == 7: r += [4]
    w = 3 if 0 < x < 2 else (x == 1 or y == 2) and x != 9
    while x < 3 < y: x += 1
    match s:
        case "a": r += [1]
        case "b" | "c" if x > 2: r += [2]
        case _: r += [3]
    try:
        assert x in (3, 5) and "q" not in s
    except AssertionError:
        r += [9]
    return r + [w]
"""


def test_lines_and_arms_of_code_that_also_compares_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "with_probes.py").write_text(ARMS)
    (tmp_path / "without.py").write_text(ARMS)
    said = program(
        tmp_path,
        """
        from collections import Counter
        import pykcov
        pykcov.instrument(include=["without.py"])
        pykcov.instrument(include=["with_probes.py"], comparisons=True)
        import with_probes, without

        def places(module):
            with pykcov.collect(include=[module.__file__], branch=True) as c:
                for x in (0, 1, 2, 5, 7, 20):
                    for y in (1, 2, 3, 12):
                        for s in "abq":
                            module.f(x, y, s)
            found = map(c.trace.symbolize, c.trace)
            return Counter((p.kind, p.line, p.column, p.end_column, p.arm) for p in found)

        one, two = places(with_probes), places(without)
        print(one == two, len(one) > 50, one - two, two - one)
        """,
    )
    assert said == ["True True Counter() Counter()"]


# -- words that nobody wrote


def table(words: list[int], data: bytes) -> tuple[bytearray, bytearray]:
    """An area of these words, and its table of operands."""
    area = bytearray(8 * 64)
    for at, word in enumerate(words):
        area[8 * at : 8 * at + 8] = word.to_bytes(8, sys.byteorder)
    used = len(data).to_bytes(8, sys.byteorder)
    return area, bytearray(used + bytes(8) + data + bytes(512 - len(data)))


class Mapped(_recorder.Area):
    """An area in memory of this test's own."""

    def __init__(self, words: bytearray, operands: bytearray) -> None:
        self.operands = operands
        self.bind(words, bytearray(8 * 64), bytearray(), operands)


def move(to: Mapped, source: Mapped) -> int:
    """Move what one area has into the other; return how many records were dropped, as there was no room."""
    space = registry.get().namespace
    slot = memoryview(bytearray(8 * 32)).cast("Q")
    slot[Word.REMOTE] = 1
    lock = _recorder.Lock(space, bytearray(8), "test", 1.0)
    session = _recorder.Session()
    kind = (64, abi.TRACE_CMP)
    session.bind(0, slot, to, lock, Pool(space), kind, None, True, True, False, False, False, False)
    assert session.take(source, True)
    return slot[Word.DROPPED]


IN_TABLE = abi.CmpKind.BYTES << 8 | abi.CMP_IN_TABLE[0] | abi.CmpKind.NONE << 12


@pytest.mark.parametrize("length", [0, 9, 256, 257, 0xFFFF])
@pytest.mark.parametrize("place", [0, 5, 500, 512, 1 << 32, (1 << 64) - 8, (1 << 64) - 1])
def test_a_record_whose_operands_are_nowhere_is_moved_without_harm(length: int, place: int) -> None:
    record = [IN_TABLE | length << 32, place, 0, 77]
    source, operands = table([2, *record, 1, 5, 5, 78], b"0123456789abcdef")
    to, taken = table([0], b"")
    assert move(Mapped(to, taken), Mapped(source, operands)) == 0
    words = memoryview(to).cast("Q")
    assert list(words[4:9]) == [77, 1, 5, 5, 78]
    used = memoryview(taken).cast("Q")[0]
    asked = min(length, abi.OPERAND_LIMIT)
    is_there = place <= 512 and asked <= 512 - place
    assert used == (asked if is_there else 0)


def test_a_table_of_operands_whose_count_is_damaged_is_full() -> None:
    record = [IN_TABLE | 9 << 32, 0, 0, 77]
    source, operands = table([1, *record], b"012345678")
    to, taken = table([1, 1, 5, 5, 78], b"")
    memoryview(taken).cast("Q")[0] = 1 << 63
    assert move(Mapped(to, taken), Mapped(source, operands)) == 1


def test_a_trace_file_with_comparisons_that_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target.py").write_text(TARGET)
    run(tmp_path, "-m", "pykcov", "run", "-q", "--mode", "cmp", "target.py")
    (tmp_path / "main.py").write_text("import target\ntarget.check('x' * 50)\n")
    run(tmp_path, "-m", "pykcov", "run", "-q", "--mode", "cmp", "main.py")
    path = tmp_path / "pykcov.trace"
    whole = path.read_bytes()
    trace = pykcov.Trace.load(path)
    assert trace.comparisons[0].left == "x" * 50
    assert whole[8:10] == b"\2\0"
    for end in range(12, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(pykcov.KcovError):
            pykcov.Trace.load(path)
    both = pykcov.Trace.join([trace, trace])
    assert [one.left for one in both.comparisons] == [one.left for one in trace.comparisons] * 2
    assert len((trace | trace).comparisons) == 0
    both.save(path)
    assert pykcov.Trace.load(path) == both


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_say_nothing_on_the_programs_standard_error(tmp_path: Path, method: str) -> None:
    """Each warned that its modules were imported before: they are, and nobody there has asked."""
    (tmp_path / "main.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing

        def check(x):
            return x == 5

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                print(pool.map(check, [1, 5]))
        """)
    )
    assert run(tmp_path, "-m", "pykcov", "run", "-q", "--mode", "cmp", "main.py") == (
        "[False, True]\n",
        "",
    )
