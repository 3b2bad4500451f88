"""The public names, those that docs/reference.md has and those that type checkers see are one set."""

import ast
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pykcov
from docs.pages import ROOT, headings
from pykcov import _recorder, abi, linux, namespace
from pykcov.cli import COMMANDS

REFERENCE = ROOT / "docs" / "reference.md"
SOURCE = ROOT / "src" / "pykcov"
# Methods of Device that collect() and task.py call. They are no part of what is promised.


def documented() -> set[str]:
    """The names in headings, `pykcov.open(...)` say."""
    return set(re.findall(r"`pykcov\.(\w+)", "\n".join(headings(REFERENCE))))


def members(name: str) -> set[str]:
    """The members of a class that the reference has a heading or the row of a table for."""
    text = REFERENCE.read_text("utf-8")
    return set(re.findall(rf"^(?:#+|\|) `{re.escape(name)}\.(\w+)", text, re.MULTILINE))


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_the_reference_has_the_public_names_and_no_others() -> None:
    assert documented() == set(pykcov.__all__)


def test_type_checkers_see_the_public_names_and_no_others() -> None:
    # In a package with py.typed, an import is exported if __all__ has it, and __all__ has to be plain.
    assert (SOURCE / "py.typed").exists()
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    bound: set[str] = set()
    listed: list[str] = []
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(checked.test) == "TYPE_CHECKING"
    for node in [*checked.body, *tree.body]:
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "late"):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
                listed = ast.literal_eval(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            bound.add(node.target.id)
    assert sorted(listed) == sorted(pykcov.__all__)
    private = {name for name in bound if name.startswith("_") and name != "__version__"}
    private.add("TYPE_CHECKING")
    assert bound - private == set(listed)
    assert all(hasattr(pykcov, name) for name in listed)


@pytest.mark.parametrize("name", sorted(pykcov.__all__))
def test_a_public_name_says_what_it_is(name: str) -> None:
    value = getattr(pykcov, name)
    if callable(value):
        assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize(
    "function", [f for f in (getattr(pykcov, n) for n in pykcov.__all__) if inspect.isfunction(f)]
)
def test_public_functions_are_typed(function: object) -> None:
    assert inspect.isfunction(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


def test_the_stub_of_the_recorder_has_what_the_recorder_has() -> None:
    stub = ast.parse((SOURCE / "_recorder.pyi").read_text("utf-8"))
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    names = {node.name for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    variables = [node.target for node in stub.body if isinstance(node, ast.AnnAssign)]
    names |= {target.id for target in variables if isinstance(target, ast.Name)}
    if sys.version_info >= (3, 12):
        names -= {"in_front", "set_tracing", "settle"}  # 3.11's trace function
    else:
        names = {name for name in names if not name.startswith("on_")}  # sys.monitoring
    assert names == public_names(_recorder) - {"Tracer"}  # 3.11's: nobody but the recorder uses it
    for name, node in classes.items():
        functions = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        targets = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
        stubbed = functions | {target.id for target in targets if isinstance(target, ast.Name)}
        real = public(getattr(_recorder, name))
        assert {member for member in stubbed if not member.startswith("_")} == real, name


def public_names(module: ModuleType) -> set[str]:
    return {name for name in vars(module) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("name", "cls", "of_instances"),
    [
        ("Device", pykcov.Device, {"number"}),
        ("Trace", pykcov.Trace, set()),
        ("Location", pykcov.Location, set()),
        ("collect", pykcov.collect, {"handle"}),
        ("linux.Device", linux.Device, set()),
        ("linux.Vmlinux", linux.Vmlinux, set()),
    ],
)
def test_the_reference_has_the_members_of_a_class(
    name: str, cls: type, of_instances: set[str]
) -> None:
    assert members(name) == public(cls) | of_instances


def test_the_reference_has_the_numbers_of_the_requests() -> None:
    text = REFERENCE.read_text("utf-8")
    for name, value in vars(abi).items():
        if name.startswith("KCOV_"):
            assert re.search(rf"^\| `{name}` \| {value:#x} \|", text, re.MULTILINE), name


def test_the_reference_has_every_command_and_every_option() -> None:
    text = REFERENCE.read_text("utf-8")
    for command in COMMANDS:
        assert f"### `pykcov {command}" in text
        source = (SOURCE / "cli" / f"{command}.py").read_text("utf-8")
        for option in re.findall(r'"(--[a-z]+)"', source):
            assert f"`{option}" in text, f"{command} {option}"


def test_the_reference_has_every_environment_variable() -> None:
    used = {
        name
        for path in Path(namespace.__file__).parent.rglob("*.py")
        for name in re.findall(r"PYKCOV_[A-Z_]+", path.read_text("utf-8"))
    }
    text = REFERENCE.read_text("utf-8")
    assert {name for name in used if f"`{name}`" not in text} == set()
