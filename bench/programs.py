"""The measured programs. workloads.py copies this file, with a standard library's parsers beside it.

Each does a fixed piece of work and returns a number that depends on all of it. Where a program of this kind
would be annotated it is: around one item of its work. `plain` copies have `if True:` there.
"""

# ruff: noqa: F401

import asyncio
import random

import pykcov

from . import html, tomllib
from .html import parser as html_parser
from .json import decoder

HANDLE = 0x62656E6368


# -- a branchy loop


def sieve(n):
    flags = [True] * n
    for i in range(2, n):
        if flags[i]:
            for j in range(i * i, n, i):
                flags[j] = False
    return sum(flags)


def collatz(n):
    steps = 0
    for start in range(1, n):
        x = start
        while x != 1:
            if x & 1:
                x = 3 * x + 1
            else:
                x >>= 1
            steps += 1
    return steps


def loop(items):
    total = 0
    for item in range(items):
        with pykcov.remote(HANDLE):
            total += sieve(1500 + item) + collatz(110 + item)
    return total


# -- recursive calls and small methods


def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


class Vector:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def plus(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def norm(self):
        return self.x * self.x + self.y * self.y


def walk(n):
    here = Vector(0, 0)
    step = Vector(1, 2)
    for _ in range(n):
        here = here.plus(step)
        if here.norm() > 1000:
            here = Vector(0, 1)
    return here.norm()


def calls(items):
    total = 0
    for item in range(items):
        with pykcov.remote(HANDLE):
            total += fib(13 + item % 2) + walk(300)
    return total


# -- parsers that somebody else wrote


def _documents():
    chance = random.Random(1)
    words = [
        "alpha",
        "beta",
        "gamma",
        "d\\u00e9j\\u00e0",
        "vu",
        "omega",
        "a \\\\ b",
        'quoted "word"',
    ]

    def value(depth):
        kind = chance.randrange(7 if depth else 5)
        if kind == 0:
            return str(chance.randrange(-1000, 100000))
        if kind == 1:
            return f"{chance.random() * 1000:.6f}"
        if kind == 2:
            return chance.choice(["true", "false", "null"])
        if kind in (3, 4):
            return '"' + chance.choice(words).replace('"', '\\"') + '"'
        inner = [value(depth - 1) for _ in range(chance.randrange(1, 7))]
        if kind == 5:
            return "[" + ", ".join(inner) + "]"
        return "{" + ", ".join(f'"key{i}": {text}' for i, text in enumerate(inner)) + "}"

    json_text = "[" + ",\n".join(value(4) for _ in range(80)) + "]"
    rows = []
    for i in range(60):
        rows.append(
            f'<tr class="row{i}" id=r{i}><td>&lt;{chance.choice(words)}&gt; &amp; more</td>'
            f"<td><a href='/x?y={i}' hidden>link {i}</a><br/></td><!-- {i} --></tr>\n"
        )
    html_text = "<!DOCTYPE html><html><body><table>" + "".join(rows) + "</table></body></html>"
    tables = []
    for i in range(22):
        tables.append(
            f'[section.{i}]\nname = "entry {i}"  # a comment\nport = {8000 + i}\n'
            f"ratio = {i}.25\nwhen = 2024-01-{i + 1:02}T10:00:00Z\nflags = [true, false, [1, 2, {i}]]\n"
            f"nested = {{ a = 'x', b.c = {i} }}\n\n"
        )
    return json_text, html_text, "".join(tables)


JSON_TEXT, HTML_TEXT, TOML_TEXT = _documents()


class Collector(html_parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def handle_starttag(self, tag, attrs):
        self.seen += 1 + len(attrs)

    def handle_endtag(self, tag):
        self.seen += 1

    def handle_data(self, data):
        self.seen += len(data)


def json(items):
    total = 0
    for _ in range(items):
        with pykcov.remote(HANDLE):
            total += len(decoder.JSONDecoder().decode(JSON_TEXT))
    return total


def html_(items):
    total = 0
    for _ in range(items):
        with pykcov.remote(HANDLE):
            parser = Collector()
            parser.feed(HTML_TEXT)
            parser.close()
            total += parser.seen
    return total


def toml(items):
    total = 0
    for _ in range(items):
        with pykcov.remote(HANDLE):
            total += len(tomllib.loads(TOML_TEXT)["section"])
    return total


# -- asyncio tasks that interleave


def digits(n):
    total = 0
    while n:
        n, digit = divmod(n, 10)
        if digit % 2:
            total += digit
        else:
            total -= digit
    return total


async def one_task(number, steps):
    total = 0
    with pykcov.remote(HANDLE):
        for step in range(steps):
            for i in range(number, number + 8):
                total += digits(i * 7919 + step)
            await asyncio.sleep(0)
    return total


async def many_tasks(steps):
    return sum(await asyncio.gather(*(one_task(number, steps) for number in range(100))))


def tasks(items):
    return asyncio.run(many_tasks(items))


# -- what each of four threads does


def mixed(items):
    return loop(items) + calls(items) + toml(items)
