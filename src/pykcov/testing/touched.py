"""What a change touches: the lines of the version that a test has executed.

A statement that is replaced by another one in the same place concerns who executed it. Where statements come or go, or
move in or out of a block, or a function becomes a generator or gets a name of its own or is that no more, it concerns
who executed anything of the function. What is in no function is executed when the module is imported, and concerns
whoever imports it, or executed it otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .changes import Hunk, carry, opcodes
from .statements import Function, Source, body, kind_of

__all__ = ["Touched", "touched"]


@dataclass
class Touched:
    """What of one version of a file a change touches.

    ``lines``: whoever executed one of these, with the line as it is now. ``module``: 0, or a line now that is
    executed when the module is imported; then whoever executed one of ``top``, as a script say.
    """

    lines: dict[int, int] = field(default_factory=dict)
    module: int = 0
    top: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.lines or self.module)

    def add_module(self, now: int) -> None:
        """Add what is executed when the module is imported."""
        self.module = self.module or max(1, now)

    def add(self, lines: Iterable[int], now: int) -> None:
        """Add lines that a change at the line ``now`` touches."""
        for line in lines:
            self.lines.setdefault(line, max(1, now))


def touched(version: Sequence[str], now: Sequence[str], said: Iterable[Hunk] = ()) -> Touched:
    """Return what of a ``version`` is touched by what makes it ``now``, and by what the user ``said`` of that."""
    found = Touched()
    before, after = Source(version), Source(now)
    codes = opcodes(version, now)
    same = {
        n1 + i: v1 + i
        for kind, v1, v2, n1, _ in codes
        if kind == "equal"
        for i in range(1, v2 - v1 + 1)
    }
    for kind, v1, v2, n1, n2 in codes:
        if kind == "equal" or not (before.has_code(v1, v2) or after.has_code(n1, n2)):
            continue
        in_place = before.shape(v1, v2) == after.shape(n1, n2)
        before.touch(found, Hunk(v1 + 1, v2, in_place), n1 - v1)
        for number in range(n1 + 1, n2 + 1):
            if number not in after.code:
                continue
            if not in_place:
                _touch_new(found, number, after, same, before)
                continue
            _touch_other_kinds(found, number, after, same, before)
            begin = same.get(after.begin(number), 0)
            if begin:  # it is in a statement that was there, and has become longer
                before.touch(found, Hunk(begin, begin, True), number - begin)
    for hunk in carry(said, now, version, changed=False):
        if hunk.last < hunk.first:
            before.touch_gap(found, hunk.first)
        else:
            before.touch(found, hunk, 0)
    found.top = before.top()
    return found


def _touch_other_kinds(
    found: Touched, number: int, after: Source, same: dict[int, int], before: Source
) -> None:
    """A line is another one: all of a function is, if that makes it a generator, or a name its own, or no more."""
    function = after.functions.get(number)
    while function is not None:
        was = before.defined.get(same.get(function.lineno, 0))
        if was is not None and kind_of(was) != kind_of(function):
            found.add(body(was), number)
        function = after.outer[function]


def _touch_new(
    found: Touched, number: int, after: Source, same: dict[int, int], before: Source
) -> None:
    """A line is new: that concerns the function that it is in, if that was there before; else what it is in.

    A test that is new concerns no other.
    """
    header = after.headers.get(number)
    if header is not None and header.lineno not in same and _is_new_test(header, after, before):
        return
    function = after.functions.get(number)
    while function is not None:
        was = before.defined.get(same.get(function.lineno, 0))
        if was is not None:
            found.add(body(was), number)
            return
        if _is_new_test(function, after, before):
            return
        function = after.outer[function]
    found.add_module(number)


def _is_new_test(function: Function, after: Source, before: Source) -> bool:
    """Tell whether a function is a test that takes nobody's place, as one that was inherited."""
    return (
        function.name.startswith("test")
        and all(ast.unparse(d).startswith("pytest.mark.") for d in function.decorator_list)
        and function.name not in {known.name for known in before.outer}
        and after.outer[function] is None
        and after.inherits_no_tests(after.owners.get(function))
    )
