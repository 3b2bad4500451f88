"""Which lines and functions of project/jobs.py each test executes, by what its source says."""

from __future__ import annotations

import ast
from pathlib import Path

PROJECT = Path(__file__).parent / "project"


def lines() -> dict[str, set[int]]:
    """For each test, the lines in the bodies of functions."""
    text = (PROJECT / "jobs.py").read_text().splitlines()
    found: dict[str, set[int]] = {}
    for number, line in enumerate(text, 1):
        name = line.partition("  # by ")[2]
        if name and " " not in name and name != "none":
            found.setdefault(name, set()).add(number)
    shared = next(number for number, line in enumerate(text, 1) if "# by all" in line)
    for executed in found.values():
        if any("shared(" in text[number - 1] for number in executed):
            executed.add(shared)
    return found


def functions() -> dict[int, str]:
    """For each line in a body, its function."""
    tree = ast.parse((PROJECT / "jobs.py").read_text())
    return {
        number: node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for number in range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    }
