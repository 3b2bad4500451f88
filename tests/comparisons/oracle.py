"""Evaluates a generated function by itself, syntax tree by syntax tree, and says what is to be recorded.

It shares nothing with the package: what a record is stands here a second time.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

Record = tuple[str, Any, Any, str, str]

LIMIT = 256  # bytes of an operand
ELEMENTS = 64  # of a container
# What is found without the program's code: behind it nothing is compared.
FOUND = (str, bytes, type(None))
NUMBERS = (int, float, bool)
# What a regular expression begins with.
PREFIXES = {"a": "a", "^ab": "ab", "b+c": "b", "(a|b)": "", b"a": b"a", "é": "é"}
POSITIONAL = ("startswith", "endswith", "find", "rfind")


def is_same(left: Any, right: Any) -> bool:
    if type(left) in NUMBERS:
        return type(right) in NUMBERS and bool(left == right)
    return type(left) is type(right) and type(left) in FOUND and bool(left == right)


def of_int(place: Any) -> Any:
    """A position, if it says so by itself."""
    return place if isinstance(place, int) else None


KINDS: dict[str, Callable[..., Any]] = {
    "range": range,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
    ast.Is: ("is", operator.is_),
    ast.IsNot: ("is not", operator.is_not),
}
BINARY = {
    ast.LShift: operator.lshift,
    ast.Sub: operator.sub,
    ast.Add: operator.add,
    ast.Mult: operator.mul,
}


def operand(value: Any) -> tuple[Any, bool]:
    """What is recorded of a value, and whether that is less than all of it."""
    if isinstance(value, bool | float | None):
        return value, False
    if isinstance(value, int):
        fits = -(1 << 63) <= value < 1 << 64
        return (value if fits else value % (1 << 64)), not fits
    if isinstance(value, bytes | bytearray):
        return bytes(value[:LIMIT]), len(value) > LIMIT
    if isinstance(value, str):
        shown = value[:LIMIT]
        while len(shown.encode()) > LIMIT:
            shown = shown[:-1]
        return shown, shown != value
    return ..., False


def is_constant(node: ast.expr) -> bool:
    """Names, and what has names in it, are no constants."""
    return not any(
        isinstance(
            part, ast.Name | ast.Call | ast.Compare | ast.BoolOp | ast.IfExp | ast.Dict | ast.Lambda
        )
        for part in ast.walk(node)
    )


class Returned(Exception):
    pass


class Oracle:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def call(self, source: str, arguments: str) -> Any:
        """What `f(arguments)` returns; an exception of the program's is the caller's."""
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        names = [arg.arg for arg in function.args.args]
        self.scopes: list[dict[str, Any]] = [dict(zip(names, eval(f"({arguments},)"), strict=True))]
        try:
            self.block(function.body)
        except Returned as returned:
            return returned.args[0]
        return None

    def record(self, op: str, left: Any, right: Any, side: str) -> None:
        (one, one_cut), (two, two_cut) = operand(left), operand(right)
        if op == "endswith" and one_cut:
            one = left[-LIMIT:]
        if one is ... and two is ...:
            return
        cut = {(0, 0): "", (1, 0): "left", (0, 1): "right", (1, 1): "both"}[one_cut, two_cut]
        self.records.append((op, one, two, side, cut))

    # -- statements

    def block(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            getattr(self, f"do_{type(statement).__name__}")(statement)

    def do_Return(self, node: ast.Return) -> None:
        assert node.value is not None
        raise Returned(self.value(node.value))

    def do_Assign(self, node: ast.Assign) -> None:
        self.assign(node.targets[0], self.value(node.value))

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        assert isinstance(node.target, ast.Name)
        self.scopes[-1][node.target.id] += self.value(node.value)

    def do_Import(self, node: ast.Import) -> None:
        assert node.names[0].name == "re"
        self.scopes[-1]["re"] = re

    def do_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def do_If(self, node: ast.If) -> None:
        self.block(node.body if self.value(node.test) else node.orelse)

    def do_While(self, node: ast.While) -> None:
        while self.value(node.test):
            self.block(node.body)

    def do_For(self, node: ast.For) -> None:
        for value in self.value(node.iter):
            self.assign(node.target, value)
            self.block(node.body)

    def do_Try(self, node: ast.Try) -> None:
        test = node.body[0]
        assert isinstance(test, ast.Assert)
        if not self.value(test.test):
            self.block(node.handlers[0].body)

    def do_Match(self, node: ast.Match) -> None:
        subject = self.value(node.subject)
        cases = []
        for case in node.cases:
            found = (
                case.pattern.patterns if isinstance(case.pattern, ast.MatchOr) else [case.pattern]
            )
            cases.append([self.literal(pattern) for pattern in found])
        for literals in cases:
            for literal, _ in literals:
                self.record("case", subject, literal, "right")
        for case, literals in zip(node.cases, cases, strict=True):
            if any(
                (subject is value) if single else (subject == value) for value, single in literals
            ) and (case.guard is None or self.value(case.guard)):
                self.block(case.body)
                return

    def literal(self, pattern: ast.pattern) -> tuple[Any, bool]:
        if isinstance(pattern, ast.MatchSingleton):
            return pattern.value, True
        assert isinstance(pattern, ast.MatchValue)
        return ast.literal_eval(pattern.value), False

    def assign(self, target: ast.expr, value: Any) -> None:
        assert isinstance(target, ast.Name)
        self.scopes[-1][target.id] = value

    # -- expressions

    def value(self, node: ast.expr) -> Any:
        return getattr(self, f"of_{type(node).__name__}")(node)

    def of_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def of_Name(self, node: ast.Name) -> Any:
        return next(scope[node.id] for scope in reversed(self.scopes) if node.id in scope)

    def of_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(map(self.value, node.elts))

    def of_List(self, node: ast.List) -> Any:
        return list(map(self.value, node.elts))

    def of_Set(self, node: ast.Set) -> Any:
        return set(map(self.value, node.elts))

    def of_Dict(self, node: ast.Dict) -> Any:
        found = {}
        for key, value in zip(node.keys, node.values, strict=True):
            assert key is not None
            name = self.value(key)
            found[name] = self.value(value)
        return found

    def of_BinOp(self, node: ast.BinOp) -> Any:
        return BINARY[type(node.op)](self.value(node.left), self.value(node.right))  # type: ignore[index]

    def of_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        return not value if isinstance(node.op, ast.Not) else -value

    def of_BoolOp(self, node: ast.BoolOp) -> Any:
        value = None
        for part in node.values:
            value = self.value(part)
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value

    def of_IfExp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def of_ListComp(self, node: ast.ListComp) -> Any:
        (loop,) = node.generators
        values = self.value(loop.iter)
        self.scopes.append({})
        found = []
        for value in values:
            self.assign(loop.target, value)
            if all(self.value(test) for test in loop.ifs):
                found.append(self.value(node.elt))
        self.scopes.pop()
        return found

    def of_Call(self, node: ast.Call) -> Any:
        arguments = [self.value(argument) for argument in node.args]
        if isinstance(node.func, ast.Lambda):
            self.scopes.append({node.func.args.args[0].arg: arguments[0]})
            value = self.value(node.func.body)
            self.scopes.pop()
            return value
        if isinstance(node.func, ast.Name):
            return KINDS[node.func.id](*arguments)
        assert isinstance(node.func, ast.Attribute)
        method = node.func.attr
        if method == "fromkeys":
            return dict.fromkeys(*arguments)
        owner = self.value(node.func.value)
        named = {str(word.arg): self.value(word.value) for word in node.keywords}
        self.method(owner, method, arguments, named, is_constant(node.args[0]))
        return getattr(owner, method)(*arguments, **named)

    def method(
        self, owner: Any, name: str, arguments: list[Any], named: dict[str, Any], constant: bool
    ) -> None:
        asked, *places = arguments
        if isinstance(owner, dict):
            self.look_in(name, asked, owner, "left" if constant else "")
        elif isinstance(owner, re.Pattern):
            start = of_int(named.get("pos", places[0] if places else None)) or 0
            end = of_int(named.get("endpos", places[1] if len(places) > 1 else None))
            part = asked[max(start, 0) : None if end is None else max(end, 0)]
            if PREFIXES[owner.pattern]:
                self.record(name, part, PREFIXES[owner.pattern], "right" if constant else "")
        elif name in POSITIONAL or name in ("partition", "split", "removeprefix"):
            start, end = [*map(of_int, places), None, None][:2]
            if isinstance(asked, str | bytes | int):
                self.record(name, owner[start:end], asked, "right" if constant else "")

    def of_Subscript(self, node: ast.Subscript) -> Any:
        owner, key = self.value(node.value), self.value(node.slice)
        self.look_in("[]", key, owner, "left" if is_constant(node.slice) else "")
        return owner[key]

    def of_Compare(self, node: ast.Compare) -> Any:
        left, result = self.value(node.left), None
        parts = [node.left, *node.comparators]
        for op, before, after in zip(node.ops, parts, parts[1:], strict=False):
            right = self.value(after)
            self.compare(op, before, after, left, right)
            result = COMPARE[type(op)][1](left, right)
            if after is not parts[-1] and not result:
                break
            left = right
        return result

    def compare(
        self, op: ast.cmpop, before: ast.expr, after: ast.expr, left: Any, right: Any
    ) -> None:
        sign = COMPARE[type(op)][0]
        side = "left" if is_constant(before) else "right" if is_constant(after) else ""
        if is_constant(before) and is_constant(after):
            return
        if not sign.endswith("in"):
            self.record(sign, left, right, side)
        elif isinstance(right, list | tuple | set | frozenset | dict):
            self.look_in(sign, left, right, side)
        elif isinstance(right, range):
            self.record(sign, left, right.start, side)
            self.record(sign, left, right.stop, side)
        else:
            self.record(sign, left, right, side)

    def look_in(self, sign: str, left: Any, right: Any, side: str) -> None:
        first = list(right)[:ELEMENTS]
        if isinstance(right, set | frozenset | dict) and left in right:
            # Nothing else has its hash. Which number it is is known of the first ones.
            first = [element for element in first if is_same(left, element)] or [left]
        for element in first:
            self.record(sign, left, element, side)
            if is_same(left, element):
                break
