"""Which files are in scope: the rules are coverage.py's, so that is asked as well."""

from __future__ import annotations

import os
import string
import subprocess
import sys
import sysconfig
from pathlib import Path

import coverage
import pytest
from coverage.files import GlobMatcher, prep_patterns
from coverage.inorout import InOrOut
from hypothesis import assume, example, given
from hypothesis import strategies as st

import pykcov
from pykcov.scope import Scope

STDLIB = sysconfig.get_path("stdlib")
INSTALLED = os.path.dirname(os.path.dirname(pytest.__file__))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the current directory: a package, a module, tests and a virtual environment."""
    for name in (
        "shop/__init__.py",
        "shop/cart.py",
        "shop/pay/__init__.py",
        "shop/pay/card.py",
        "shopping.py",
        "tests/test_cart.py",
        ".venv/pyvenv.cfg",
        ".venv/lib/python3/site-packages/dep/__init__.py",
        ".venv/src/edited/edited.py",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise SystemExit('imported')\n" if name.endswith(".py") else "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def found(scope: Scope, project: Path) -> set[str]:
    files = {str(path.relative_to(project)) for path in project.rglob("*.py")}
    return {name for name in files if scope.contains(str(project / name))}


OWN = {
    "shop/__init__.py",
    "shop/cart.py",
    "shop/pay/__init__.py",
    "shop/pay/card.py",
    "shopping.py",
}
TESTS = {"tests/test_cart.py"}


# -- neither source nor include


def test_by_default_the_program_is_in_scope_and_what_is_installed_is_not(project: Path) -> None:
    scope = Scope()
    assert found(scope, project) >= OWN | TESTS
    assert ".venv/lib/python3/site-packages/dep/__init__.py" not in found(scope, project)
    assert not scope.contains(os.path.join(STDLIB, "argparse.py"))
    assert not scope.contains(os.path.join(STDLIB, "asyncio", "tasks.py"))
    assert not scope.contains(os.path.join(INSTALLED, "_pytest", "main.py"))
    assert not scope.contains(os.path.join(sysconfig.get_path("scripts"), "pytest"))


def test_a_source_checkout_in_a_virtual_environment_is_installed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project / ".venv/src/edited"))
    assert not Scope().contains(str(project / ".venv/src/edited/edited.py"))


def test_pykcov_itself_is_never_in_scope() -> None:
    home = os.path.dirname(pykcov.__file__)
    for scope in (Scope(), Scope(source=["pykcov"]), Scope(source=[home]), Scope(include=["*"])):
        assert not scope.contains(os.path.join(home, "device.py"))
        assert not scope.contains(os.path.join(home, "carry", "aio.py"))


def test_what_has_no_file_is_in_scope_by_default() -> None:
    scope = Scope()
    for name in (
        "<string>",
        "<stdin>",
        "<doctest readme.txt[0]>",
        "home.html",
        "<ipython-input-1>",
    ):
        assert scope.contains(name), name
    assert not scope.contains("<frozen importlib._bootstrap>")
    assert not scope.contains("")


def test_a_name_with_a_null_character_does_no_harm() -> None:
    assert Scope().contains("nul\0.py")
    assert Scope().contains("/nul\0.py")
    assert not Scope(source=["."]).contains("/nul\0.py")


# -- source


def test_a_directory_is_in_scope_without_what_is_installed_below_it(project: Path) -> None:
    scope = Scope(source=["."])
    assert found(scope, project) == OWN | TESTS | {".venv/src/edited/edited.py"}
    assert found(Scope(source=["shop"]), project) == OWN - {"shopping.py"}
    assert found(Scope(source=[str(project / "tests")]), project) == TESTS


def test_a_directory_that_is_named_may_be_where_packages_are_installed(project: Path) -> None:
    place = ".venv/lib/python3/site-packages"
    assert found(Scope(source=[place]), project) == {f"{place}/dep/__init__.py"}
    assert Scope(source=[INSTALLED]).contains(os.path.join(INSTALLED, "_pytest", "main.py"))


def test_modules_are_named_without_being_imported(project: Path) -> None:
    assert found(Scope(source=["shopping"]), project) == {"shopping.py"}
    assert found(Scope(source=["shop"]), project) == OWN - {"shopping.py"}
    assert found(Scope(source=["shop.pay"]), project) == {
        "shop/pay/__init__.py",
        "shop/pay/card.py",
    }
    assert found(Scope(source=["shop.cart"]), project) == {"shop/cart.py"}
    assert not {"shop", "shopping"} & set(sys.modules)


def test_a_module_of_the_standard_library_or_an_installed_one_may_be_named() -> None:
    assert Scope(source=["json"]).contains(os.path.join(STDLIB, "json", "decoder.py"))
    assert not Scope(source=["json"]).contains(os.path.join(STDLIB, "argparse.py"))
    assert Scope(source=["tomllib._parser"]).contains(os.path.join(STDLIB, "tomllib", "_parser.py"))
    assert not Scope(source=["tomllib._parser"]).contains(os.path.join(STDLIB, "tomllib", "_re.py"))
    assert Scope(source=["_pytest"]).contains(os.path.join(INSTALLED, "_pytest", "main.py"))
    assert not Scope(source=["_pytest"]).contains(os.path.join(INSTALLED, "coverage", "cmdline.py"))


def test_a_single_file_may_be_named(project: Path) -> None:
    assert found(Scope(source=["shop/cart.py"]), project) == {"shop/cart.py"}


def test_one_string_is_one_name(project: Path) -> None:
    assert found(Scope(source="shopping"), project) == {"shopping.py"}


def test_a_name_is_no_prefix_of_another(project: Path) -> None:
    assert "shopping.py" not in found(Scope(source=["shop"]), project)


def test_a_module_that_comes_later_is_matched_by_the_name_it_is_imported_by(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Scope(source=["late", "later.part"])
    assert scope.unresolved == ("late", "later.part")
    lib = project / "lib"
    monkeypatch.syspath_prepend(str(lib))
    assert scope.contains(str(lib / "late.py"))
    assert scope.contains(str(lib / "late" / "inner.py"))
    assert scope.contains(str(lib / "later" / "part.py"))
    assert not scope.contains(str(lib / "later" / "other.py"))
    assert not scope.contains(str(lib / "latest.py"))
    assert not scope.contains(str(project / "shopping.py"))


def test_what_has_no_file_is_out_of_scope_if_source_is_given(project: Path) -> None:
    for name in ("<string>", "<doctest x>", "home.html"):
        assert not Scope(source=["."]).contains(name)


# -- include and omit


def test_include_chooses_by_pattern(project: Path) -> None:
    assert found(Scope(include=["shop/*"]), project) == OWN - {"shopping.py"}
    assert found(Scope(include=["shop*.py"]), project) == {"shopping.py"}
    assert found(Scope(include=["shop/*.py"]), project) == {"shop/__init__.py", "shop/cart.py"}
    assert found(Scope(include=["shop/**/*.py"]), project) == OWN - {"shopping.py"}
    assert found(Scope(include=["*/pay/*"]), project) == {
        "shop/pay/__init__.py",
        "shop/pay/card.py",
    }
    assert found(Scope(include=["ca[rt]?.py"]), project) == {"shop/cart.py", "shop/pay/card.py"}
    assert found(Scope(include=["ca[!r]?.py"]), project) == set()
    assert found(Scope(include=["shop/"]), project) == OWN - {"shopping.py"}
    assert Scope(include=[STDLIB + "/json/*"]).contains(STDLIB + "/json/decoder.py")


def test_include_is_not_considered_if_source_is_given(project: Path) -> None:
    assert found(Scope(source=["shop"], include=["tests/*"]), project) == OWN - {"shopping.py"}


def test_omit_leaves_out_in_any_case(project: Path) -> None:
    assert found(Scope(source=["shop"], omit=["*/pay/*", "cart.py"]), project) == {
        "shop/__init__.py"
    }
    assert found(Scope(include=["shop*", "shop/*"], omit=["shop/*"]), project) == {"shopping.py"}
    assert not found(Scope(omit=["tests/*"]), project) & TESTS
    assert not Scope(omit=["<string>"]).contains("<string>")


def test_what_has_no_file_is_chosen_by_pattern(project: Path) -> None:
    assert Scope(include=["*.html"]).contains("home.html")
    assert Scope(include=["<doctest *>"]).contains("<doctest readme.txt[0]>")
    assert not Scope(include=["shop/*"]).contains("<string>")


# -- paths


def test_relative_names_are_looked_for_here_and_on_the_path(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Scope(source=["shop"], omit=["shop/pay/*"])
    other = Scope(source=["shop"], omit=["shop/pay/*"])
    assert scope.contains("shop/cart.py")
    assert not scope.contains("shop/pay/card.py")
    monkeypatch.chdir("/")
    assert other.contains("shop/cart.py")
    assert not other.contains("shop/pay/card.py")
    assert not other.contains("tests/test_cart.py")


def test_symbolic_links_lead_to_the_same_file(project: Path) -> None:
    (project / "link").symlink_to(project / "shop")
    for scope in (Scope(source=["link"]), Scope(source=["shop"])):
        assert scope.contains(str(project / "link" / "cart.py"))
        assert scope.contains(str(project / "shop" / "cart.py"))
    for scope in (Scope(include=["link/*"]), Scope(include=["shop/*"])):
        assert scope.contains(str(project / "link" / "cart.py"))
    assert Scope(include=["link/*"]).contains(str(project / "shop" / "cart.py"))


# -- values


def test_scopes_are_values(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = Scope(source=["shop"], omit=["shop/pay/*"])
    assert scope == Scope(source=[str(project / "shop")], omit=[str(project / "shop/pay/*")])
    assert hash(scope) == hash(Scope(source=["shop"], omit=["shop/pay/*"]))
    assert scope != Scope(source=["shop"])
    assert len({Scope(), Scope((), (), ()), Scope([], [], [])}) == 1
    with pytest.raises(AttributeError):
        scope.omit = ()  # type: ignore[misc]
    scope.contains("<string>")
    data = scope.to_bytes()
    monkeypatch.chdir("/")
    assert Scope.from_bytes(data) == scope
    assert Scope.from_bytes(data).contains(str(project / "shop" / "cart.py"))
    strange = Scope(include=["\udcff*", "\ud800", "ä"], omit=["*\n"])
    assert Scope.from_bytes(strange.to_bytes()) == strange
    assert Scope.from_bytes(Scope().to_bytes()) == Scope()


@pytest.mark.parametrize("bad", [b"\0", b"d", b"x/tmp", b"d/tmp\0", b"\xff", b"i*\0\0o*"])
def test_bytes_of_no_scope_are_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"no scope|can't decode"):
        Scope.from_bytes(bad)


@pytest.mark.parametrize(
    ("options", "has"),
    [
        ({}, False),
        ({"source": ["json"]}, True),
        ({"source": ["nowhere.at.all"]}, True),
        ({"source": [os.path.dirname(STDLIB)]}, True),
        ({"source": ["shop"]}, False),
        ({"include": ["shop/*"]}, False),
        ({"include": ["*/json/*"]}, True),
        ({"include": ["decoder.py"]}, True),
        ({"include": [f"{STDLIB}/js*"]}, True),
        ({"include": ["/*"]}, True),
        ({"omit": ["*"]}, False),
    ],
)
@pytest.mark.filterwarnings("ignore:source:pykcov.KcovWarning")
def test_a_scope_knows_whether_the_library_may_be_in_it(
    project: Path, options: dict[str, list[str]], has: bool
) -> None:
    assert Scope(**options).has_library() is has


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": 3}, "source: 3 is not a list of strings"),
        ({"source": [3]}, r"source: \[3\] is not a list of strings"),
        ({"source": [b"x"]}, "source: b'x' is not a text"),
        ({"include": [None]}, r"include: \[None\] is not a list of strings"),
        ({"omit": [""]}, "omit: '' is not a text"),
        ({"source": ["no/such/place"]}, "source: 'no/such/place' is no directory"),
        ({"source": ["a-b"]}, "source: 'a-b' is no directory"),
        ({"source": ["/"]}, "source: '/' is the root"),
        ({"include": ["a***"]}, r"include: '\*\*\*'"),
        ({"omit": ["x**"]}, "omit: "),
        ({"omit": ["[z-a]"]}, "omit: "),
    ],
)
def test_what_makes_no_scope_is_refused_with_a_reason(
    options: dict[str, list[str]], says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        Scope(**options)


# -- as coverage.py


PIECES = ["*", "**", "?", "/", "a", "b.py", "ab", "[ab]", ".", "x"]


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join),
    st.text("abx/.", min_size=1, max_size=8),
)
@example("/*", "/a/b.py")
@example("*/ab/*", "/ab/x")
@example("a/**/b.py", "/a/b.py")
@example("/.", "/")
def test_patterns_match_as_those_of_coverage(pattern: str, name: str) -> None:
    assume(not pattern.endswith("/"))  # there, it matches nothing
    # Two slashes at its beginning, which normpath() leaves as they are, are no file's.
    path = os.path.normpath("/" + name.lstrip("/"))
    try:
        theirs = GlobMatcher(prep_patterns([pattern])).match(path)
    except coverage.exceptions.ConfigError:
        return
    assert Scope(include=[pattern]).contains(path) == theirs


def test_files_are_in_scope_as_they_are_for_coverage(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It goes by sys.path only: what is installed for another Python is not installed for it.
    monkeypatch.syspath_prepend(str(project / ".venv/lib/python3/site-packages"))
    files = [str(path) for path in project.rglob("*.py")]
    files += [
        os.path.join(STDLIB, "json", "decoder.py"),
        os.path.join(INSTALLED, "_pytest", "main.py"),
    ]
    for options in (
        {},
        {"source": ["shop"]},
        {"source": ["."]},
        {"source": [".venv/lib/python3/site-packages"]},
        {"source": ["shop", "shopping", "json"]},
        {"include": ["shop/*"]},
        {"include": ["*.py"], "omit": ["*/pay/*"]},
        {"source": ["."], "omit": ["test_*"]},
    ):
        config = coverage.Coverage(config_file=False, data_file=None, **options).config
        theirs = InOrOut(config, lambda *_, **__: None, None, False)
        scope = Scope(**options)
        for file in files:
            module = file.removeprefix(f"{project}/").removeprefix(f"{STDLIB}/")
            name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            frame = _frame(name, file)
            assert scope.contains(file) == (theirs.check_include_omit_etc(file, frame) is None), (
                options,
                file,
            )


def _frame(name: str, file: str) -> object:
    """What coverage.py looks at to know a module's name."""
    found: list[object] = []
    text = "import sys; found.append(sys._getframe())"
    exec(compile(text, file, "exec"), {"__name__": name, "__file__": file, "found": found})
    return found[0]


def test_a_scope_costs_no_import_of_what_it_names(project: Path) -> None:
    text = string.Template(
        "import sys; from pykcov.scope import Scope; s = Scope(['shop.pay', 'shopping']);"
        "print(sorted({'shop', 'shop.pay', 'shopping'} & set(sys.modules)), s.unresolved)"
    ).substitute()
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] ()\n"
