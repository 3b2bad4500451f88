"""pytest --pykcov-impact runs the tests that a change touches, says why, and never leaves one out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from integration.commands import write
from integration.pytest_runs import collected, pytest_run

FILES = {
    "rates.py": """
        RATE = 8


        def table():
            return {"member": RATE}
    """,
    "shop.py": """
        import rates

        TABLE = rates.table()


        def discount(price):
            return price * TABLE["member"] // 10


        def quote(price, member):
            if member:
                price = discount(price)
            return price


        def unused():
            return 1
    """,
    "other.py": """
        def other():
            return 1
    """,
    "conftest.py": """
        import pytest


        @pytest.fixture(scope="session")
        def stock():
            import other

            return other.other()
    """,
    "test_shop.py": """
        from concurrent.futures import ThreadPoolExecutor

        import shop

        POOL = ThreadPoolExecutor(1)


        def test_guest():
            assert shop.quote(10, False) == 10


        def test_member():
            assert shop.quote(10, True) == 8


        def test_pool():
            assert POOL.submit(shop.discount, 10).result() == 8
    """,
    "test_other.py": """
        def test_stock(stock):
            assert stock == 1


        def test_nothing():
            pass


        def test_import():
            import other

            assert other
    """,
}

ALL = {
    "test_other.py::test_stock", "test_other.py::test_nothing", "test_other.py::test_import",
    "test_shop.py::test_guest", "test_shop.py::test_member", "test_shop.py::test_pool",
}  # fmt: skip
SHOP = {name for name in ALL if name.startswith("test_shop")}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a commit, and what its tests have executed."""
    directory = tmp_path_factory.mktemp("recorded")
    for name, text in FILES.items():
        write(directory, name, text)
    git(directory, "init", "-q")
    commit(directory)
    collected(directory)
    return directory


@pytest.fixture
def project(recorded: Path, tmp_path: Path) -> Path:
    """A copy: data is good where it was moved to."""
    shutil.copytree(recorded, tmp_path / "project")
    return tmp_path / "project"


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def commit(directory: Path) -> None:
    git(directory, "add", "--", *(path.name for path in directory.glob("*.py")))
    git(directory, "commit", "-q", "-m", "now")


def edit(directory: Path, name: str, old: str, new: str) -> None:
    path = directory / name
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def why(directory: Path, *options: str) -> dict[str, str]:
    """Which tests would run, and why; nothing is run."""
    options = options or ("--pykcov-impact=HEAD",)
    done = pytest_run(directory, "--collect-only", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"^  (\S+::\S+): (.*)$", done.stdout, re.MULTILINE))


def test_nothing_runs_if_nothing_has_changed_and_that_is_a_success(project: Path) -> None:
    done = pytest_run(project, "--pykcov-impact=HEAD")
    assert done.returncode == 0
    assert "pykcov: 0 of 6 tests chosen" in done.stdout
    assert "6 deselected" in done.stdout


def test_a_line_selects_who_executed_it_and_says_so(project: Path) -> None:
    assert why(project, "--pykcov-impact=shop.py:7") == {
        "test_shop.py::test_member": "shop.py:7 changed, executed in its call",
        "test_shop.py::test_pool": "shop.py:7 changed, executed in its call",
    }
    assert set(why(project, "--pykcov-impact=shop.py:12")) == {"test_shop.py::test_member"}
    assert why(project, "--pykcov-impact=shop.py:17") == {}


def test_several_lines_and_files_may_be_given(project: Path) -> None:
    found = why(project, "--pykcov-impact=shop.py:12,17-17", "--pykcov-impact=other.py:2")
    assert set(found) == {"test_shop.py::test_member", "test_other.py::test_stock"}


def test_a_whole_file_selects_who_executed_or_imports_it(project: Path) -> None:
    assert set(why(project, "--pykcov-impact=shop.py")) == SHOP
    # A conftest.py concerns all, and may import it.
    assert set(why(project, "--pykcov-impact=other.py")) == ALL


def test_a_fixture_that_tests_share_selects_those_that_use_it(project: Path) -> None:
    assert why(project, "--pykcov-impact=other.py:2") == {
        "test_other.py::test_stock": "other.py:2 changed, executed by the fixture conftest.py::stock"
    }


def test_what_an_import_executes_selects_who_imports_it_directly_or_not(project: Path) -> None:
    # rates.table() is a function that only the import of shop has executed.
    reason = "rates.py:5 changed, executed by an import"
    assert why(project, "--pykcov-impact=rates.py:5") == dict.fromkeys(SHOP, reason)
    assert set(why(project, "--pykcov-impact=rates.py:1")) == SHOP
    assert set(why(project, "--pykcov-impact=conftest.py:1")) == ALL


def test_an_edit_is_compared_with_what_was_executed(project: Path) -> None:
    edit(project, "shop.py", "price = discount(price)", "price = discount(price + 0)")
    assert set(why(project)) == {"test_shop.py::test_member"}


def test_a_range_of_commits_is_what_changed_between_them(project: Path) -> None:
    edit(project, "shop.py", "price = discount(price)", "price = discount(price + 0)")
    commit(project)
    edit(project, "other.py", "return 1", "return 1 + 0")
    commit(project)
    collected(project)
    assert why(project, "--pykcov-impact=HEAD") == {}
    assert set(why(project, "--pykcov-impact=HEAD~1..HEAD")) == {"test_other.py::test_stock"}
    assert set(why(project, "--pykcov-impact=HEAD~2..HEAD~1")) == {"test_shop.py::test_member"}
    # Lines above have come since.
    edit(project, "shop.py", "import rates\n", "# rates\nimport rates\n")
    assert set(why(project, "--pykcov-impact=HEAD~2..HEAD~1")) == {"test_shop.py::test_member"}


def test_what_has_changed_besides_is_not_forgotten(project: Path) -> None:
    edit(project, "shop.py", "price = discount(price)", "price = discount(price + 0)")
    assert set(why(project, "--pykcov-impact=other.py:2")) == {
        "test_shop.py::test_member",
        "test_other.py::test_stock",
    }


def test_a_comment_selects_nobody(project: Path) -> None:
    edit(project, "shop.py", "    if member:\n", "    # who is it?\n\n    if member:\n")
    assert why(project) == {}


def test_a_statement_that_comes_selects_who_executed_the_function(project: Path) -> None:
    edit(
        project,
        "shop.py",
        "    return price\n\n\ndef unused",
        "    price += 0\n    return price\n\n\ndef unused",
    )
    assert set(why(project)) == {"test_shop.py::test_guest", "test_shop.py::test_member"}


def test_a_file_that_is_gone_selects_who_executed_it(project: Path) -> None:
    (project / "other.py").unlink()
    assert set(why(project)) == ALL  # by conftest.py, which imports it


def test_a_new_test_is_selected_and_no_other(project: Path) -> None:
    edit(
        project,
        "test_other.py",
        "def test_nothing",
        "def test_new():\n    pass\n\n\ndef test_nothing",
    )
    assert why(project) == {"test_other.py::test_new": "new: nothing was recorded of it"}


def test_a_changed_test_file_selects_the_tests_that_execute_what_changed(project: Path) -> None:
    edit(
        project,
        "test_shop.py",
        "assert shop.quote(10, False) == 10",
        "assert shop.quote(10, False) > 9",
    )
    assert set(why(project)) == {"test_shop.py::test_guest"}
    edit(project, "test_shop.py", "POOL = ThreadPoolExecutor(1)", "POOL = ThreadPoolExecutor(2)")
    assert set(why(project)) == SHOP


def test_a_changed_test_file_selects_its_tests_also_where_it_is_not_recorded(project: Path) -> None:
    collected(project, "--pykcov-source=shop")
    edit(project, "test_shop.py", "False) == 10", "False) > 9")
    assert "test_shop.py::test_guest" in why(
        project, "--pykcov-impact=HEAD", "--pykcov-source=shop"
    )


def test_a_test_that_failed_is_selected_until_it_passes(project: Path) -> None:
    edit(project, "test_other.py", "assert stock == 1", "assert stock == 2")
    assert pytest_run(project, "--pykcov").returncode == 1
    edit(project, "test_other.py", "assert stock == 2", "assert stock == 1")
    reason = "did not pass when it ran last"
    assert why(project) == {"test_other.py::test_stock": reason}
    assert pytest_run(project, "--pykcov-impact=HEAD").returncode == 0
    assert why(project) == {}


def test_a_test_that_was_skipped_is_selected_if_its_file_changes(project: Path) -> None:
    write(
        project,
        "test_skipped.py",
        """
        import pytest


        def enabled():
            return False


        def test_skipped():
            if not enabled():
                pytest.skip("not today")
            assert 1
        """,
    )
    collected(project)
    commit(project)
    edit(project, "test_skipped.py", "    assert 1", "    assert 2")
    assert set(why(project)) == {"test_skipped.py::test_skipped"}


def test_a_new_conftest_selects_the_tests_that_it_concerns(project: Path) -> None:
    (project / "sub").mkdir()
    write(project, "sub/test_sub.py", "def test_sub():\n    pass\n")
    collected(project)
    write(project, "sub/conftest.py", "import pytest\n")
    assert why(project) == {"sub/test_sub.py::test_sub": "sub/conftest.py changed"}


def test_a_changed_configuration_selects_all(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\n")
    git(project, "add", "pytest.ini")
    git(project, "commit", "-qm", "configuration")
    collected(project)
    assert why(project) == {}
    (project / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    assert why(project) == dict.fromkeys(ALL, "pytest.ini changed")


def test_what_nobody_executed_is_said(project: Path) -> None:
    (project / "notes.txt").write_text("one")
    git(project, "add", "notes.txt")
    git(project, "commit", "-qm", "notes")
    (project / "notes.txt").write_text("two")
    done = pytest_run(project, "--pykcov-impact=HEAD")
    assert "no test executed anything of notes.txt" in done.stdout
    assert "0 of 6 tests chosen" in done.stdout


def test_tests_that_did_not_run_stay_compared_with_the_sources_that_they_ran_with(
    project: Path,
) -> None:
    edit(project, "shop.py", "price = discount(price)", "price = discount(price + 0)")
    edit(project, "other.py", "return 1", "return 1 + 0")
    # Only the one is run with the new sources.
    assert pytest_run(project, "--pykcov", "test_other.py").returncode == 0
    commit(project)
    assert set(why(project)) == {"test_shop.py::test_member"}
    assert pytest_run(project, "--pykcov-impact=HEAD").returncode == 0
    assert why(project) == {}


def test_a_fixture_of_an_earlier_run_counts_for_the_tests_of_that_run(project: Path) -> None:
    write(project, "test_more.py", "def test_more(stock):\n    assert stock\n")
    collected(project)
    edit(project, "other.py", "return 1", "return 1 + 0")
    # One of the two users of the fixture runs with the change; the other one has still to.
    assert pytest_run(project, "--pykcov", "test_more.py").returncode == 0
    commit(project)
    assert set(why(project)) == {"test_other.py::test_stock"}


def test_a_module_that_is_imported_by_name_is_everybodys(project: Path) -> None:
    write(project, "plugin.py", "def f():\n    return 1\n\n\nVALUE = f()\n")
    write(
        project,
        "test_dynamic.py",
        """
        import importlib


        def test_dynamic():
            name = "plug" + "in"
            assert importlib.import_module(name).VALUE == 1


        def test_static():
            assert importlib.import_module("other")
        """,
    )
    collected(project)
    assert "test_dynamic.py::test_dynamic" in why(project, "--pykcov-impact=plugin.py:2")
    assert set(why(project, "--pykcov-impact=plugin.py:1")) >= {"test_dynamic.py::test_dynamic"}
    assert "test_dynamic.py::test_static" in why(project, "--pykcov-impact=other.py:1")


def test_xdist_chooses_the_same_tests(project: Path) -> None:
    edit(project, "shop.py", "return price * TABLE", "return 0 + price * TABLE")
    done = pytest_run(project, "--pykcov-impact=HEAD", "-n2")
    assert done.returncode == 0, done.stdout
    found = dict(re.findall(r"^  (\S+::\S+): (.*)$", done.stdout, re.MULTILINE))
    assert found == {
        "test_shop.py::test_member": "shop.py:7 changed, executed in its call",
        "test_shop.py::test_pool": "shop.py:7 changed, executed in its call",
    }
    assert "2 passed" in done.stdout
    assert why(project, "--pykcov-impact=other.py:2").keys() == {"test_other.py::test_stock"}


def test_a_script_that_a_test_runs_selects_that_test(project: Path) -> None:
    """What is in no function was looked for among the modules that this process imports."""
    write(project, "part.py", "VALUE = 1\n")
    write(project, "script.py", "import part\n\nprint(part.VALUE)\n")
    write(
        project,
        "test_script.py",
        """
        import os
        import runpy
        import subprocess
        import sys


        def test_child():
            command = [sys.executable, "script.py"]
            assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\\n"


        def test_here(capsys):
            runpy.run_path("script.py")
            assert capsys.readouterr().out == "1\\n"


        def test_hook():
            assert os.environ["SERVED"] == "1"
        """,
    )
    write(project, "server.py", "print(1)\n")
    conftest = (project / "conftest.py").read_text()
    served = 'subprocess.run([sys.executable, "server.py"], capture_output=True, text=True).stdout'
    (project / "conftest.py").write_text(
        f"import os, subprocess, sys\n{conftest}\n\n"
        f"def pytest_configure():\n    os.environ['SERVED'] = {served}.strip()\n"
    )
    commit(project)
    collected(project)
    scripts = {"test_script.py::test_child", "test_script.py::test_here"}
    assert set(why(project, "--pykcov-impact=script.py:3")) == scripts
    assert set(why(project, "--pykcov-impact=part.py:1")) >= {"test_script.py::test_child"}
    assert "test_script.py::test_hook" in why(project, "--pykcov-impact=server.py:1")
    edit(project, "script.py", "print(part.VALUE)", "print(part.VALUE + 0)")
    assert set(why(project)) == scripts


def test_a_conftest_that_is_gone_selects_the_tests_that_it_concerned(project: Path) -> None:
    (project / "sub").mkdir()
    write(project, "sub/test_sub.py", "def test_sub():\n    pass\n")
    write(project, "sub/conftest.py", "import os\n\nos.environ['X'] = '1'\n")
    collected(project)
    (project / "sub/conftest.py").unlink()
    assert set(why(project)) == {"sub/test_sub.py::test_sub"}
