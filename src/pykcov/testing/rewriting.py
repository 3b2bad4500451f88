"""Test modules have probes compiled in, too: into what pytest makes of their assertions."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest
from _pytest.assertion import rewrite

from ..probes import compiled
from ..probes.recipe import Rewriter

__all__ = ["execute"]


def execute(loader: object, module: ModuleType, path: str) -> bool:
    """Execute a module with probes as pytest's loader would without; False if it is another's, or cannot have them."""
    if type(loader) is not rewrite.AssertionRewritingHook:
        return False

    def change(tree: ast.Module, text: bytes) -> None:
        rewrite.rewrite_asserts(tree, text, path, loader.config)

    has_hook = bool(loader.config.getini("enable_assertion_pass_hook"))
    code = compiled.code_of(
        path, rewriter=Rewriter(("pytest", pytest.__version__, has_hook), change)
    )
    if code is None:
        return False
    loader._rewritten_names[module.__name__] = Path(path)
    exec(code, module.__dict__)
    return True
