"""What has changed: from what the user says, and from the sources, to lines."""

from __future__ import annotations

import difflib
import io
import os
import re
import subprocess
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .statements import Source

__all__ = ["ChangeError", "Changes", "Hunk", "carry", "lines_of", "opcodes", "parse"]

_FILE_LINES = re.compile(r"(?P<file>.+):(?P<lines>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", re.DOTALL)


class ChangeError(ValueError):
    """What the user gave for CHANGED means nothing; the text says why."""


class Hunk(NamedTuple):
    """Lines of a file that have changed, from 1; none (``last`` = ``first`` - 1): something is gone before ``first``.

    ``in_place``: each statement has become another in its place.
    """

    first: int
    last: int
    in_place: bool


@dataclass
class Changes:
    """The files that were said to have changed, by absolute path.

    ``hunks`` has the lines, by the text that the file has now; a file without any has changed altogether.
    """

    hunks: dict[str, list[Hunk]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def files(self) -> set[str]:
        """Return all files."""
        return self.whole.union(self.hunks)


# -- what the user says


def parse(texts: Iterable[str], directory: str) -> Changes:
    """Return what CHANGED means in a directory: FILE, FILE:LINES or what ``git diff`` takes. Raises ChangeError."""
    found = Changes()
    for text in texts:
        match = _FILE_LINES.fullmatch(text)
        if match:
            path = os.path.join(directory, match["file"])
            if not os.path.isfile(path):
                raise ChangeError(f"{text}: there is no file {match['file']}")
            lines = _read(path)
            for part in match["lines"].split(","):
                first, _, last = part.partition("-")
                hunk = Hunk(int(first), int(last or first), True)
                if not 1 <= hunk.first <= hunk.last <= len(lines):
                    raise ChangeError(
                        f"{text}: {match['file']} has no line {part}: it has {len(lines)} lines"
                    )
                found.hunks.setdefault(os.path.realpath(path), []).append(hunk)
        elif os.path.isfile(os.path.join(directory, text)):
            found.whole.add(os.path.realpath(os.path.join(directory, text)))
        else:
            _from_git(text, directory, found)
    return found


def _from_git(text: str, directory: str, found: Changes) -> None:
    try:
        if not text or text.startswith("-"):
            raise ChangeError("not a revision")
        top = os.fsdecode(_git(directory, "rev-parse", "--show-toplevel")).strip("\n")
        raw = _git(directory, "diff", "--raw", "-z", "--no-abbrev", "--no-renames", text, "--")
    except ChangeError as error:
        raise ChangeError(
            f"{text!r} is neither a file, nor FILE:LINES, nor a range that git knows ({error})"
        ) from None
    words = os.fsdecode(raw).split("\0")
    for about, name in zip(words[::2], words[1::2], strict=False):
        path = os.path.realpath(os.path.join(top, name))
        if not name.endswith(".py") or not os.path.isfile(path):
            found.whole.add(path)
            continue
        old, new = about.split()[2:4]
        now = _read(path)
        then = now if not int(new, 16) else lines_of(_git(directory, "cat-file", "blob", new))
        before = lines_of(_git(directory, "cat-file", "blob", old)) if int(old, 16) else []
        hunks = compare(before, then)
        if now != then:
            hunks = carry(hunks, then, now, changed=True)
        if hunks:
            found.hunks.setdefault(path, []).extend(hunks)


def _git(directory: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            cwd=directory,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ChangeError(f"git: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ChangeError(said.removeprefix("fatal: "))
    return done.stdout


def _read(path: str) -> list[str]:
    with open(path, "rb") as file:
        return lines_of(file.read())


_NEWLINE = re.compile(
    "\r\n|\r|\n"
)  # str.splitlines() knows more of them than Python's sources have


def lines_of(source: bytes) -> list[str]:
    """Return the lines of a source file as Python counts them."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        text = source.decode(errors="surrogateescape")  # what differs has to stay different
    lines = _NEWLINE.split(text)
    return lines if lines[-1] else lines[:-1]


# -- two versions of a file


def compare(old: Sequence[str], new: Sequence[str]) -> list[Hunk]:
    """Return what has changed, by the lines of ``new``."""
    before, after = Source(old), Source(new)
    return [
        Hunk(n1 + 1, n2, before.shape(o1, o2) == after.shape(n1, n2))
        for kind, o1, o2, n1, n2 in opcodes(old, new)
        if kind != "equal" and (before.has_code(o1, o2) or after.has_code(n1, n2))
    ]


def carry(
    hunks: Iterable[Hunk], old: Sequence[str], new: Sequence[str], *, changed: bool
) -> list[Hunk]:
    """Return hunks of ``old`` by their lines in ``new``; with ``changed`` also what is not the same there."""
    found = []
    codes = opcodes(old, new)
    for hunk in hunks:
        for kind, o1, o2, n1, n2 in codes:
            first, last = max(hunk.first, o1 + 1), min(hunk.last, o2)
            is_gap = hunk.last < hunk.first and o1 < hunk.first <= o2 + (o2 == len(old))
            if is_gap:
                first, last = hunk.first, hunk.last
            elif first > last:
                continue
            if kind == "equal":
                found.append(Hunk(first + n1 - o1, last + n1 - o1, hunk.in_place))
            elif changed:
                found.append(Hunk(n1 + 1, n2, False))
    return found


def opcodes(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    """Return how the one becomes the other, as difflib has it."""
    return difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
