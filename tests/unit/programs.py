"""Programs to run under observation: one with every construct, and modules of the standard library."""

from __future__ import annotations

import importlib
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONSTRUCTS = textwrap.dedent(
    '''
    """The docstring
    of the module."""
    import asyncio
    import contextlib

    class Base:
        "A docstring."
        kind = "base"
        def __init__(self, *args): self.args = args
        @property
        def size(self):
            return len(
                self.args
            )
        @staticmethod
        @contextlib.contextmanager
        def quiet(*kinds):
            try:
                yield kinds
            except kinds:
                pass
            finally:
                kinds = ()

    class Derived(Base): extra = 1

    def decorator(name,
                  value=None):
        def wrap(function):
            function.name = name
            return function
        return wrap

    @decorator("x",
               value=3)
    @decorator(
        "y",
    )
    def decorated(a, b=(lambda: 1)(), *,
                  c=None) -> int: return a

    def branches(a, b, c):
        if a: x = 1
        elif b:
            x = 2
        else: x = 3
        y = (a and
             b or
             c)
        z = x if y else (
            b if c else
            a)
        if (a
                and not b
            ):
            pass
        while a:
            a -= 1
            if a == 3: continue
            if a == 1: break
        else:
            z = 0
        while b: b -= 1
        assert x, (
            "no x")
        return 1 < x < 3, [
            y,
            z,
        ]

    def loops(items):
        total = 0
        for i in items:
            for j in range(i): total += j
            if total > 100:
                break
        else:
            total = -1
        for (
            a,
            b
        ) in zip(
            items,
            items,
        ):
            total += (
                a * b
            )
        squares = [n * n for n in items if n]
        table = {
            n: [m
                for m in range(n)]
            for n in items
            if n
        }
        odd = {n for n in items if n % 2}
        lazy = (
            n + total
            for n in items
        )
        return squares, table, odd, list(lazy), sum(n for n in items)

    def errors(action):
        try:
            action()
        except ZeroDivisionError:
            return "zero"
        except (KeyError,
                ValueError) as e:
            return str(e)
        except BaseException: kind = "other"
        else:
            kind = "none"
        finally:
            action = None
        try:
            try: raise KeyError(
                "k")
            finally:
                kind += "f"
        except KeyError: pass
        try: 1 / 0
        except: kind += "bare"
        for i in range(3):
            try:
                if i: continue
                break
            finally: kind += str(i)
        return kind

    def contexts(fail):
        with Base.quiet(ValueError) as a, \\
                Base.quiet(KeyError):
            if fail: raise fail
            b = 1
        with (
            Base.quiet(),
            Base.quiet() as c,
        ):
            with Base.quiet(): d = 1
        with Base.quiet(ValueError): raise ValueError
        return a

    def matches(x):
        match x:
            case 1 | 2: return "small"
            case [a, *rest] if rest:
                return a
            case {"k": v, **others}:
                return (v,
                        others)
            case Base(size=0) | Base(size=1):
                return "base"
            case None: pass
            case str() as text if text: return text
            case (
                True
                | False
            ):
                return "bool"
            case _: return "rest"
        return "none"

    def generator(n):
        got = None
        try:
            for i in range(n):
                got = yield i
                if got: yield from inner(
                    got)
        except ValueError:
            yield "thrown"
        finally:
            got = 0

    def inner(n):
        try: yield n
        except KeyError:
            yield -1

    def generators():
        out = list(generator(3))
        g = generator(5)
        out.append(next(g))
        out.append(g.send(7))
        out.append(g.throw(KeyError))
        out.append(next(g))
        out.append(g.throw(ValueError))
        g.close()
        g = generator(2); next(g); g.close()
        return out

    async def ticks(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    class Resource:
        async def __aenter__(self): return self
        async def __aexit__(self, *error):
            return bool(error[0])

    async def coroutine():
        out = [i async for i in ticks(3) if i]
        async for i in ticks(2):
            out.append(i)
        else:
            out.append(None)
        async with Resource() as r:
            raise ValueError
        async with Resource(): pass
        task = asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0)
        task.cancel()
        try: await task
        except asyncio.CancelledError:
            out.append("cancelled")
        return out

    def groups():
        out = []
        try:
            raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
        except* ValueError as e:
            out.append(e)
        except* (KeyError, TypeError): out.append(0)
        return out

    def scopes():
        global later
        def later(): return 1
        count = 0
        def bump():
            nonlocal count; count += 1
            return lambda x: (
                x + count)
        f = bump(); f(1)
        g = lambda: count; g(); del g
        if (n := f(2)) > 1: print(end="")
        import os.path as p; from os import (
            sep,
            path,
        )
        text = f"{count} {n:>{count}}"; \\
        tail = "x"
        return (lambda: 0)()

    def raising(n):
        def zero(): 1 / n
        def key(): {}[n]
        def stop(): raise StopIteration(
            n)
        def nothing(): pass
        return [errors(f) for f in (zero, key, stop, nothing)]

    def main():
        decorated(1)
        for a in (0, 1, 5):
            for b in (0, 2):
                branches(a, b, 1)
        loops([]); loops([1, 2, 3]); loops([20, 20])
        raising(0)
        for e in (None, ValueError, KeyError):
            contexts(e)
        for x in (1, [1, 2], [1], {"k": 1}, Base(), Base(1), Derived(1, 2), None, "", "t", True, 5):
            matches(x)
        generators()
        asyncio.run(coroutine())
        groups()
        scopes()
    '''
)


def long_function(repeat: int = 60) -> str:
    """Return the text of a function `long(n)` far longer than the line field of 3.12 and 3.13."""
    body = textwrap.indent(
        textwrap.dedent(
            """
            total += n
            for i in range(3):
                if i % 2: continue
                total += i
            else:
                total -= 1
            while n > 3: n -= 1
            x = [j for j in range(n)
                 if j]
            try:
                if total % 7 == 0: raise ValueError(
                    total)
                y = (n and
                     total) or None
            except ValueError:
                total += 2
            finally:
                total += 1
            with quiet(KeyError):
                if total % 5: raise KeyError
            """
        ),
        "    " * 2,
    )
    return (
        "from contextlib import suppress as quiet\ndef long(n):\n    total = 0\n"
        f"    while True:\n{body * repeat}\n        if n < 3: break\n        n -= 1\n    return total\n"
    )


MODULES = (
    "json.decoder", "json.scanner", "json.encoder", "html.parser", "tomllib._parser", "argparse",
    "dataclasses", "ast", "textwrap", "configparser", "difflib", "shlex", "string", "pprint",
    "fractions", "statistics", "_strptime", "csv", "copy", "gettext",
)  # fmt: skip


def compiled(names: tuple[str, ...] = MODULES) -> dict[str, types.CodeType]:
    """Return the code of modules, from their sources."""
    codes = {}
    for name, file in zip(names, files_of(names), strict=True):
        with open(file, encoding="utf-8") as opened:
            codes[name] = compile(opened.read(), file, "exec", dont_inherit=True)
    return codes


@contextmanager
def private_copies(codes: dict[str, types.CodeType]) -> Iterator[dict[str, types.ModuleType]]:
    """Execute modules anew. The program's own modules of these names come back at the end."""
    saved = {name: importlib.import_module(name) for name in codes}
    copies: dict[str, types.ModuleType] = {}
    try:
        for name, code in codes.items():
            spec = saved[name].__spec__
            assert spec is not None
            module = types.ModuleType(name)
            module.__file__, module.__spec__ = code.co_filename, spec
            module.__package__ = spec.parent
            sys.modules[name] = copies[name] = module  # dataclasses look there
            exec(code, module.__dict__)
            sys.modules[name] = saved[name]
        yield copies
    finally:
        sys.modules.update(saved)


def files_of(names: tuple[str, ...] = MODULES) -> list[str]:
    return [str(importlib.import_module(name).__file__) for name in names]


def work(m: Any) -> None:
    """Use each of MODULES a little, some of it with errors."""
    decoder, scanner = m["json.decoder"], m["json.scanner"]
    decoder.scanstring = decoder.py_scanstring
    reader = decoder.JSONDecoder()
    reader.parse_object, reader.parse_array = decoder.JSONObject, decoder.JSONArray
    reader.scan_once = scanner.py_make_scanner(reader)
    for text in ('{"a": [1, 2.5, -3e4, true, null, "x\\u00e9\\n"]}', "[]", "{", "[1,]", '"\\x"'):
        attempt(reader.decode, text)
    m["json.encoder"].c_make_encoder = None
    writer = m["json.encoder"].JSONEncoder(indent=1, sort_keys=True)
    for value in ({"b": [1, {"c": None}], "a": "é"}, [], {1: 2.0}, {object(): 1}, {1, 2}):
        attempt(writer.encode, value)
    html = m["html.parser"].HTMLParser()
    attempt(
        html.feed,
        "<!doctype html><a href='x' b>t&amp;&#33;<br/><!-- c --><?pi?></a><script>x</scrip",
    )
    attempt(html.close)
    for text in (
        'a = 1\n[b]\nc = [1, "x"]\nd = {e = 2020-01-01}\n[[f]]\n',
        "a = ",
        'a = """x\n"""',
    ):
        attempt(m["tomllib._parser"].loads, text)
    _argparse(m["argparse"])
    data = m["dataclasses"]
    point = attempt(
        data.make_dataclass,
        "P",
        [("x", int), ("y", int, data.field(default=2))],
        frozen=True,
        order=True,
    )
    attempt(
        lambda: (
            point(1) < point(2),
            hash(point(1)),
            data.replace(point(1), x=3),
            data.asdict(point(1)),
        )
    )
    tree = m["ast"].parse(
        "def f(a, *b: int, c=1):\n  for x in [y for y in b if a]:\n    if a < 1: pass\n"
    )
    attempt(m["ast"].unparse, tree)
    attempt(m["ast"].literal_eval, "{'a': (1, -2j), 'b': {*()}}")
    attempt(m["ast"].dump, tree, indent=2)
    attempt(m["textwrap"].fill, "some words of a text " * 9, 30, initial_indent="* ")
    attempt(m["textwrap"].dedent, "  a\n    b\n")
    parser = m["configparser"].ConfigParser()
    for text in ("[a]\nx = 1\ny = %(x)s\n z\n[b]\n", "x = 1", "[a]\n[a]"):
        attempt(parser.read_string, text)
    attempt(parser.get, "a", "y")
    a, b = ["one", "two", "three"], ["one", "three", "four", "five"]
    attempt(lambda: list(m["difflib"].unified_diff(a, b)) + list(m["difflib"].ndiff(a, b)))
    attempt(m["shlex"].split, 'a \'b c\' "d\\"" # e', comments=True)
    attempt(m["shlex"].split, "a 'b")
    attempt(m["string"].Template("$a ${b} $$").substitute, a=1, b=2)
    attempt(m["string"].Formatter().format, "{0!r:>4} {a[0]}", 1, a=[2])
    attempt(m["pprint"].pformat, {"k" * 30: [list(range(30)), {1: ("a" * 50, "b")}]}, width=40)
    fraction = m["fractions"].Fraction
    attempt(lambda: (fraction("3/4") + fraction(1.5)) ** 2 > fraction(1, 3))
    attempt(fraction, "x")
    attempt(m["statistics"].quantiles, [1, 2, 3, 4.5])
    attempt(m["statistics"].stdev, [1])
    attempt(m["_strptime"]._strptime, "2024-02-29 12:01", "%Y-%m-%d %H:%M")
    attempt(m["_strptime"]._strptime, "x", "%Y")
    attempt(m["csv"].Sniffer().sniff, "a;b\n1;2\n3;4\n")
    attempt(m["copy"].deepcopy, {"a": [1, (2, {3})]})
    attempt(m["gettext"].c2py, "n != 1 ? (n > 4 ? 2 : 1) : 0")


def _argparse(argparse: Any) -> None:
    parser = argparse.ArgumentParser(prog="p", description="d" * 90, exit_on_error=False)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-a", "--all", action="store_true", help="all")
    group.add_argument("-n", type=int, choices=[1, 2], default=1)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run").add_argument("file", nargs="*")
    for line in (
        ["-a", "run", "x", "y"],
        ["-n", "2"],
        ["-n", "3"],
        ["-a", "-n1"],
        ["run", "--", "-x"],
    ):
        attempt(parser.parse_args, line)
    attempt(parser.format_help)


def attempt(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return function(*args, **options)
    except Exception as error:
        return error
