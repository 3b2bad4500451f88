"""Statements: executes a program and says which entries and lines happen, in order.

A line happens when work begins on it and the frame's work was on another line before, or nowhere: that
is what Python's interpreters report, and Frame.touch is the rule. So a `for` line happens at the start and
at each return to it, and a `with` line happens again when its block is left, however it is left.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from . import patterns
from .expressions import OPERATORS, Expressions
from .frames import Frame, Loop, Source, is_docstring
from .rules import Rules
from .values import Abort, Class, Event, Function, Scope, SimStop, Steps

BREAK, CONTINUE = "break", "continue"


class Returned:
    """A `return` on its way out of a function."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Interpreter(Expressions):
    """Executes. A statement gives None, BREAK, CONTINUE or Returned."""

    def __init__(self, rules: Rules, record: Callable[[Event], None]) -> None:
        super().__init__(rules, record)
        self.dead = False  # the machine gave up; what unwinds now is no part of the program

    def module(self, source: Source, names: dict[str, Any]) -> Steps:
        """Executes a file of the program at its top level."""
        self.sources.append(source)
        scope = Scope(names, None, names)
        frame = Frame(self.record, self.rules, source, scope, "<module>", "")
        frame.enter(1)
        yield from self.block(source.tree.body, frame)

    def body(self, statements: list[ast.stmt], f: Frame) -> Steps:
        done = yield from self.block(statements, f)
        return done.value if isinstance(done, Returned) else None

    def block(self, statements: Iterable[ast.stmt], f: Frame) -> Steps:
        for node in statements:
            if isinstance(node, ast.Nonlocal | ast.Global) or is_docstring(node):
                continue
            f.begin(node)
            done = yield from getattr(self, "do_" + type(node).__name__, self.unknown)(node, f)
            if done is not None:
                return done
        return None

    def unknown(self, node: ast.stmt, f: Frame) -> Steps:
        raise Abort(f"line {node.lineno}: no {type(node).__name__}")
        yield

    # ---------------------------------------------------------------- simple statements

    def do_Pass(self, node: ast.Pass, f: Frame) -> Steps:
        return None
        yield

    def do_Break(self, node: ast.Break, f: Frame) -> Steps:
        f.leave_blocks(f.loops[-1].blocks)
        return BREAK
        yield

    def do_Continue(self, node: ast.Continue, f: Frame) -> Steps:
        loop = f.loops[-1]
        f.leave_blocks(loop.blocks)
        if loop.first:
            f.touch(loop.line)
            loop.told = True
        return CONTINUE
        yield

    def do_Expr(self, node: ast.Expr, f: Frame) -> Steps:
        yield from self.value(node.value, f)
        return None

    def do_Assign(self, node: ast.Assign, f: Frame) -> Steps:
        value = yield from self.value(node.value, f)
        for target in node.targets:
            self.assign(target, value, f)
        return None

    def do_AnnAssign(self, node: ast.AnnAssign, f: Frame) -> Steps:
        assert node.value is not None
        self.assign(node.target, (yield from self.value(node.value, f)), f)
        return None

    def do_AugAssign(self, node: ast.AugAssign, f: Frame) -> Steps:
        load = ast.copy_location(ast.Name("_", ast.Load()), node.target)
        if isinstance(node.target, ast.Name):
            old = f.scope[node.target.id]
        elif isinstance(node.target, ast.Attribute):
            old = getattr(self.plain(node.target.value, f), node.target.attr)
        else:
            raise Abort(f"line {load.lineno}: no such augmented target")
        value = yield from self.value(node.value, f)
        self.assign(node.target, OPERATORS[type(node.op)](old, value), f)
        return None

    def do_Delete(self, node: ast.Delete, f: Frame) -> Steps:
        for target in node.targets:
            assert isinstance(target, ast.Name)
            del f.scope.vars[target.id]
        return None
        yield

    def do_Assert(self, node: ast.Assert, f: Frame) -> Steps:
        if not (yield from self.value(node.test, f)):
            raise AssertionError
        return None

    def do_Return(self, node: ast.Return, f: Frame) -> Steps:
        f.leave_blocks(0)
        if node.value is None:
            return Returned(None)
        return Returned((yield from self.value(node.value, f)))

    def do_Raise(self, node: ast.Raise, f: Frame) -> Steps:
        if node.exc is None:
            raise f.handling[-1]
        error = yield from self.value(node.exc, f)
        if node.cause is not None:
            yield from self.value(node.cause, f)
        if isinstance(error, type):
            error = error()
        raise SimStop if isinstance(error, StopIteration) else error

    def do_Import(self, node: ast.Import, f: Frame) -> Steps:
        return None  # the names are there already
        yield

    do_ImportFrom = do_Import

    # ---------------------------------------------------------------- definitions

    def do_FunctionDef(self, node: ast.FunctionDef, f: Frame) -> Steps:
        defaults, kw_defaults = [], {}
        for default in node.args.defaults:
            defaults.append((yield from self.value(default, f)))
        for arg, kw_default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if kw_default is not None:
                kw_defaults[arg.arg] = yield from self.value(kw_default, f)
        outer = f.scope.outer if f.prefix and not f.prefix.endswith("<locals>.") else f.scope
        scope = outer or Scope(f.scope.globals, None, f.scope.globals)
        f.scope.store(
            node.name,
            Function(node, f.file.number, scope, f.prefix + node.name, defaults, kw_defaults),
        )
        return None

    do_AsyncFunctionDef = do_FunctionDef

    def do_ClassDef(self, node: ast.ClassDef, f: Frame) -> Steps:
        bases = []
        for base in node.bases:
            bases.append((yield from self.value(base, f)))
        qualname = f.prefix + node.name
        scope = Scope(f.scope.globals, f.scope, {})
        inner = Frame(self.record, self.rules, f.file, scope, qualname, qualname + ".")
        inner.enter(node.lineno)
        inner.touch(node.lineno)
        yield from self.block(node.body, inner)
        if bases and isinstance(bases[0], type):
            made: Any = type(node.name, tuple(bases), {})
        else:
            made = Class(node.name, bases, scope.vars)
        f.scope.store(node.name, made)
        return None

    # ---------------------------------------------------------------- branches and loops

    def do_If(self, node: ast.If, f: Frame) -> Steps:
        test = yield from self.value(node.test, f)
        return (yield from self.block(node.body if test else node.orelse, f))

    def turn(self, node: ast.For | ast.AsyncFor | ast.While, f: Frame) -> Steps:
        """Executes the body of a loop once, and comes back to its line if it goes on."""
        f.loops.append(Loop(node, self.rules))
        f.loops[-1].blocks = len(f.blocks)
        try:
            done = yield from self.block(node.body, f)
        finally:
            loop = f.loops.pop()
        if done in (None, CONTINUE) and not loop.told:
            f.touch(node.lineno)
        return done

    def do_While(self, node: ast.While, f: Frame) -> Steps:
        while (yield from self.value(node.test, f)):
            done = yield from self.turn(node, f)
            if done is BREAK:
                return None
            if isinstance(done, Returned):
                return done
        return (yield from self.block(node.orelse, f))

    def do_For(self, node: ast.For, f: Frame) -> Steps:
        over = yield from self.iterator((yield from self.value(node.iter, f)))
        return (yield from self.loop(node, f, self.items(over)))

    def do_AsyncFor(self, node: ast.AsyncFor, f: Frame) -> Steps:
        over = yield from self.value(node.iter, f)
        return (yield from self.loop(node, f, self.items(over)))

    def loop(self, node: ast.For | ast.AsyncFor, f: Frame, step: Callable[[], Steps]) -> Steps:
        while True:
            more, item = yield from step()
            if not more:
                return (yield from self.block(node.orelse, f))
            self.assign(node.target, item, f)
            done = yield from self.turn(node, f)
            if done is BREAK:
                return None
            if isinstance(done, Returned):
                return done

    def do_Match(self, node: ast.Match, f: Frame) -> Steps:
        subject = yield from self.value(node.subject, f)
        for case in node.cases:
            f.touch(case.pattern.lineno)
            names: dict[str, Any] = {}
            if not patterns.matches(case.pattern, subject, names):
                continue
            for name, value in names.items():
                f.scope.store(name, value)
            if case.guard is None or (yield from self.value(case.guard, f)):
                return (yield from self.block(case.body, f))
        return None

    # ---------------------------------------------------------------- exceptions and contexts

    def do_Try(self, node: ast.Try, f: Frame) -> Steps:
        if not node.finalbody:
            return (yield from self.handlers(node, f))
        try:
            done = yield from self.handlers(node, f)
        except BaseException as error:
            if self.dead or isinstance(error, Abort | GeneratorExit):
                raise
            final = yield from self.block(node.finalbody, f)
            if final is not None:
                raise Abort("a finally that leaves") from None
            raise
        final = yield from self.block(node.finalbody, f)
        return done if final is None else final

    def handlers(self, node: ast.Try, f: Frame) -> Steps:
        try:
            done = yield from self.block(node.body, f)
        except BaseException as error:
            if self.dead or isinstance(error, Abort | GeneratorExit):
                raise
            for handler in node.handlers:
                f.touch(handler.lineno)
                if handler.type is not None:
                    wanted = yield from self.value(handler.type, f)
                    if not caught(error, wanted):
                        continue
                return (yield from self.handle(handler, error, f))
            raise
        if done is not None:
            return done
        return (yield from self.block(node.orelse, f))

    def handle(self, handler: ast.ExceptHandler, error: BaseException, f: Frame) -> Steps:
        f.handling.append(error)
        if handler.name:
            f.scope.store(handler.name, error)
        try:
            return (yield from self.block(handler.body, f))
        finally:
            f.handling.pop()
            if handler.name:
                f.scope.vars.pop(handler.name, None)

    def do_With(self, node: ast.With | ast.AsyncWith, f: Frame) -> Steps:
        return (yield from self.enter_items(node, node.items, f))

    do_AsyncWith = do_With

    def enter_items(
        self, node: ast.With | ast.AsyncWith, items: list[ast.withitem], f: Frame
    ) -> Steps:
        if not items:
            return (yield from self.block_of(node, f))
        manager = yield from self.value(items[0].context_expr, f)
        enter, leave = ("__aenter__", "__aexit__") if isinstance(node, ast.AsyncWith) else (
            "__enter__", "__exit__",
        )  # fmt: skip

        def call(name: str, *args: Any) -> Steps:
            value = yield from self.call(getattr(manager, name), *args)
            if isinstance(node, ast.AsyncWith):
                value = yield from self.awaited(value)
            return value

        entered = yield from call(enter)
        if items[0].optional_vars is not None:
            self.assign(items[0].optional_vars, entered, f)
        try:
            done = yield from self.enter_items(node, items[1:], f)
        except BaseException as error:
            if self.dead or isinstance(error, Abort | GeneratorExit):
                raise
            f.touch(node.lineno)
            if not (yield from call(leave, type(error), error, None)):
                raise
            return None
        if done is None or not self.rules.compiled:
            f.touch(node.lineno)
        yield from call(leave, None, None, None)
        return done

    def block_of(self, node: ast.With | ast.AsyncWith, f: Frame) -> Steps:
        """Executes the block of a `with`; one that is on its line is left on that line."""
        if node.body[0].lineno == node.lineno:
            return (yield from self.block(node.body, f))
        f.blocks.append(node.lineno)
        try:
            return (yield from self.block(node.body, f))
        except BaseException as error:
            # Also where the line was told before what raised.
            if self.rules.compiled and not isinstance(error, Abort | GeneratorExit):
                f.line = 0
            raise
        finally:
            f.blocks.pop()


def caught(error: BaseException, wanted: Any) -> bool:
    if isinstance(error, SimStop):
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        return StopIteration in kinds or isinstance(error, wanted)
    return isinstance(error, wanted)
