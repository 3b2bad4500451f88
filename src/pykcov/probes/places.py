"""The places of a code object: its entry, the lines that begin a statement, the arms of its branches. Pure.

Nothing is opened here but by read_source(). What the interpreter reports is called by the offsets, in
bytes, that its events have on the running Python.
"""

from __future__ import annotations

import sys
from inspect import CO_OPTIMIZED
from types import CodeType
from typing import NamedTuple

from ..codemap import Key
from .bytecode import (
    CONDITIONAL,
    EXTENDED_ARG,
    FOR_ITER,
    PUSH_EXC_INFO,
    RESUME,
    Instruction,
    Steps,
    content_digest,
    decode,
    handlers,
    ops,
    steps,
)
from .decisions import Decision, Decisions, Span
from .source import Source, analyse, read_source

__all__ = [
    "Arm", "Arms", "Branch", "Source", "Steps", "analyse", "arms", "content_digest", "entry",
    "line_table", "read_source", "steps",
]  # fmt: skip


def line_table(code: CodeType, source: Source | None) -> dict[int, int]:
    """Return which line events count: line of the event -> line of the statement to record.

    A statement on several lines is recorded when the line of its first instruction happens; its other
    lines record nothing, nor do docstrings, nor the other lines of lambdas and comprehensions within it,
    nor a function's own header, whose line the compiler gives to what has none.
    """
    found: dict[int, int] = {}
    # What is up to RESUME makes a generator, or cells: it gives no events.
    begin = 2 * code.co_code[::2].index(RESUME) + 2 if source is not None else 0
    lines = (line for _, end, line in code.co_lines() if line and end > begin)
    if source is None:
        return {line: line for line in lines}
    first, docstrings = source.first, source.docstrings
    if source.nlines == 0 or (code.co_name.startswith("<") and code.co_name != "<module>"):
        return {line: line for line in lines if line not in first and line not in docstrings}
    seen = set()
    header = code.co_firstlineno if code.co_flags & CO_OPTIMIZED else 0
    if header in source.headers:
        seen.add(first.get(header, header))
    for line in lines:
        statement = first.get(line, line)
        if statement not in seen:
            seen.add(statement)
            if line not in docstrings:
                found[line] = statement
    return found


def entry(code: CodeType) -> Key:
    """Return what tells the entry of a code object from all others of its file: a key of the code map.

    The line is that of its `def` or first decorator. A lambda or a comprehension has the column of the first
    thing it does, in bytes from 0, since others may be on its line; one without (a lambda that is a constant, on 3.12;
    code compiled without positions) has a number below 0, made from its content.
    """
    column = None
    if code.co_name.startswith("<") and code.co_name != "<module>":
        raw, after, column = code.co_code, False, -1
        for unit, (_, _, start, end) in enumerate(code.co_positions()):
            if after and start is not None:
                column = start if start != end else -1
                break
            after = after or raw[2 * unit] == RESUME
        if column < 0:
            column = -2 - (int(content_digest(code), 16) & 0x3FFF_FFFF)
    return "entry", code.co_qualname, code.co_firstlineno, column, None, None, ""


# -- arms


class Arm(NamedTuple):
    """One outcome of one decision. Equal tuples are the same place: the compiler makes copies of tests."""

    line: int
    column: int
    """In bytes from 0; -1 if there is none."""
    end_line: int
    end_column: int
    what: str
    """'true', 'false', 'body' and 'end' (of a loop), 'handler'."""
    number: int = 0
    """Tells decisions apart that have the same position, where that is all that is known."""


class Branch(NamedTuple):
    """An instruction that goes one of two ways."""

    fall: int
    """The offset of what follows it in sequence."""
    taken: Arm | None
    not_taken: Arm | None
    implied: tuple[Arm, ...] = ()
    """Happens as well when it jumps: on 3.11 `(a or b) and c` tests only a if that is true."""
    target: int = -1
    """The offset it jumps to. On 3.11, if what comes next is neither, the test has raised."""


class Arms(NamedTuple):
    """What to record on BRANCH and EXCEPTION_HANDLED, or on 3.11's opcode events. By offset."""

    branches: dict[int, Branch]
    handlers: dict[int, Arm]


_Outcome = tuple[bool, bool]  # what is tested is None or not (or else truth), and when it jumps
_OUTCOMES: dict[int, _Outcome] = {
    op: ("NONE" in name, "IF_TRUE" in name or "IF_NONE" in name) for name, op in CONDITIONAL.items()
}
_HELPERS = ops("COPY", "TO_BOOL", "NOP", "EXTENDED_ARG")
_FUSED = ops("LOAD_FAST_LOAD_FAST", "STORE_FAST_LOAD_FAST")
_STORES = ops("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")
_COMPARES = ops("COMPARE_OP", "IS_OP", "CONTAINS_OP")
_MATCHES = ops("CHECK_EXC_MATCH", "CHECK_EG_MATCH")
_NONE_IF_NOT = ops("MATCH_CLASS", "MATCH_KEYS", "CHECK_EG_MATCH")
_AWAITING = ops(
    "LOAD_CONST", "SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT", "CLEANUP_THROW",
    "END_SEND", "GET_AWAITABLE",
)  # fmt: skip
_STRAIGHT = ops("JUMP_FORWARD", "JUMP_BACKWARD")
_COPY, _SWAP, _TO_BOOL = ops("COPY"), ops("SWAP"), ops("TO_BOOL")
_WITH_EXIT = ops("WITH_EXCEPT_START")
_REPORTS_FIRST = sys.version_info < (3, 12)  # opcode events come at the first EXTENDED_ARG


def arms(code: CodeType, source: Source | None = None) -> Arms:
    """Return the arms of a code object's branches, of its loops, cases and exception handlers.

    With a `source` that was read with ``branch=True`` they are named after the syntax tree, the same
    on all Pythons: `Decision` has the rules. Without, they have the positions that the bytecode has.
    """
    return _Finder(code, source.decisions if source is not None else None).run()


class _Finder:
    """Finds the arms of one code object."""

    def __init__(self, code: CodeType, decisions: Decisions | None) -> None:
        self.code = code
        self.instructions = decode(code)
        self.index = {one.offset: i for i, one in enumerate(self.instructions)}
        self.decisions = decisions
        positions = list(code.co_positions())
        self.spans: list[Span | None] = []
        for one in self.instructions:
            line, end_line, column, end_column = positions[one.offset // 2]
            if line is None:
                self.spans.append(None)
            elif end_line is None or column is None or end_column is None:
                self.spans.append(Span(line, -1, line, -1))
            else:
                self.spans.append(Span(line, column, end_line, end_column))
        self.numbers: dict[Span, list[int]] = {}

    def run(self) -> Arms:
        branches = {}
        for i, one in enumerate(self.instructions):
            if one.opcode in _OUTCOMES:
                branch = self.named(i) if self.decisions is not None else self.unnamed(i)
            elif one.opcode == FOR_ITER:
                branch = self.loop(i)
            else:
                continue
            if branch is not None:
                reported = i
                while _REPORTS_FIRST and self.instructions[reported - 1].opcode == EXTENDED_ARG:
                    reported -= 1
                branches[self.instructions[reported].offset] = branch
        found = {}
        for offset in {handler for _, _, handler in handlers(self.code)}:
            arm = self.handler(self.index[offset])
            if arm is not None:
                found[offset] = arm
        return Arms(branches, found)

    def producer(self, i: int) -> int:
        """Return which instruction made the value that the jump `i` tests; a `with` has -1."""
        at = i - 1
        while at > 0 and self.instructions[at].opcode in _HELPERS:
            at -= 1
        opcode = self.instructions[at].opcode
        if opcode in _AWAITING:
            # `async with`: did the awaited __aexit__ swallow the exception?
            start = at
            while start > 0 and self.instructions[start].opcode in _AWAITING:
                start -= 1
            return -1 if self.instructions[start].opcode in _WITH_EXIT else at
        if opcode in _WITH_EXIT:
            return -1
        if opcode in _STORES and self.instructions[at - 1].opcode in _COPY:
            return at - 1  # y := x; the copy has the position of the whole
        return at

    # -- with the syntax tree

    def named(self, i: int) -> Branch | None:
        decisions = self.decisions
        at = self.producer(i)
        if at < 0 or decisions is None:
            return None
        before = i - 1
        while self.instructions[before].opcode == EXTENDED_ARG:
            before -= 1
        pattern = self.pattern_at(before, decisions)
        decision = self.decision(i, at, decisions) if pattern is None else None
        if decision is None:
            # `case None` alone tests the subject itself; a guard's jump may be called the pattern's.
            pattern = pattern or self.pattern_at(i, decisions)
            return self.case(i, at, pattern, decisions) if pattern is not None else None
        tests_none, jumps_if = _OUTCOMES[self.instructions[i].opcode]
        after = self.instructions[i].after
        truth = jumps_if != decision.inverted
        if tests_none:
            if decision.none is None and self.instructions[at].opcode not in _NONE_IF_NOT:
                return None
            truth = jumps_if if decision.none else not jumps_if
        taken, not_taken = _arms_of(decision.span, truth)
        implied = self.implied(i, decision, truth, decisions)
        return Branch(after, taken, not_taken, implied, self.instructions[i].target)

    def pattern_at(self, i: int, decisions: Decisions) -> Span | None:
        span = self.spans[i]
        return decisions.pattern_at(*span.start) if span is not None else None

    def decision(self, i: int, at: int, decisions: Decisions) -> Decision | None:
        """Return which decision the jump `i` makes about the value that the instruction `at` made."""
        one = self.instructions[at]
        whole = self.spans[i - 1 if self.instructions[i - 1].opcode in _TO_BOOL else i]
        if one.opcode in _MATCHES:
            at -= 1
        elif (
            one.opcode in _COMPARES
            and self.instructions[at - 1].opcode in _COPY
            and self.instructions[at - 2].opcode in _SWAP
        ):
            whole = self.spans[at]
            at = self.producer(at - 2)  # a < b < c: the last thing was to load b
        elif one.opcode in _NONE_IF_NOT:
            at -= 1
        span = self.spans[at]
        if span is None or whole is None:
            return None
        found = decisions.tests.get(span.end)
        if self.instructions[at].opcode in _FUSED:
            # It has the position of the first of two. Nothing of the decision is before the second,
            # so that is its first operand; but conditions of comprehensions have another position.
            return decisions.heads.get(whole) or found
        if found is None:
            found = decisions.heads.get(whole)
            if found is not None and found.span != whole:
                return None
        return found

    def implied(
        self, i: int, decision: Decision, truth: bool, decisions: Decisions
    ) -> tuple[Arm, ...]:
        """Return what else is decided if the jump goes past the tests of whole `and`s and `or`s."""
        found: list[Arm] = []
        target = self.index[self.instructions[i].target]
        while self.instructions[target].opcode in _HELPERS | _STRAIGHT:
            to = self.instructions[target]
            target = self.index[to.target if to.opcode in _STRAIGHT else to.after]
        tested = None
        if self.instructions[target].opcode in _OUTCOMES:
            at = self.producer(target)
            tested = self.decision(target, at, decisions) if at >= 0 else None
        inner, outer = decision, decision.outer
        while outer is not None and inner.short == truth and outer is not tested:
            found.append(_arms_of(outer.span, truth)[0])
            inner, outer = outer, outer.outer
        return tuple(found)

    def case(self, i: int, at: int, pattern: Span, decisions: Decisions) -> Branch:
        """A test of a pattern: only what decides about the whole pattern of the `case` has an arm."""
        one = self.instructions[i]
        tests_none, jumps_if = _OUTCOMES[one.opcode]
        matches = jumps_if
        if tests_none and self.instructions[at].opcode in _NONE_IF_NOT:
            matches = not jumps_if
        taken, not_taken = _arms_of(pattern, matches)
        return Branch(
            one.after,
            taken if self.leaves(pattern, one.target, decisions) else None,
            not_taken if self.leaves(pattern, one.after, decisions) else None,
            target=one.target,
        )

    def leaves(self, pattern: Span, offset: int, decisions: Decisions) -> bool:
        """Tell whether no more of the pattern is tested from an offset on."""
        seen = set()
        while offset not in seen and offset in self.index:
            seen.add(offset)
            i = self.index[offset]
            one = self.instructions[i]
            if self.spans[i] is not None and self.pattern_at(i, decisions) != pattern:
                return True
            if one.opcode in _OUTCOMES:
                return False
            offset = one.target if one.opcode in _STRAIGHT else one.after
        return True

    # -- loops and handlers

    def loop(self, i: int) -> Branch | None:
        one = self.instructions[i]
        target = i + 1
        while self.instructions[target].opcode in _HELPERS:
            target += 1
        span = self.spans[i]
        if self.decisions is not None:
            start = self.spans[target]
            span = self.decisions.loops.get(start.start) if start is not None else None
        if span is None:
            return None
        number = self.number(span, one) if self.decisions is None else 0
        end, body = Arm(*span, "end", number), Arm(*span, "body", number)
        return Branch(one.after, end, body, target=one.target)

    def handler(self, i: int) -> Arm | None:
        """Return the arm of a bare `except` or a `finally` that an exception enters at `i`."""
        if self.instructions[i].opcode != PUSH_EXC_INFO:
            return None
        for one, span in zip(self.instructions[i + 1 :], self.spans[i + 1 :], strict=True):
            if one.opcode in _WITH_EXIT or one.opcode in _MATCHES:
                return None
            if span is not None and self.decisions is not None:
                named = self.decisions.handlers.get(span.line)
                return Arm(*named, "handler") if named is not None else None
            if span is not None and self.is_untyped(i):
                return Arm(*span, "handler")
        return None

    # -- without the syntax tree

    def unnamed(self, i: int) -> Branch | None:
        at = self.producer(i)
        if at < 0 or self.spans[i] is None:
            return None
        span = self.spans[at] or self.spans[i]
        if span is None:
            return None
        one = self.instructions[i]
        tests_none, jumps_if = _OUTCOMES[one.opcode]
        if tests_none and self.instructions[at].opcode in _NONE_IF_NOT:
            jumps_if = not jumps_if
        taken, not_taken = _arms_of(span, jumps_if, self.number(span, self.instructions[at]))
        return Branch(one.after, taken, not_taken, target=one.target)

    def number(self, span: Span, one: Instruction) -> int:
        """Number the decisions at one position: by what made the value, since tests have copies."""
        made = self.numbers.setdefault(span, [])
        if span.column < 0 or one.opcode not in made:
            made.append(one.opcode)
            return len(made) - 1
        return made.index(one.opcode)

    def is_untyped(self, i: int) -> bool:
        """Tell whether the handler at `i` is no `except X`: no type is compared before it does something."""
        for one in self.instructions[i + 1 :]:
            if one.opcode in _MATCHES:
                return False
            if one.opcode in _DOES:
                return True
        return True


_DOES = _STORES | ops("POP_TOP", "PUSH_EXC_INFO", "POP_EXCEPT", "RERAISE", "RETURN_VALUE")


def _arms_of(span: Span, truth: bool, number: int = 0) -> tuple[Arm, Arm]:
    """Return the arm of a truth, and the arm of the other."""
    names = ("true", "false") if truth else ("false", "true")
    return Arm(*span, names[0], number), Arm(*span, names[1], number)
