"""Makes the source of a function that compares all sorts of things, from a seed."""

from __future__ import annotations

import random

NAMES = "abcde"
ORDERS = ["<", "<=", ">", ">="]
EQUALS = ["==", "!="]
IDENTITIES = ["is None", "is not None", "is True", "is not False"]
METHODS = ["startswith", "endswith", "find", "rfind", "partition", "split", "removeprefix"]
SEARCHED = ["'abcabc'", "'x=y=z'", "b'abcabc'", "'日本é日本é'", "('a' * 300 + 'key')"]
POSITIONS = ["0", "1", "2", "-1", "-2", "5", "6", "7", "-9", "True", "False", "None", "1 << 40", "1 << 70",
             "-(1 << 70)"]  # fmt: skip
REGULAR = ["'a'", "'^ab'", "'b+c'", "'(a|b)'", "b'a'", "'é'"]
INTS = ["0", "1", "-1", "7", "255", "256", "1 << 16", "-(1 << 31)", "(1 << 63) - 1", "1 << 63",
        "(1 << 64) + 5", "-(1 << 63) - 2"]  # fmt: skip
TEXTS = ["''", "'a'", "'abcdefgh'", "'abcdefghi'", "'é'", "'key'", "'x' * 300", "'日本' * 90"]
BYTES = ["b''", "b'a'", "b'magic'", "b'\\0\\xff' * 8"]
OTHERS = ["1.5", "-0.0", "None", "True", "False"]


class Generator:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def function(self) -> str:
        lines = [f"def f({', '.join(NAMES)}):", "    import re", "    r = []"]
        for _ in range(self.dice.randint(2, 5)):
            lines += [f"    {line}" for line in self.statement(2)]
        return "\n".join([*lines, "    return r", ""])

    def arguments(self) -> str:
        return ", ".join(self.constant() for _ in NAMES)

    def one_of(self, choices: list[str]) -> str:
        return self.dice.choice(choices)

    def constant(self) -> str:
        kind = self.dice.random()
        return self.one_of(
            INTS if kind < 0.5 else TEXTS if kind < 0.75 else BYTES if kind < 0.85 else OTHERS
        )

    def block(self, depth: int) -> list[str]:
        lines = self.statement(depth - 1)
        return [f"    {line}" for line in lines]

    def statement(self, depth: int) -> list[str]:
        dice = self.dice
        kind = dice.randrange(8) if depth > 0 else dice.randrange(2)
        if kind <= 1:
            return [f"r.append({self.expression(3)})"]
        if kind == 2:
            return [f"if {self.expression(3)}:", *self.block(depth), "else:", *self.block(depth)]
        if kind == 3:
            return [
                "try:",
                f"    assert {self.expression(3)}",
                "except AssertionError:",
                *self.block(depth),
            ]
        if kind == 4:
            name = self.one_of(list(NAMES))
            return [f"for {name} in ({self.constant()}, {self.constant()}):", *self.block(depth)]
        if kind == 5:
            return [
                f"r.append([i for i in ({self.constant()}, {self.constant()}) if {self.expression(2, 'i')}])"
            ]
        if kind == 6:
            return ["n = 0", f"while n < 2 and {self.expression(2)}:", "    n += 1"]
        return self.match(depth)

    def match(self, depth: int) -> list[str]:
        lines = [f"match {self.one_of(list(NAMES))}:"]
        for _ in range(self.dice.randint(1, 3)):
            patterns = [self.pattern() for _ in range(self.dice.randint(1, 2))]
            guard = f" if {self.expression(1)}" if self.dice.random() < 0.3 else ""
            lines += [f"    case {' | '.join(patterns)}{guard}:"]
            lines += [f"    {line}" for line in self.block(depth)]
        return lines

    def pattern(self) -> str:
        return self.one_of(
            ["0", "-1", "7", "'a'", "'abcdefghi'", "b'magic'", "1.5", "None", "True"]
        )

    def expression(self, depth: int, also: str = "") -> str:
        dice = self.dice
        kind = dice.randrange(10) if depth > 0 else 0
        if kind <= 4:
            return self.comparison(depth, also)
        if kind == 5:
            parts = [self.expression(depth - 1, also) for _ in range(dice.randint(2, 3))]
            return "(" + dice.choice([" and ", " or "]).join(parts) + ")"
        if kind == 6:
            return f"(not {self.expression(depth - 1, also)})"
        if kind == 7:
            one, two, three = (self.expression(depth - 1, also) for _ in range(3))
            return f"({one} if {two} else {three})"
        if kind == 8:
            return f"(lambda z: {self.expression(depth - 1, 'z')})({self.operand(also)})"
        return f"({self.expression(depth - 1, also)}, {self.operand(also)})"

    def operand(self, also: str = "") -> str:
        if self.dice.random() < 0.4:
            return f"({self.constant()})"
        return self.one_of([*NAMES, *also])

    def many(self) -> str:
        """More than a comparison has records, and what is found behind those."""
        start = self.dice.randint(-90, 3)
        values = f"range({start}, {start + self.dice.choice([63, 64, 65, 100, 300])})"
        return f"{self.one_of(['set', 'frozenset', 'dict.fromkeys'])}({values})"

    def positions(self, also: str) -> list[str]:
        return [
            f"({self.one_of(POSITIONS)})" if self.dice.random() < 0.95 else self.operand(also)
            for _ in range(self.dice.choice([0, 0, 1, 1, 2]))
        ]

    def method(self, also: str) -> str:
        text, method = self.one_of(SEARCHED), self.one_of(METHODS)
        asked = self.one_of(BYTES if text[0] == "b" else TEXTS[1:])
        asked = self.operand(also) if self.dice.random() < 0.2 else f"({asked})"
        places = [] if "p" in method else self.positions(also)
        return f"{text}.{method}({', '.join([asked, *places])})"

    def regular(self, also: str) -> str:
        places = self.positions(also)
        names = self.dice.choice(
            [["", ""], ["", "endpos="], ["pos=", "endpos="], ["endpos=", "pos="]]
        )
        given = [f"{name}{place}" for name, place in zip(names, places, strict=False)]
        text, method = self.one_of(SEARCHED), self.one_of(["match", "fullmatch"])
        return f"re.compile({self.one_of(REGULAR)}).{method}({', '.join([text, *given])})"

    def container(self, also: str) -> str:
        if self.dice.random() < 0.25:
            return self.many()
        parts = [self.operand(also) for _ in range(self.dice.randint(0, 3))]
        kind = self.dice.randrange(5)
        if kind == 0:
            return "[" + ", ".join(parts) + "]"
        if kind == 1:
            return "(" + "".join(f"{part}, " for part in parts) + ")"
        if kind == 2 and parts:
            return "{" + f"{parts[0]}" + "}"
        if kind == 3:
            return "{" + ", ".join(f"{part}: 0" for part in parts) + "}"
        return f"range({self.dice.randint(-3, 3)}, {self.dice.randint(1, 300)})"

    def comparison(self, depth: int, also: str) -> str:
        dice = self.dice
        kind = dice.randrange(12)
        if kind == 0:
            return f"({self.operand(also)} {self.one_of(IDENTITIES)})"
        if kind == 1:
            where = self.operand(also) if dice.random() < 0.2 else self.container(also)
            return f"({self.operand(also)} {dice.choice(['in', 'not in'])} {where})"
        if kind == 2:
            return self.method(also)
        if kind == 3:
            return self.regular(also)
        if kind == 4:
            table = self.many()
            table = table if table.startswith("dict") else f"{{{self.operand(also)}: 0}}"
            default = f", {self.operand(also)}" if dice.random() < 0.5 else ""
            if dice.random() < 0.2:
                return f"dict({table})[{self.operand(also)}]"
            return f"{table}.get({self.operand(also)}{default})"
        operators = EQUALS if dice.random() < 0.9 else ORDERS
        parts = [self.operand(also)]
        for _ in range(1 if dice.random() < 0.7 else dice.randint(2, 3)):
            operand = (
                self.operand(also)
                if dice.random() < 0.8 or not depth
                else self.expression(depth - 1, also)
            )
            parts += [dice.choice(operators), operand]
        return "(" + " ".join(parts) + ")"
