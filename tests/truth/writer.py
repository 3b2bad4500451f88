"""Writes random functions: the ordinary code of a program, whose events interpreter.py works out.

Everything that is written ends, uses only names that are bound, and stays inside the language that
interpreter.py knows. Numbers stay small. What is left out, and why:

* `while True`, one-line compound statements, decorators, several statements on a line: whether they give a line
  event, or how many, is the compiler's affair and changes between versions. So does what happens when
  an exception leaves a finally or a comprehension, or is thrown into a `yield from` or an `await`.
* a bare call as the last operand of `and`, `or` or a conditional expression: 3.12.1 reports the line again
  where the branches meet, if it comes there straight from a call.
* an unfinished generator with something to clean up that is not closed: it would be the garbage collector's.
"""

from __future__ import annotations

from dataclasses import replace

from .phrases import ERRORS, Phrases, Place


class Writer(Phrases):
    """Writes functions."""

    # ---------------------------------------------------------------- statements

    def block(self, p: Place, most: int = 3) -> None:
        for _ in range(self.rng.randrange(1, most + 1)):
            self.statement(p)

    def plain_end(self, p: Place) -> None:
        """Writes a block that ends with something simple. Where a finally, a case or an `async with` ends
        with an `if` that is not taken, 3.11 reports some line of that `if` again.
        """
        self.block(p, 2)
        self.assign(p)

    def statement(self, p: Place) -> None:
        simple = (
            [self.assign] * 5
            + [self.assign_call] * 4
            + [self.augment, self.unpack, self.lines_of_one]
        )
        simple += [self.comprehend, self.function_value, self.consume]
        compound = [self.if_] * 5 + [self.for_] * 3 + [self.while_] * 2 + [self.try_] * 3
        compound += [self.with_] * 2 + [self.match_, self.nested, self.drive, self.drain]
        if p.loop and not p.final:
            simple.append(self.leave_loop)
        if not p.final and p.depth:
            simple += [self.return_, self.raise_]
        if p.kind in ("generator", "delegating", "stream") and not p.mute:
            simple += [self.yield_] * 6
        if p.kind == "delegating" and not p.mute:
            simple += [self.yield_from] * 3
        if p.kind in ("coroutine", "stream"):
            simple += [self.pause] * 3
            compound += [self.async_for, self.async_with] * 2
        if p.calm:
            simple = [self.assign, self.assign_call, self.augment, self.unpack, self.comprehend]
            compound = [self.if_, self.for_, self.while_, self.with_, self.match_]
        kinds = simple if p.depth > 2 or self.chance(0.55) else compound
        self.rng.choice(kinds)(p)

    def assign(self, p: Place) -> None:
        self.add(p, f"{self.rng.choice(p.vars)} = ({self.number(p)}) % 101")

    def assign_call(self, p: Place) -> None:
        form = self.rng.randrange(4)
        if form == 0:
            self.add(p, self.call(p))
        elif form == 1:
            self.add(p, f"{self.rng.choice(p.vars)}: int = {self.call(p)} % 101")
        else:
            self.add(p, f"{self.rng.choice(p.vars)} = {self.call(p)} % 101")

    def augment(self, p: Place) -> None:
        value = self.number(p, 1) if self.chance(0.7) else self.call(p)
        self.add(p, f"{self.rng.choice(p.vars)} {self.rng.choice(('+=', '-='))} ({value}) % 11")

    def unpack(self, p: Place) -> None:
        self.add(p, f"a, b = {self.number(p, 1)} % 50, {self.number(p, 1)} % 50")

    def lines_of_one(self, p: Place) -> None:
        """One statement on several lines."""
        to, a, b = self.rng.choice(p.vars), self.rng.choice(p.vars), self.number(p, 1)
        forms = [f"{to} = ({a} +\n    {b}) % 31", f"{to} = [\n    {a},\n    {b},\n][{a} % 2]"]
        if self.names.functions:
            f, g = self.rng.choice(self.names.functions), self.rng.choice(self.names.functions)
            forms += [
                f"{to} = {f}(\n    {a},\n    {b},\n)",
                f"{to} = {f}(\n    {g}({a}),\n    {b})",
            ]
            forms += [f"{f}(\n    {a}\n)"]
        self.add(p, self.rng.choice(forms))

    def comprehend(self, p: Place) -> None:
        """Nothing in it raises: from 3.12 on it would report its line again, to put names back."""
        r, to, over = self.rng, self.rng.choice(p.vars), self.several(replace(p, calm=True))
        item = r.choice(("v", "v * 2", "thrice(v)", "thrice(v) + 1"))
        self.add(p, r.choice(
            (f"{to} = len([{item} for v in {over}])", f"{to} = len({{{item} for v in {over}}})",
             f"{to} = len({{v: {item} for v in {over} if v % 2}})", f"{to} = sum({item} for v in {over})",
             f"{to} = sum([{item} for v in {over} if v > 1])")
        ))  # fmt: skip

    def function_value(self, p: Place) -> None:
        name, a = self.fresh("fn"), self.number(p, 1)
        self.add(p, f"{name} = lambda x, y={a}: (x * 2 + y) % 23")
        self.add(p, f"{self.rng.choice(p.vars)} = {name}({self.number(p, 1)}) + {name}(1, 2)")
        if self.chance(0.4):
            self.add(p, f"a = sorted([3, {a}, 2], key=lambda x: (x * 5) % 7)[1]")

    def consume(self, p: Place) -> None:
        """A generator that is resumed by hand."""
        if not self.names.generators:
            return self.assign(p)
        name, to = self.fresh("it"), self.rng.choice(p.vars)
        self.add(p, f"{name} = {self.rng.choice(self.names.generators)}({self.number(p, 1)}, 3)")
        times = self.rng.randrange(4)
        for _ in range(times):
            self.add(p, f"{to} = next({name}, {self.rng.randrange(5)})")
        if times and self.chance(0.6):  # 3.11 enters one that has not begun, to close it
            self.add(p, f"{name}.close()")
        return None

    def if_(self, p: Place) -> None:
        self.add(p, f"if {self.cond(p)}:")
        self.block(p.deeper())
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            self.add(p, f"elif {self.cond(p)}:")
            self.block(p.deeper())
        if self.chance(0.5):
            self.add(p, "else:")
            if self.chance(0.2):
                self.add(p.deeper(), "pass")
            else:
                self.block(p.deeper())

    def for_(self, p: Place) -> None:
        self.add(p, f"for {self.rng.choice(p.vars)} in {self.several(p)}:")
        self.block(p.deeper(loop=True))
        self.loop_else(p)

    def loop_else(self, p: Place) -> None:
        if self.chance(0.3):
            self.add(p, "else:")
            self.block(p.deeper(), 2)

    def while_(self, p: Place) -> None:
        left = self.fresh("n")
        self.add(p, f"{left} = {self.rng.randrange(4)}")
        self.add(p, f"while {left} > 0{' and ' + self.test(p, 0) if self.chance(0.3) else ''}:")
        self.add(p.deeper(), f"{left} -= 1")
        self.block(p.deeper(loop=True))
        self.loop_else(p)

    def leave_loop(self, p: Place) -> None:
        self.add(p, f"if {self.test(p)}:")
        self.add(p.deeper(), self.rng.choice(("break", "continue")))

    def return_(self, p: Place) -> None:
        self.add(p, f"if {self.test(p)}:")
        value = "" if p.kind == "stream" else " " + self.number(p, 1)
        if value and self.chance(0.3):
            value = " " + self.rng.choice(("3", self.call(p)))
        self.add(p.deeper(), "return" + value)

    def raise_(self, p: Place) -> None:
        self.add(p, f"if {self.test(p)}:")
        error = self.rng.choice(ERRORS)
        self.add(
            p.deeper(),
            f"raise {error}" + self.rng.choice(("", f"({self.number(p, 0)})", " from None")),
        )

    def risk(self, p: Place) -> None:
        """Something that may raise by itself."""
        a, to = self.number(p, 1), self.rng.choice(p.vars)
        self.add(p, self.rng.choice(
            (f"{to} = 7 // ({a} % 3)", f"{to} = [1, 2, 3][{a} % 5]", f"{to} = {{1: 2, 2: 3}}[{a} % 4]",
             f"assert {self.rng.choice(p.vars)}")
        ))  # fmt: skip

    def try_(self, p: Place) -> None:
        inner = p.deeper(mute=True)
        self.add(p, "try:")
        if self.chance(0.5):
            self.risk(inner)
        self.block(inner)
        handlers = self.rng.randrange(0, 3)
        kinds = [
            "Odd",
            "(KeyError, IndexError)",
            "ValueError",
            "Even",
            "ZeroDivisionError",
            "Exception",
        ]
        for _ in range(handlers):
            name = self.fresh("e")
            self.add(
                p, f"except {self.rng.choice(kinds)}{' as ' + name if self.chance(0.5) else ''}:"
            )
            self.block(inner, 2)
            if self.chance(0.2) and not p.final:
                self.add(inner, "raise")
        if handlers and self.chance(0.3):
            self.add(p, "else:")
            self.block(inner, 2)
        if not handlers or self.chance(0.4):
            self.add(p, "finally:")
            # What is left inside a finally would swallow what it was entered with.
            self.plain_end(replace(inner, final=True, calm=True, loop=False))

    def with_(self, p: Place) -> None:
        item = f"Gate({self.test(p, 0)}, {self.number(p, 0)})"
        if self.chance(0.6):
            item += f" as {self.rng.choice(p.vars)}"
        self.add(p, f"with {item}:")
        if self.chance(0.3) and not p.calm:
            self.risk(p.deeper())
        self.block(p.deeper(mute=True))

    def match_(self, p: Place) -> None:
        a = self.number(p, 1)
        of = self.rng.choice((f"{a} % 6", f"[{a}, {self.number(p, 0)}]", f"str({a})"))
        self.add(p, f"match {of}:")
        inner = p.deeper()
        cases = ["0", "1 | 2", "[a, 1]", "[a, b]", "'3'", "int()", "-1", "[_, _, _]"]
        for case in self.rng.sample(cases, self.rng.randrange(1, 5)):
            guard = f" if {self.cond(p)}" if self.chance(0.3) else ""
            self.add(inner, f"case {case}{guard}:")
            self.plain_end(inner.deeper())
        if self.chance(0.5):
            self.add(inner, self.rng.choice(("case _:", "case other:")))
            self.plain_end(inner.deeper())

    def nested(self, p: Place) -> None:
        """A function in a function; it may write its surroundings."""
        name, inner = (
            self.fresh("inner"),
            replace(p.deeper(), kind="plain", loop=False, final=False, mute=False),
        )
        if self.chance(0.3):
            name = self.fresh("Local")
            self.add(p, f"class {name}(Gate):")
            self.add(inner, f"size = {self.number(p, 1)} % 9")
            self.add(inner, "def once(self, x):")
            self.add(inner.deeper(), f"return (x + self.size + {self.rng.choice(p.vars)}) % 13")
            self.add(p, f"a = {name}(True).twice({self.number(p, 0)})")
            return
        self.add(p, f"def {name}(a, c={self.number(p, 0)}):")
        outer = [v for v in p.vars if v not in ("a", "c")]
        if outer and self.chance(0.5):
            self.add(inner, f"nonlocal {outer[0]}")
            self.add(inner, f"{outer[0]} = ({outer[0]} + a) % 40")
            self.block(replace(inner, vars=("a", "c")), 2)
        else:
            self.add(inner, "b = c")
            self.block(replace(inner, vars=("a", "b", "c")))
        self.add(inner, f"return (a + c) % {self.rng.randrange(5, 30)}")
        for _ in range(self.rng.randrange(1, 3)):
            self.add(p, f"{self.rng.choice(p.vars)} = {name}({self.number(p, 1)})")

    def drive(self, p: Place) -> None:
        """A generator that cleans up, resumed, thrown into and closed."""
        if not self.names.guarded:
            return self.for_(p)
        name, to = self.fresh("it"), self.rng.choice(p.vars)
        inner = p.deeper(mute=True)
        self.add(p, f"{name} = {self.rng.choice(self.names.guarded)}({self.number(p, 1)}, 3)")
        self.add(p, "try:")
        form = self.rng.randrange(3)
        if form == 0:
            self.add(inner, f"for {to} in {name}:")
            self.block(inner.deeper(loop=True), 2)
        else:
            for _ in range(self.rng.randrange(1, 3)):
                self.add(inner, f"{to} = next({name}, 1)")
            if form == 1:
                self.add(inner, f"{name}.throw({self.rng.choice(ERRORS)})")
            else:
                self.add(inner, f"{to} = {name}.send({self.number(p, 0)}) or 2")
            self.add(p, "except (Exception, StopIteration):")
            self.block(replace(inner, final=p.final), 1)
        self.add(p, "finally:")
        self.add(inner, f"{name}.close()")
        return None

    def drain(self, p: Place) -> None:
        """A generator that delegates, to its end."""
        if not self.names.delegating:
            return self.for_(p)
        of = f"{self.rng.choice(self.names.delegating)}({self.number(p, 0)}, 2)"
        self.add(p, f"for {self.rng.choice(p.vars)} in {of}:")
        self.block(p.deeper(calm=True, final=True, mute=True), 2)
        return None

    # ---------------------------------------------------------------- suspension

    def yield_(self, p: Place) -> None:
        to = self.rng.choice(p.vars)
        if p.kind == "generator" and self.chance(0.3):
            self.add(p, f"{to} = (yield {self.number(p, 1)}) or {self.rng.randrange(5)}")
        else:
            self.add(p, f"yield {self.number(p, 1)}")

    def yield_from(self, p: Place) -> None:
        of = [
            f"{name}({self.number(p, 0)}, 2)"
            for name in self.names.generators + self.names.delegating
        ]
        to = self.rng.choice(p.vars)
        form = self.rng.choice(("yield from {}", f"{to} = (yield from {{}}) or 3"))
        self.add(p, form.format(self.rng.choice((*of, "upto(2)", "[4, 1]"))))

    def pause(self, p: Place) -> None:
        self.add(p, "await asyncio.sleep(0)")

    def async_for(self, p: Place) -> None:
        if not self.names.streams:
            return self.pause(p)
        name = self.rng.choice(self.names.streams)
        self.add(p, f"async for {self.rng.choice(p.vars)} in {name}({self.number(p, 0)}, 2):")
        # Not left by force: an unfinished stream is closed by the event loop, some time.
        self.block(replace(p.deeper(), loop=False, final=True), 2)
        self.loop_else(p)
        return None

    def async_with(self, p: Place) -> None:
        self.add(p, f"async with Slow({self.test(p, 0)}) as {self.rng.choice(p.vars)}:")
        if self.chance(0.3):
            self.risk(p.deeper())
        self.plain_end(p.deeper(mute=True))

    # ---------------------------------------------------------------- functions

    def function(self, kind: str = "plain", least: int = 2, most: int = 7) -> str:
        """Writes a function of (a, b=1) that gives a number, or several; `least` is in statements."""
        name = self.fresh(
            {"plain": "f", "generator": "g", "delegating": "gd", "coroutine": "co", "stream": "ag"}[
                kind
            ]
        )
        place = Place(kind=kind)
        word = "async def" if kind in ("coroutine", "stream") else "def"
        self.add(Place(0), f"{word} {name}(a, b=1):")
        if self.chance(0.3):
            self.add(place, '"""A docstring.\n\nIt is no statement."""')
        recursive = kind == "plain" and self.chance(0.15)
        if recursive:
            self.add(place, "if b > 3:")
            self.add(place.deeper(), "return a")
        for _ in range(self.rng.randrange(least, most + 1)):
            self.statement(place)
        if recursive:
            self.add(place, f"b = {name}(a + 1, 4) + {name}((a * 3) % 7, 5)")
        if kind in ("generator", "delegating", "stream"):
            self.add(place, "yield a")
        else:
            self.add(place, f"return ({self.number(place)}) % 101")
        names = {"plain": self.names.functions, "generator": self.names.generators,
                 "delegating": self.names.delegating, "coroutine": self.names.coroutines, "stream": self.names.streams}[kind]  # fmt: skip
        names.append(name)
        return name

    def guarded(self) -> str:
        """Writes a generator that has something to clean up wherever it is closed."""
        name, place = self.fresh("gg"), Place(kind="generator")
        inner = place.deeper()
        self.add(Place(0), f"def {name}(a, b=1):")
        if self.chance(0.5):
            self.add(place, "try:")
            self.yield_(inner)
            self.block(inner, 2)
            self.yield_(inner)
            self.add(place, "finally:")
            self.plain_end(replace(inner, mute=True, calm=True, final=True))
        else:
            self.add(place, f"with Gate({self.rng.choice(('False', 'b == 3'))}) as b:")
            self.yield_(inner)
            self.block(inner, 2)
            self.yield_(inner)
        if self.chance(0.5):
            self.block(replace(place, kind="plain"), 2)
        self.names.guarded.append(name)
        return name

    def long_function(self, lines: int = 320) -> str:
        """Writes a function that is long enough for the recorder to treat it in another way."""
        name, place = self.fresh("long"), Place()
        self.add(Place(0), f"def {name}(a, b=1):")
        start = len(self.lines)
        while len(self.lines) - start < lines:
            if self.chance(0.3):
                self.statement(place)
            else:
                self.assign(place)
        self.add(place, "return (a + b) % 101")
        self.names.functions.append(name)
        return name
