"""What the interpreter's programs compute with, where a plain Python object will not do."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from typing import Any

Steps = Generator[Any, Any, Any]
"""Work of the interpreter: it yields a Yielded (a generator's) or a Wait (the scheduler's)."""

Event = tuple[str, int, int, str]
"""(kind, number of the file, line, qualified name of what was entered or "")."""


def steps(function: Callable[..., Steps]) -> Callable[..., Steps]:
    """Marks what a program can call and that may call the program back, or wait."""
    function.is_steps = True  # type: ignore[attr-defined]
    return function


class Abort(BaseException):
    """The interpreter gives up: the program is not one that it can take. No program catches it."""


class TooMuch(Abort):
    """The program does more than is worth checking."""


class Death(Abort):
    """The process that runs ends at once: nothing of the program unwinds."""


class SimStop(Exception):
    """StopIteration in a program: the real one means something else inside a generator."""


class SimExit(BaseException):
    """GeneratorExit in a program: the real one would not pass through the interpreter's generators."""


class Yielded:
    """A program's generator yields a value to whoever resumed it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Wait:
    """A task cannot go on before `ready()`; without it, others may run first."""

    __slots__ = ("ready",)

    def __init__(self, ready: Callable[[], bool] | None = None) -> None:
        self.ready = ready


class Scope:
    """The names of one frame; a mapping, so that eval() can use it."""

    __slots__ = ("globals", "globals_declared", "nonlocals", "outer", "vars")

    def __init__(self, globals: dict[str, Any], outer: Scope | None, vars: dict[str, Any]) -> None:
        self.globals = globals
        self.outer = outer
        self.vars = vars
        self.nonlocals: frozenset[str] = frozenset()
        self.globals_declared: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.vars:
                return scope.vars[name]
            scope = scope.outer
        return self.globals[name]

    def store(self, name: str, value: Any) -> None:
        if name in self.globals_declared:
            self.globals[name] = value
        elif name in self.nonlocals:
            scope = self.outer
            while scope is not None and name not in scope.vars:
                scope = scope.outer
            if scope is None:
                raise Abort(f"nonlocal {name}")
            scope.vars[name] = value
        else:
            self.vars[name] = value


class Function:
    """A function of the program. Kind: plain, generator, coroutine or async generator."""

    def __init__(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, file: int, scope: Scope,
        qualname: str, defaults: list[Any], kw_defaults: dict[str, Any],
    ) -> None:  # fmt: skip
        self.node = node
        self.file = file
        self.scope = scope
        self.qualname = qualname
        self.defaults = defaults
        self.kw_defaults = kw_defaults
        self.has_yield, self.nonlocals, self.globals_declared = shape(node)
        self.is_async = isinstance(node, ast.AsyncFunctionDef)

    def bind(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters' values."""
        a = self.node.args
        names = [p.arg for p in a.posonlyargs + a.args]
        vars = dict(zip(names, args, strict=False))
        if a.vararg:
            vars[a.vararg.arg] = tuple(args[len(names) :])
        elif len(args) > len(names):
            raise Abort(f"too many arguments of {self.qualname}")
        rest = dict(kwargs)
        for name in names + [p.arg for p in a.kwonlyargs]:
            if name in rest:
                vars[name] = rest.pop(name)
        for name, value in zip(reversed(names), reversed(self.defaults), strict=False):
            vars.setdefault(name, value)
        for name, value in self.kw_defaults.items():
            vars.setdefault(name, value)
        if a.kwarg:
            vars[a.kwarg.arg] = rest
        return vars


def walk_own(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a function's own body: not of the functions and classes inside it."""
    todo = list(ast.iter_child_nodes(node))
    while todo:
        child = todo.pop()
        yield child
        if not isinstance(
            child,
            ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp,
        ):
            todo.extend(ast.iter_child_nodes(child))


@lru_cache(maxsize=1 << 12)
def shape(node: ast.AST) -> tuple[bool, frozenset[str], frozenset[str]]:
    """Returns whether a function yields, and the names that it declares nonlocal, and global."""
    own = list(walk_own(node))
    return (
        any(isinstance(n, ast.Yield | ast.YieldFrom) for n in own),
        frozenset(name for n in own if isinstance(n, ast.Nonlocal) for name in n.names),
        frozenset(name for n in own if isinstance(n, ast.Global) for name in n.names),
    )


class Class:
    """A class of the program. Exceptions are real classes instead."""

    def __init__(self, name: str, bases: list[Class], vars: dict[str, Any]) -> None:
        self.name = name
        self.bases = bases
        self.vars = vars

    def find(self, name: str) -> Any:
        """Returns the attribute, or None."""
        if name in self.vars:
            return self.vars[name]
        return next((found for base in self.bases if (found := base.find(name)) is not None), None)

    def __getattr__(self, name: str) -> Any:
        found = None if name.startswith("__") else self.find(name)
        if found is None:
            raise AttributeError(name)
        return found


class Instance:
    """An object of a program's class. Methods come out bound."""

    def __init__(self, cls: Class) -> None:
        self.__dict__["of"] = cls

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__["of"].find(name)
        if found is None:
            raise AttributeError(name)
        return Method(found, self) if isinstance(found, Function) else found


class Method:
    """A function bound to its object."""

    __slots__ = ("function", "of")

    def __init__(self, function: Function, of: Instance) -> None:
        self.function = function
        self.of = of


class Suspendable:
    """A generator, a coroutine or an asynchronous generator of the program.

    `body` is the interpreter's own work on it. Whoever resumes it passes its waits on.
    """

    def __init__(self) -> None:
        self.body: Steps | None = None
        self.running = False
        self.done = False

    def resume(self, value: Any = None, error: BaseException | None = None) -> Steps:
        """Returns (True, what it yielded) or (False, what it returned)."""
        assert self.body is not None
        if self.running:
            raise Abort("a generator that runs already")
        if self.done:
            if error is not None:
                raise error
            return False, None
        self.running = True
        try:
            request = self.body.send(value) if error is None else self.body.throw(error)
            while not isinstance(request, Yielded):
                self.running = False
                try:
                    answer = yield request
                except BaseException as thrown:
                    self.running = True
                    request = self.body.throw(thrown)
                else:
                    self.running = True
                    request = self.body.send(answer)
            return True, request.value
        except StopIteration as stop:
            self.done = True
            return False, stop.value
        except BaseException:
            self.done = True
            raise
        finally:
            self.running = False

    @steps
    def send(self, value: Any) -> Steps:
        more, given = yield from self.resume(value)
        if not more:
            raise SimStop(given)
        return given

    @steps
    def throw(self, error: Any) -> Steps:
        more, given = yield from self.resume(error=error() if isinstance(error, type) else error)
        if not more:
            raise SimStop(given)
        return given

    @steps
    def close(self) -> Steps:
        """Ends it where it stands, as close() does."""
        if self.done:
            return
        try:
            more, _ = yield from self.resume(error=SimExit())
        except SimExit:
            more = False
        self.done = True
        if more:
            raise Abort("a generator ignored GeneratorExit")
