"""Rewrites the comparisons of a syntax tree as calls of sites, which record their operands. Pure.

A comparison `a < b` becomes `site(a, b)`: of the forms that let C see both operands a call of a builtin function is
the fastest. The compiler would warn of a text that is called, but not of `("text" if True else 0)(a, b)`, of which it
makes the same.

`a < b < c` becomes `(last(~link, c) if link(a, b) else ~link)`: a link returns the truth of its comparison and keeps
for the next instruction what the chain goes on with. Where only the truth matters that is
`link(a, b) and last(~link, c)`. The interpreter asks for the truth of each result exactly as often as it would.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from ..comparisons import CONST
from .nodes import (
    at,
    bound_in,
    call,
    const_side,
    container,
    dotted,
    is_constant,
    is_odd,
    is_super,
    is_wanted,
    mangled,
    span,
)

__all__ = ["KIND", "REGEX", "Extent", "Placeholders", "transform"]

KIND = "cmp"

# What C calls them: what_t and its constants in _compare.h.
_OPERATORS: dict[type[ast.cmpop], tuple[int, str]] = {
    ast.Lt: (0, "<"),
    ast.LtE: (1, "<="),
    ast.Eq: (2, "=="),
    ast.NotEq: (3, "!="),
    ast.Gt: (4, ">"),
    ast.GtE: (5, ">="),
    ast.In: (6, "in"),
    ast.NotIn: (7, "not in"),
    ast.Is: (8, "is"),
    ast.IsNot: (9, "is not"),
}
_PREFIX, _SUFFIX, _SEARCH, _GET, REGEX = range(10, 15)
_ITEM = _OPERATORS[ast.In][0]
# A method, and whether its second and third argument say where in the text.
_METHODS = {
    "startswith": (_PREFIX, True),
    "removeprefix": (_PREFIX, False),
    "endswith": (_SUFFIX, True),
    "removesuffix": (_SUFFIX, False),
    "find": (_SEARCH, True),
    "rfind": (_SEARCH, True),
    "index": (_SEARCH, True),
    "rindex": (_SEARCH, True),
    "partition": (_SEARCH, False),
    "rpartition": (_SEARCH, False),
    "split": (_SEARCH, False),
    "rsplit": (_SEARCH, False),
    "match": (REGEX, False),
    "fullmatch": (REGEX, False),
}
_LOOKUPS = {"get": (_GET, False)}
_VALUE, _DOTTED, _ALL, _SEQUENCE, _MAPPING = range(5)
_SIDES = ("", "left", "right")

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Node = TypeVar("_Node", bound=ast.AST)
_Pattern = tuple[Any, ...]


class Placeholders(Protocol):
    """What one file's probes will be (placeholders.py)."""

    def place(self, *places: Any) -> tuple[int, int]:
        """Add places; return the number of the first, and how many."""

    def new(self, *probe: Any) -> ast.Constant:
        """Return a constant that stands for a probe."""


class Extent(NamedTuple):
    """What is a comparison, beside operators, ``in``, ``is`` and ``match``."""

    methods: bool = True
    """Calls of methods of str and bytes that compare, and of regular expressions that begin with a text."""
    lookups: bool = False
    """``d[k]`` and ``d.get(k)``."""


def transform(tree: ast.Module, placeholders: Placeholders, extent: Extent) -> None:
    """Rewrite the comparisons of a module in place."""
    known = (_METHODS if extent.methods else {}) | (_LOOKUPS if extent.lookups else {})
    _Rewriter(placeholders, known, extent.lookups).block(tree, tree.body)


class _Rewriter(ast.NodeTransformer):
    """Rewrites one module."""

    def __init__(
        self, placeholders: Placeholders, methods: dict[str, tuple[int, bool]], lookups: bool
    ) -> None:
        self.placeholders = placeholders
        self.methods = methods
        self.lookups = lookups
        self.names: list[str] = []  # parts of the qualified name of the definition around
        self.globals: set[str] = set()  # names that the definition around declares global
        self.private = ""  # the name of the class around
        self.definitions: list[ast.AST] = []
        self.bound: dict[ast.AST, set[str]] = {}
        self.seen: dict[tuple[Any, ...], int] = {}
        self.links = 0

    # -- definitions: annotations and type parameters stay as they are

    def block(self, node: ast.AST, body: list[ast.stmt]) -> None:
        self.definitions.append(node)
        body[:] = [self.visit(statement) for statement in body]
        self.definitions.pop()

    def visit_Global(self, node: ast.Global) -> ast.AST:
        self.globals.update(node.names)
        return node

    def _named(self, node: _Function | ast.ClassDef, *inside: str) -> None:
        kept = self.names, self.globals
        around = [] if node.name in self.globals else self.names
        self.names, self.globals = [*around, node.name, *inside], set()
        self.block(node, node.body)
        self.names, self.globals = kept

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: _Function) -> ast.AST:
        node.decorator_list = self._all(node.decorator_list)
        self._defaults(node.args)
        self._named(node, "<locals>")
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list = self._all(node.decorator_list)
        node.bases = self._all(node.bases)
        node.keywords = self._all(node.keywords)
        kept, self.private = self.private, node.name
        self._named(node)
        self.private = kept
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self._defaults(node.args)
        node.body = self.visit(node.body)
        return node

    def _defaults(self, args: ast.arguments) -> None:
        args.defaults = self._all(args.defaults)
        args.kw_defaults = [value and self.visit(value) for value in args.kw_defaults]

    def _all(self, nodes: Iterable[_Node]) -> list[_Node]:
        return [self.visit(node) for node in nodes]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_TypeAlias(self, node: ast.AST) -> ast.AST:
        return node

    # -- where only the truth of an expression matters

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._tested(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._tested(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self._tested(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._tested(node)

    def _tested(self, node: ast.If | ast.While | ast.Assert | ast.IfExp) -> ast.AST:
        test = self.truth(node.test)
        node.test = ast.Constant(None)
        self.generic_visit(node)
        node.test = test
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.target = self.visit(node.target)
        node.iter = self.visit(node.iter)
        node.ifs = [self.truth(test) for test in node.ifs]
        return node

    def truth(self, node: ast.expr) -> ast.expr:
        """Rewrite an expression that the compiler makes jumps of, as far as it does."""
        if isinstance(node, ast.Compare):
            return self._compare(node, tested=True)
        if isinstance(node, ast.BoolOp):
            node.values = [self.truth(value) for value in node.values]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node.operand = self.truth(node.operand)
        elif isinstance(node, ast.IfExp):
            node.test, node.body = self.truth(node.test), self.truth(node.body)
            node.orelse = self.truth(node.orelse)
        else:
            return self.visit(node)  # type: ignore[no-any-return]
        return node

    # -- comparisons

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self._compare(node, tested=False)

    def _compare(self, node: ast.Compare, *, tested: bool) -> ast.expr:
        operands = [node.left, *node.comparators]
        links = list(zip(node.ops, operands, operands[1:], strict=False))
        wanted = [is_wanted(*link) for link in links]
        as_it_is = any(is_odd(*link) for link in links) or not any(wanted)
        places = [
            self._place(span(left, right), _OPERATORS[type(op)][1], const_side(left, right))
            if want and not as_it_is
            else (0, 0)
            for (op, left, right), want in zip(links, wanted, strict=True)
        ]
        sides = [const_side(left, right) for _, left, right in links]
        whats = [_OPERATORS[type(op)][0] for op in node.ops]
        values = self._all(operands)
        if as_it_is:
            node.left, node.comparators = values[0], values[1:]
            return node
        for i, op in enumerate(node.ops):
            if isinstance(op, ast.In | ast.NotIn) and i == len(links) - 1:
                values[i + 1] = container(values[i + 1])

        def probe(form: str, i: int, number: int) -> ast.Constant:
            return self._probe(form, places[i], whats[i], sides[i], number)

        def link(i: int, left: ast.expr) -> ast.expr:
            if i == len(links) - 1:
                return call(node, probe("compare", i, 0), left, values[i + 1])
            self.links += 1
            number = self.links
            first = call(node, probe("test" if tested else "link", i, number), left, values[i + 1])
            # It decides about this much of the chain: by that places.py knows its arms.
            first.end_lineno, first.end_col_offset = (
                operands[i + 1].end_lineno,
                operands[i + 1].end_col_offset,
            )

            def kept() -> ast.expr:
                return at(node, ast.UnaryOp(ast.Invert(), at(node, probe("pop", i, number))))

            rest = link(i + 1, kept())
            if tested:
                return at(node, ast.BoolOp(ast.And(), [first, rest]))
            return at(node, ast.IfExp(first, rest, kept()))

        return link(0, values[0])

    def _place(self, span: tuple[int | None, ...], op: str, const_side: int) -> tuple[int, int]:
        """Add the place of a comparison; those that have one position are numbered."""
        names = self.names[:-1] if self.names[-1:] == ["<locals>"] else self.names
        arm = ("", f"{CONST} ", "")[const_side] + op + ("", "", f" {CONST}")[const_side]
        key = (KIND, ".".join(names) or "<module>", *span, arm)
        number = self.seen[key] = self.seen.get(key, -1) + 1
        return self.placeholders.place(key if not number else (*key, number))

    def _probe(
        self,
        form: str,
        place: tuple[int, int],
        what: int = 0,
        side: int = 0,
        link: int = 0,
        extra: Any = None,
    ) -> ast.Constant:
        return self.placeholders.new(KIND, form, *place, what, side, link, extra)

    # -- methods and look-ups

    def visit_Call(self, node: ast.Call) -> ast.AST:
        method = node.func
        known = self.methods.get(method.attr) if isinstance(method, ast.Attribute) else None
        constant = bool(node.args) and is_constant(node.args[0])
        where = span(node, node)
        self.generic_visit(node)
        if known is None or not isinstance(method, ast.Attribute) or not node.args:
            return node
        # The compiler gives calls of methods on several lines, and of super()'s, other lines and instructions.
        if method.value.end_lineno != method.end_lineno or is_super(method.value):
            return node
        what, has_range = known
        side = constant * (1 if what == _GET else 2)
        place = self._place(where, method.attr, side)
        probe = self._probe("method", place, what, side, 0, has_range)
        node.func = call(method, probe, method)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        side = int(is_constant(node.slice))
        where = span(node, node)
        self.generic_visit(node)
        if (
            not self.lookups
            or not isinstance(node.ctx, ast.Load)
            or not isinstance(node.value, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
            or any(isinstance(part, ast.Slice | ast.Starred) for part in ast.walk(node.slice))
        ):
            return node
        probe = self._probe("item", self._place(where, "[]", side), _ITEM, side)
        return call(node, probe, node.value, node.slice)

    # -- match

    def visit_Match(self, node: ast.Match) -> ast.AST:
        keys: list[tuple[Any, ...]] = []
        patterns = [self._pattern(case.pattern, keys) for case in node.cases]
        is_known = is_constant(node.subject)
        node.subject = self.visit(node.subject)
        if keys and not is_known:
            places = [self._place(*key) for key in keys]
            probe = self._probe("match", (places[0][0], len(keys)), extra=(_ALL, tuple(patterns)))
            node.subject = call(node.subject, probe, node.subject)
        for case in node.cases:
            case.guard = case.guard and self.truth(case.guard)
            case.body = [self.visit(statement) for statement in case.body]
        return node

    def _pattern(self, node: ast.pattern, keys: list[tuple[Any, ...]]) -> _Pattern:
        """Return what C compares a subject with for a pattern; add the places to ``keys``."""

        def place(of: ast.AST, op: str, side: int) -> int:
            keys.append((span(of, of), op, side))
            return len(keys) - 1

        def every(nodes: Iterable[ast.pattern]) -> tuple[_Pattern, ...]:
            return tuple(self._pattern(one, keys) for one in nodes)

        if isinstance(node, ast.MatchSingleton):
            return _VALUE, place(node, "case", 2), node.value
        if isinstance(node, ast.MatchValue) and is_constant(node.value):
            return _VALUE, place(node, "case", 2), ast.literal_eval(node.value)
        if isinstance(node, ast.MatchValue):
            plain = dotted(node.value)
            names = tuple(mangled(name, self.private) for name in plain)
            if names and not (self._is_bound(plain[0]) or self._is_bound(names[0])):
                return _DOTTED, place(node, "case", 0), names
        if isinstance(node, ast.MatchAs) and node.pattern is not None:
            return self._pattern(node.pattern, keys)
        if isinstance(node, ast.MatchOr):
            return _ALL, every(node.patterns)
        if isinstance(node, ast.MatchSequence):
            stars = [i for i, one in enumerate(node.patterns) if isinstance(one, ast.MatchStar)]
            star = stars[0] if stars else len(node.patterns)
            behind = node.patterns[star + 1 :]
            return _SEQUENCE, every(node.patterns[:star]), bool(stars), every(behind)
        if isinstance(node, ast.MatchMapping):
            pairs = [
                ((place(key, "in", 1), ast.literal_eval(key)), self._pattern(value, keys))
                for key, value in zip(node.keys, node.patterns, strict=True)
                if is_constant(key)
            ]
            return _MAPPING, tuple(key for key, _ in pairs), tuple(value for _, value in pairs)
        return _ALL, ()

    def _is_bound(self, name: str) -> bool:
        """Tell whether a name may be something else than a global: something in the definitions around binds it."""
        if len(self.definitions) < 2:
            return False
        outermost = self.definitions[1]
        if outermost not in self.bound:
            self.bound[outermost] = set(bound_in(outermost))
        return name in self.bound[outermost]
