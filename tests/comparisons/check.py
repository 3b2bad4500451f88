"""One seed: a generated function, its records and its result, against the oracle's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comparisons.generator import Generator
from comparisons.oracle import Oracle
from compiling import Module


def outcome(call: Callable[[], Any]) -> str:
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def check(seed: int, directory: Path) -> int:
    """Raise AssertionError if anything differs; return how many records there were."""
    generator = Generator(seed)
    source, arguments = generator.function(), generator.arguments()
    oracle = Oracle()
    expected = outcome(lambda: oracle.call(source, arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # `(1) is None`
        module = Module(directory, source, lookups=True)
        namespace: dict[str, Any] = {}
        exec(source, namespace)
    values = eval(f"({arguments},)")
    plain = outcome(lambda: namespace["f"](*values))
    idle = outcome(lambda: module.f(*values))
    with module.collect() as c:
        collected = outcome(lambda: module.f(*values))
    about = f"seed {seed}: f({arguments})\n{source}"
    assert plain == expected, f"the oracle is wrong: {about}"
    assert idle == collected == plain, about
    found = [(*one[:4], one.cut) for one in c.trace.comparisons]
    # repr() tells 1 from True and 0.0 from -0.0
    assert list(map(repr, found)) == list(map(repr, oracle.records)), about
    assert c.trace.dropped == 0
    return len(found)
