"""python -m tests.truth.shrink SEED KIND: the smallest program that still fails as the seed's does.

Statements are taken out one by one, and blocks put in the place of what is around them, as long as the
interpreter still takes the program and pykcov still disagrees with it. Each try is a process of its own.
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import programs, rules
from .programs import Expected, Program

PASSES, FAILS, REJECTED = 0, 3, 4


def fails(program: Program) -> bool:
    """Checks a program in a forked process."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == FAILS
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os._exit(verdict(program))


def verdict(program: Program) -> int:
    try:
        every = [programs.interpret(program, rules.of_pykcov(), order) for order in range(3)]
    except BaseException:
        return REJECTED
    if any(what(other) != what(every[0]) for other in every):
        return REJECTED
    os.environ["PYKCOV_NAMESPACE"] = f"shrink-{os.getpid()}"
    from .check import Check
    from .stage import start_pools

    check = Check(start_pools())
    problems = check.problems(program, every[0])
    return FAILS if problems and not any("raised" in p for p in problems) else PASSES


def what(expected: Expected) -> object:
    """Returns what must not depend on who is faster."""
    runs = {
        key: Counter(tuple(run.events) for run in to.runs)
        for key, to in expected.collections.items()
    }
    return expected.result, runs, programs.chunks(expected.streams)


def blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            found = getattr(node, name, None)
            if isinstance(found, list) and found:
                yield found


def smaller(text: str) -> Iterator[str]:
    """Yields the text with one thing less, in many ways."""
    tree = ast.parse(text)
    for block in blocks(tree):
        for at in range(len(block) - 1, -1, -1):
            node = block[at]
            inner = getattr(node, "body", None)
            replacements: list[list[ast.stmt]] = [[]] if len(block) > 1 else []
            if isinstance(inner, list) and isinstance(
                node, ast.If | ast.For | ast.While | ast.With | ast.Try
            ):
                replacements.append(inner)
            for replacement in replacements:
                block[at : at + 1] = replacement
                try:
                    yield ast.unparse(ast.fix_missing_locations(tree)) + "\n"
                finally:
                    block[at : at + len(replacement)] = [node]


def shrink(program: Program) -> Program:
    best = program
    again = True
    while again:
        again = False
        for file in range(len(best.files)):
            for text in smaller(best.files[file]):
                files = [*best.files[:file], text, *best.files[file + 1 :]]
                if len(text) < len(best.files[file]) and fails(
                    Program(best.seed, best.kind, files)
                ):
                    best, again = Program(best.seed, best.kind, files), True
                    print(sum(map(len, files)), end=" ", flush=True)
                    break
    return best


def main() -> int:
    sys.setrecursionlimit(20_000)
    seed, kind = int(sys.argv[1]), sys.argv[2]
    program, _ = programs.make(seed, kind, rules.of_pykcov())
    if not fails(program):
        print("it does not fail")
        return 1
    best = shrink(program)
    folder = Path(tempfile.mkdtemp(prefix="pykcov-small-"))
    for name, text in zip(("main", "lib"), best.files, strict=False):
        (folder / f"{name}.py").write_text(text)
        print(f"\n# {folder / name}.py\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
