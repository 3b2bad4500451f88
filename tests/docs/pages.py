"""The pages of the documentation: their code blocks, headings and links.

The blocks of a page are one story. They run in the order of the page, each in a process of its own,
in one directory, which has the folder examples/ as a clone does:

    ```python pool.py    a file of that name, there from the start and not run
    ```python            a program, run; the block after it, if it is ```text, is its output
    ```console           lines that begin with `$ ` are run in a shell, the rest is their output
    ```sh                commands that no test runs: they install things or take long

A Python block is called like the file that it has as a comment in its first line (`# ask.py`), or
`example.py`. In an output `...` stands for anything.
"""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]

_FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\S+\.py)\n")


@dataclass(frozen=True)
class Block:
    language: str
    name: str  # of the file, if the fence has one: it is not run
    text: str
    line: int  # of the page


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(match[1], match[2].strip(), match[3], text.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def anchor(heading: str) -> str:
    """What a link to a heading is called: lower case, without punctuation, words joined by '-'."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def differences(page: Path, directory: Path) -> Iterator[str]:
    """Run the blocks of a page in a directory; say where what they print is not what it says."""
    every = blocks(page)
    (directory / "examples").symlink_to(ROOT / "examples")
    for block in every:
        if block.language == "python" and block.name:
            (directory / block.name).write_text(block.text, "utf-8")
    for number, block in enumerate(every):
        following = every[number + 1] if number + 1 < len(every) else None
        if block.language == "python" and not block.name:
            named = _NAME.match(block.text)
            file = directory / (named[1] if named else "example.py")
            file.write_text(block.text, "utf-8")
            done = run([sys.executable, file.name], directory)
            wanted = following.text if following and following.language == "text" else None
            if done.returncode or done.stderr:
                yield f"line {block.line}: status {done.returncode}\n{done.stdout}{done.stderr}"
            elif wanted is not None and not same(wanted, done.stdout):
                yield f"line {block.line}: the page has\n{wanted}and it prints\n{done.stdout}"
        elif block.language == "console":
            for command, wanted in commands(block.text):
                done = run(["bash", "-c", f"{command} 2>&1"], directory)
                if not same(wanted, done.stdout):
                    yield f"line {block.line}: {command}: not\n{wanted}but\n{done.stdout}"


def commands(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(command: list[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    # `python` and `pykcov` are those of the environment that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "COLUMNS": "80",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYKCOV_NAMESPACE": namespace(directory),
    }
    return subprocess.run(
        command,
        check=False,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def namespace(directory: Path) -> str:
    """Each page has a namespace of its own."""
    return f"docs-{os.getpid()}-{directory.name}"[:64]


def same(wanted: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS)
