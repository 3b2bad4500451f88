"""Pieces of text: what every program begins with, and random expressions.

Numbers stay small, names are bound. Each test has a variable in it: the compiler works out what is constant,
and then there is no branch.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

ERRORS = ("ValueError", "KeyError", "IndexError", "Odd", "Even", "Rare")
HEAD = """\
class Odd(Exception):
    \"\"\"A program's own exception.\"\"\"
class Even(Odd):
    pass
class Rare(ValueError):
    pass
class Gate:
    \"\"\"A context manager that may swallow.

    With a docstring of several lines.
    \"\"\"
    limit = 3
    def __init__(self, swallows, n=1):
        self.swallows = swallows
        self.n = n
    def __enter__(self):
        self.n += 1
        if self.n > self.limit:
            self.n = 0
        return self.n
    def __exit__(self, kind, error, trace):
        \"\"\"A docstring.\"\"\"
        self.n -= 1
        if kind is None:
            return False
        return self.swallows
    def twice(self, x):
        y = self.once(x)
        return self.once(y) + 1
    def once(self, x):
        return (x + self.n) % 31
class Slow(Gate):
    async def __aenter__(self):
        await asyncio.sleep(0)
        return self.once(2)
    async def __aexit__(self, kind, error, trace):
        self.n -= 1
        await asyncio.sleep(0)
        return self.swallows and kind is not None
class Steps:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return self
    def __next__(self):
        self.n -= 1
        if self.n < 0:
            raise StopIteration
        return self.n
class Hop:
    def __await__(self):
        got = yield 1
        return got
def thrice(v, w=1):
    return (v * 3 + w) % 17
def upto(n):
    for i in range(n):
        yield i
"""


@dataclass
class Names:
    """What exists so far and may be called: earlier functions only, so that every call ends."""

    functions: list[str] = field(default_factory=list)
    generators: list[str] = field(default_factory=list)
    guarded: list[str] = field(default_factory=list)  # generators that clean up
    delegating: list[str] = field(default_factory=list)  # generators with a yield from
    coroutines: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)  # asynchronous generators


@dataclass(frozen=True)
class Place:
    """Where a statement stands."""

    indent: int = 1
    depth: int = 0  # of compound statements
    kind: str = "plain"  # plain, generator, delegating, coroutine, stream
    loop: bool = False
    final: bool = False  # inside a finally: nothing may leave it
    calm: bool = False  # where an exception would be told in another way: nothing raises
    mute: bool = False  # where closing an unfinished generator would be seen: nothing is yielded
    vars: tuple[str, ...] = ("a", "b")

    def deeper(self, **changes: object) -> Place:
        return replace(self, indent=self.indent + 1, depth=self.depth + 1, **changes)  # type: ignore[arg-type]


class Phrases:
    """A file that is being written, and random expressions for it."""

    def __init__(self, rng: random.Random, names: Names | None = None, prefix: str = "") -> None:
        self.rng = rng
        self.names = names or Names()
        self.prefix = prefix
        self.lines: list[str] = []
        self.numbers = 0

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def add(self, place: Place, text: str) -> None:
        for line in text.split("\n"):
            self.lines.append("    " * place.indent + line)

    def fresh(self, stem: str) -> str:
        self.numbers += 1
        return f"{self.prefix}{stem}{self.numbers}"

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    # ---------------------------------------------------------------- expressions

    def number(self, p: Place, depth: int = 2) -> str:
        """A number, by arithmetic alone."""
        r = self.rng
        if depth == 0 or self.chance(0.3):
            return r.choice(p.vars) if self.chance(0.7) else str(r.randrange(10))
        a, b = self.number(p, depth - 1), self.number(p, depth - 1)
        return r.choice(
            (
                f"({a} + {b})", f"({a} * {b}) % {r.randrange(2, 19)}", f"abs({a} - {b})",
                f"min({a}, {b})", f"({r.choice(p.vars)} if {self.test(p, depth - 1)} else {r.randrange(7)})",
                f"({a} + {b}) // {r.randrange(1, 4)}", f"len(str({a}))", f"({a} and {b})",
            )
        )  # fmt: skip

    def test(self, p: Place, depth: int = 1) -> str:
        r = self.rng
        a = f"({r.choice(p.vars)} + {self.number(p, 1)})" if self.chance(0.4) else r.choice(p.vars)
        b = r.choice(p.vars)
        simple = r.choice(
            (f"{a} < {b}", f"{a} % {r.randrange(2, 5)} == {r.randrange(2)}", f"{a} in (1, 2, 5)",
             f"0 < {b} < 6", f"{a}", f"not {b}")
        )  # fmt: skip
        if depth and self.chance(0.3):
            return f"({simple}) {r.choice(('and', 'or'))} ({self.test(p, depth - 1)})"
        return simple

    def call(self, p: Place) -> str:
        """A number, by a call of something of the program."""
        r = self.rng
        a, b = self.number(p, 1), self.number(p, 0)
        forms = [
            f"Gate(False, {b}).twice({a})",
            f"(lambda v, w=2: (v + w) % 7)({a})",
            f"thrice({b})",
        ]
        if self.names.functions and not p.calm:
            f, g = r.choice(self.names.functions), r.choice(self.names.functions)
            forms += [f"{f}({a}, {b})"] * 6
            forms += [
                f"{f}({a})", f"{f}({a}, b={b})", f"{f}({g}({b}, 2), 3)", f"{f}(*[{a}, {b}])",
                f"{f}(**{{'a': {a}}}) + 1", f"({f}({a}) and {b})", f"({a} and {f}({b}) + 1)",
                f"({f}({a}) if {self.test(p, 0)} else {b})", f"({b} if {f}({b}) > 4 else 3)",
            ]  # fmt: skip
        if p.kind in ("coroutine", "stream") and self.names.coroutines and not p.calm:
            forms += [f"await {r.choice(self.names.coroutines)}({a}, {b})"] * 4
        return r.choice(forms)

    def cond(self, p: Place) -> str:
        """A condition, which may call."""
        if self.chance(0.8):
            return self.test(p)
        return self.rng.choice(
            (
                f"{self.call(p)} > 3",
                f"not {self.call(p)}",
                f"{self.test(p, 0)} and {self.call(p)} > 2",
            )
        )

    def several(self, p: Place) -> str:
        """Something to iterate over, of a few numbers."""
        r = self.rng
        n = r.randrange(4)
        forms = [f"range({n})", f"range({self.number(p, 0)} % 4)", str([r.randrange(9) for _ in range(n)]),
                 f"Steps({n})", f"[v % 5 for v in range({n}) if v != 1]", f"upto({n})",
                 f"(thrice(v) for v in upto({n}) if v)"]  # fmt: skip
        if self.names.generators and not p.calm:
            forms += [f"{r.choice(self.names.generators)}({self.number(p, 0)}, {n})"] * 4
        if self.names.functions and not p.calm:
            forms.append(f"({r.choice(self.names.functions)}(v, 1) for v in range({n}))")
        return r.choice(forms)
