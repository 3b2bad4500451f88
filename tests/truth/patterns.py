"""The patterns of `match` that the programs use."""

from __future__ import annotations

import ast
from typing import Any

from .values import Abort

CLASSES: dict[str, type] = {"int": int, "str": str}


def matches(pattern: ast.pattern, value: Any, names: dict[str, Any]) -> bool:
    """Says whether it matches, and puts what it captures into `names`."""
    match pattern:
        case ast.MatchValue():
            return bool(value == ast.literal_eval(pattern.value))
        case ast.MatchSingleton():
            return value is pattern.value
        case ast.MatchOr():
            return any(matches(part, value, names) for part in pattern.patterns)
        case ast.MatchAs():
            if pattern.pattern is not None and not matches(pattern.pattern, value, names):
                return False
            if pattern.name is not None:
                names[pattern.name] = value
            return True
        case ast.MatchSequence():
            return (
                isinstance(value, list | tuple)
                and len(value) == len(pattern.patterns)
                and all(matches(p, v, names) for p, v in zip(pattern.patterns, value, strict=True))
            )
        case ast.MatchClass(cls=ast.Name(id=name), patterns=[]):
            return isinstance(value, CLASSES[name])
    raise Abort(f"line {pattern.lineno}: no {type(pattern).__name__}")
