"""Expressions: what they evaluate to, what they call, and which lines that touches."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from types import CodeType
from typing import Any

from .frames import PURE_CALLS, Frame, Source, compile_pure
from .rules import Rules
from .values import (
    Abort,
    Class,
    Event,
    Function,
    Instance,
    Method,
    Scope,
    SimExit,
    SimStop,
    Steps,
    Suspendable,
    Yielded,
)  # fmt: skip

PURE_GLOBALS: dict[str, Any] = {"__builtins__": {}}
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv, ast.BitXor: operator.xor, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.Gt: operator.gt, ast.LtE: operator.le, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.inv,
}  # fmt: skip


class Expressions:
    """Evaluates. `record` gets every event; nothing else leaves this class."""

    def __init__(self, rules: Rules, record: Callable[[Event], None]) -> None:
        self.rules = rules
        self.record = record
        self.sources: list[Source] = []
        self._pure: dict[ast.expr, CodeType | None] = {}

    def pure(self, node: ast.expr) -> CodeType | None:
        try:
            return self._pure[node]
        except KeyError:
            code = self._pure[node] = compile_pure(node)
            return code

    def value(self, node: ast.expr, f: Frame) -> Steps:
        code = self.pure(node)
        if code is not None:
            f.work_at(node.lineno)
            return eval(code, PURE_GLOBALS, f.scope)
        method = getattr(self, "eval_" + type(node).__name__, None)
        if method is None:
            raise Abort(f"line {node.lineno}: no {type(node).__name__}")
        return (yield from method(node, f))

    # ---------------------------------------------------------------- operators

    def eval_BinOp(self, node: ast.BinOp, f: Frame) -> Steps:
        left = yield from self.value(node.left, f)
        right = yield from self.value(node.right, f)
        f.work_at(node.lineno)
        return OPERATORS[type(node.op)](left, right)

    def eval_UnaryOp(self, node: ast.UnaryOp, f: Frame) -> Steps:
        value = yield from self.value(node.operand, f)
        f.work_at(node.lineno)
        return UNARY[type(node.op)](value)

    def eval_Compare(self, node: ast.Compare, f: Frame) -> Steps:
        left = yield from self.value(node.left, f)
        if len(node.ops) > 1:
            raise Abort("a chain of comparisons that calls")
        right = yield from self.value(node.comparators[0], f)
        f.work_at(node.lineno)
        return COMPARISONS[type(node.ops[0])](left, right)

    def eval_BoolOp(self, node: ast.BoolOp, f: Frame) -> Steps:
        value: Any = None
        for part in node.values:
            value = yield from self.value(part, f)
            if bool(value) != isinstance(node.op, ast.And):
                return value
        return value

    def eval_IfExp(self, node: ast.IfExp, f: Frame) -> Steps:
        test = yield from self.value(node.test, f)
        return (yield from self.value(node.body if test else node.orelse, f))

    def eval_Subscript(self, node: ast.Subscript, f: Frame) -> Steps:
        of = yield from self.value(node.value, f)
        key = yield from self.value(node.slice, f)
        f.work_at(node.lineno)
        return of[key]

    def eval_Attribute(self, node: ast.Attribute, f: Frame) -> Steps:
        of = yield from self.value(node.value, f)
        return getattr(of, node.attr)

    def eval_List(self, node: ast.List | ast.Tuple, f: Frame) -> Steps:
        items = []
        for item in node.elts:
            items.append((yield from self.value(item, f)))
        f.work_at(node.lineno)
        return items if isinstance(node, ast.List) else tuple(items)

    eval_Tuple = eval_List

    def eval_NamedExpr(self, node: ast.NamedExpr, f: Frame) -> Steps:
        value = yield from self.value(node.value, f)
        f.scope.store(node.target.id, value)
        return value

    # ---------------------------------------------------------------- calls

    def eval_Lambda(self, node: ast.Lambda, f: Frame) -> Steps:
        defaults = []
        for default in node.args.defaults:
            defaults.append((yield from self.value(default, f)))
        return Function(node, f.file.number, f.scope, f.prefix + "<lambda>", defaults, {})

    def eval_Call(self, node: ast.Call, f: Frame) -> Steps:
        if isinstance(node.func, ast.Name) and node.func.id in PURE_CALLS:
            function = PURE_BUILTINS[node.func.id]
            f.work_at(node.func.lineno)
        else:
            function = yield from self.value(node.func, f)
        args = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                args.extend((yield from self.value(arg.value, f)))
            else:
                args.append((yield from self.value(arg, f)))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = yield from self.value(keyword.value, f)
            if keyword.arg is None:
                kwargs.update(value)
            else:
                kwargs[keyword.arg] = value
        f.work_at(node.lineno)
        return (yield from self.call(function, *args, **kwargs))

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Steps:
        if isinstance(function, Method):
            return (yield from self.invoke(function.function, [function.of, *args], kwargs))
        if isinstance(function, Function):
            return (yield from self.invoke(function, list(args), kwargs))
        if isinstance(function, Class):
            made = Instance(function)
            init = function.find("__init__")
            if init is not None:
                yield from self.invoke(init, [made, *args], kwargs)
            return made
        if isinstance(function, Instance):
            return (yield from self.call(function.__call__, *args, **kwargs))
        if getattr(function, "is_steps", False):
            return (yield from function(*args, **kwargs))
        return function(*args, **kwargs)

    def invoke(self, function: Function, args: list[Any], kwargs: dict[str, Any]) -> Steps:
        """Calls a function of the program; a generator or coroutine is only made."""
        outer: Scope | None = function.scope
        scope = Scope(function.scope.globals, outer, function.bind(args, kwargs))
        scope.nonlocals, scope.globals_declared = function.nonlocals, function.globals_declared
        if function.has_yield or function.is_async:
            made = Suspendable()
            made.body = self.run(function, scope, made)
            return made
        return (yield from self.run(function, scope, None))

    def run(self, function: Function, scope: Scope, owner: Suspendable | None) -> Steps:
        frame = Frame(
            self.record, self.rules, self.sources[function.file], scope, function.qualname,
            function.qualname + ".<locals>.", owner,
        )  # fmt: skip
        frame.enter(function.node.lineno)
        if isinstance(function.node, ast.Lambda):
            return (yield from self.value(function.node.body, frame))
        return (yield from self.body(function.node.body, frame))

    def body(self, statements: list[ast.stmt], f: Frame) -> Steps:
        """Executes a function's body and returns what it returns."""
        raise NotImplementedError
        yield

    # ---------------------------------------------------------------- comprehensions

    def eval_ListComp(self, node: ast.ListComp, f: Frame) -> Steps:
        return (yield from self.comprehension(node, node.elt, None, "<listcomp>", f))

    def eval_SetComp(self, node: ast.SetComp, f: Frame) -> Steps:
        return set((yield from self.comprehension(node, node.elt, None, "<setcomp>", f)))

    def eval_DictComp(self, node: ast.DictComp, f: Frame) -> Steps:
        return dict((yield from self.comprehension(node, node.key, node.value, "<dictcomp>", f)))

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp, key: ast.expr, value: ast.expr | None,
        name: str, f: Frame,
    ) -> Steps:  # fmt: skip
        (loop,) = node.generators
        items = yield from self.iterator((yield from self.value(loop.iter, f)))
        if self.rules.comprehensions_are_frames:
            inner = f.child(name, node.lineno, f.scope)
        else:
            inner = Frame(
                f.record, f.rules, f.file, Scope(f.scope.globals, f.scope, {}), f.qualname, f.prefix,
                f.owner,
            )  # fmt: skip
            inner.line = f.line
        result = []
        walk = self.items(items)
        while True:
            more, item = yield from walk()
            if not more:
                return result
            self.assign(loop.target, item, inner)
            if (yield from self.all_of(loop.ifs, inner)):
                made = yield from self.value(key, inner)
                if value is not None:
                    made = (made, (yield from self.value(value, inner)))
                result.append(made)
            inner.jump_back()

    def all_of(self, tests: list[ast.expr], f: Frame) -> Steps:
        for test in tests:
            if not (yield from self.value(test, f)):
                return False
        return True

    def eval_GeneratorExp(self, node: ast.GeneratorExp, f: Frame) -> Steps:
        items = yield from self.iterator((yield from self.value(node.generators[0].iter, f)))
        made = Suspendable()
        made.body = self.run_generator_expression(node, items, f, made)
        return made

    def run_generator_expression(
        self, node: ast.GeneratorExp, items: Any, f: Frame, owner: Suspendable
    ) -> Steps:
        (loop,) = node.generators
        inner = f.child("<genexpr>", node.lineno, f.scope, owner)
        walk = self.items(items)
        while True:
            more, item = yield from walk()
            if not more:
                return None
            self.assign(loop.target, item, inner)
            if (yield from self.all_of(loop.ifs, inner)):
                yield Yielded((yield from self.value(node.elt, inner)))
            inner.jump_back()

    # ---------------------------------------------------------------- iteration and suspension

    def iterator(self, value: Any) -> Steps:
        """What iter() does: it calls the program only for an instance."""
        if isinstance(value, Instance):
            return (yield from self.call(value.__iter__))
        return value

    def items(self, value: Any) -> Callable[[], Steps]:
        """Returns a function whose steps give (True, next item) or (False, None)."""
        if isinstance(value, Suspendable):
            return value.resume
        if isinstance(value, Instance):
            return self.items_of_instance(value)
        iterator = iter(value)

        def step() -> Steps:
            for item in iterator:
                return True, item
            return False, None
            yield

        return step

    def items_of_instance(self, of: Instance) -> Callable[[], Steps]:
        def step() -> Steps:
            try:
                return True, (yield from self.call(of.__next__))
            except SimStop:
                return False, None

        return step

    def assign(self, target: ast.expr, value: Any, f: Frame) -> None:
        """Binds a target that calls nothing."""
        if isinstance(target, ast.Name):
            f.scope.store(target.id, value)
        elif isinstance(target, ast.Tuple):
            values = list(value)
            if len(values) != len(target.elts):
                raise Abort(f"line {target.lineno}: unpacks {len(values)} values")
            for part, item in zip(target.elts, values, strict=True):
                self.assign(part, item, f)
        elif isinstance(target, ast.Attribute):
            setattr(self.plain(target.value, f), target.attr, value)
        elif isinstance(target, ast.Subscript):
            self.plain(target.value, f)[self.plain(target.slice, f)] = value
        else:
            raise Abort(f"line {target.lineno}: no target {type(target).__name__}")

    def plain(self, node: ast.expr, f: Frame) -> Any:
        code = self.pure(node)
        if code is None:
            raise Abort(f"line {node.lineno}: a target that calls")
        return eval(code, PURE_GLOBALS, f.scope)

    def eval_Yield(self, node: ast.Yield, f: Frame) -> Steps:
        value = None
        if node.value is not None:
            value = yield from self.value(node.value, f)
        f.work_at(node.lineno)
        return (yield Yielded(value))

    def eval_YieldFrom(self, node: ast.YieldFrom, f: Frame) -> Steps:
        return (yield from self.delegate((yield from self.value(node.value, f))))

    def delegate(self, to: Any) -> Steps:
        """Passes on what another one yields and is sent, as `yield from` and `await` do."""
        if not isinstance(to, Suspendable):
            for item in to:
                if (yield Yielded(item)) is not None:
                    raise AttributeError("send")  # only generators have it
            return None
        sent, error = None, None
        while True:
            more, value = yield from to.resume(sent, error)
            if not more:
                return value
            sent, error = None, None
            try:
                sent = yield Yielded(value)
            except SimExit:
                yield from to.close()
                raise
            except BaseException as thrown:
                error = thrown

    def eval_Await(self, node: ast.Await, f: Frame) -> Steps:
        return (yield from self.awaited((yield from self.value(node.value, f))))

    def awaited(self, value: Any) -> Steps:
        """Waits as `await value` does, and returns the result."""
        if isinstance(value, Instance):
            value = yield from self.call(value.__await__)
        if isinstance(value, Suspendable):
            return (yield from self.delegate(value))
        return (yield from value.wait())


PURE_BUILTINS: dict[str, Any] = {
    "len": len, "abs": abs, "min": min, "max": max, "range": range, "int": int, "str": str,
    "bool": bool, "divmod": divmod,
}  # fmt: skip
PURE_GLOBALS["__builtins__"] = PURE_BUILTINS
