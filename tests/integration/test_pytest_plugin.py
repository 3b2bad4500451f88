"""pytest --pykcov, as a user runs it: each test's own lines, whoever executes them for it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from integration.commands import pykcov_run, run, write
from integration.pytest_runs import ENVIRONMENT, collected, load, pytest_run

WORKERS = Path(__file__).parents[2] / "bench" / "peers" / "project"
truth = load(WORKERS.with_name("truth.py"))

SHOP = """
    RATE = 8


    def discount(price):
        return price * RATE // 10


    def quote(price, member):
        if member:
            price = discount(price)
        return price


    def close():
        return None
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write(tmp_path, "shop.py", SHOP)
    write(
        tmp_path,
        "conftest.py",
        """
        import pytest
        import shop


        @pytest.fixture
        def price():
            yield shop.quote(10, False)
            shop.close()


        @pytest.fixture(scope="module")
        def rate():
            yield shop.discount(10)
            shop.close()
        """,
    )
    write(
        tmp_path,
        "test_shop.py",
        """
        import shop


        def test_phases(price):
            assert shop.discount(price) == 8


        def test_nothing():
            pass


        def test_shared(rate):
            assert shop.quote(10, False) == 10


        def test_shared_again(rate):
            pass
        """,
    )
    return tmp_path


def test_setup_call_and_teardown_are_told_apart(shop: Path) -> None:
    found = collected(shop)
    assert found["tests"]["test_shop.py::test_phases"] == {
        "outcome": "passed",
        "setup": {"conftest.py": [7], "shop.py": [9, 11]},
        "call": {"shop.py": [5], "test_shop.py": [5]},
        "teardown": {"conftest.py": [8], "shop.py": [15]},
        "fixtures": [],
    }
    assert found["tests"]["test_shop.py::test_nothing"]["call"] == {"test_shop.py": [9]}


def test_a_fixture_that_tests_share_has_a_context_of_its_own(shop: Path) -> None:
    found = collected(shop)
    assert found["fixtures"] == {"conftest.py::rate": {"conftest.py": [13, 14], "shop.py": [5, 15]}}
    for name in ("test_shared", "test_shared_again"):
        test = found["tests"][f"test_shop.py::{name}"]
        assert test["fixtures"] == ["conftest.py::rate"]
        assert test["setup"] == test["teardown"] == {}
    assert found["tests"]["test_shop.py::test_shared"]["call"]["shop.py"] == [9, 11]


def test_lines_of_shared_fixtures_are_added_to_their_tests_on_request(shop: Path) -> None:
    found = collected(shop, "--pykcov-add-fixtures")
    for name in ("test_shared", "test_shared_again"):
        assert found["tests"][f"test_shop.py::{name}"]["setup"]["shop.py"] == [5, 15]
    assert found["tests"]["test_shop.py::test_nothing"]["setup"] == {}
    assert contexts(shop)["test_shop.py::test_shared_again|setup"]["shop.py"] == {5, 15}


def test_an_import_is_the_modules_whoever_comes_first(shop: Path) -> None:
    write(
        shop, "lazy.py", "import shop\nVALUE = shop.discount(10)\n\n\ndef f():\n    return VALUE\n"
    )
    write(
        shop,
        "test_lazy.py",
        "def test_lazy():\n    import lazy\n    assert lazy.f() == 8\n",
    )
    found = collected(shop)
    assert found["imports"]["lazy.py"] == {"lazy.py": [1, 2, 5], "shop.py": [5]}
    assert found["imports"]["shop.py"] == {"shop.py": [1, 4, 8, 14]}
    assert found["tests"]["test_lazy.py::test_lazy"]["call"] == {
        "lazy.py": [6],
        "test_lazy.py": [2, 3],
    }


def contexts(directory: Path, name: str = ".coverage") -> dict[str, dict[str, set[int]]]:
    from coverage import CoverageData

    data = CoverageData(str(directory / name))
    data.read()
    found: dict[str, dict[str, set[int]]] = {}
    for context in data.measured_contexts():
        data.set_query_context(context)
        found[context] = {
            str(Path(file).relative_to(directory)): set(data.lines(file) or ())
            for file in data.measured_files()
            if data.lines(file)
        }
    return found


def test_the_data_file_is_coverage_pys_with_contexts_as_pytest_cov_names_them(shop: Path) -> None:
    found = collected(shop)
    assert contexts(shop)["test_shop.py::test_phases|run"] == {"shop.py": {5}, "test_shop.py": {5}}
    assert set(contexts(shop)) == {
        "test_shop.py::test_phases|setup",
        "test_shop.py::test_phases|run",
        "test_shop.py::test_phases|teardown",
        "test_shop.py::test_nothing|run",
        "test_shop.py::test_shared|run",
        "test_shop.py::test_shared_again|run",
        "conftest.py::rate|fixture",
        "conftest.py|import",
        "shop.py|import",
        "test_shop.py|import",
    }
    assert found["session"] == {}
    done = run([sys.executable, "-m", "coverage", "report"], shop)
    assert re.search(r"^shop\.py +9 +1 +89%", done.stdout, re.MULTILINE), done.stdout


# -- workers


BODIES = set(truth.functions())


def test_files_are_called_as_the_configuration_of_coverage_py_has_it(shop: Path) -> None:
    # `coverage report` said 0 %. A test may leave any directory, or none, to whoever comes last.
    write(shop, ".coveragerc", "[run]\nrelative_files = True\n")
    write(
        shop,
        "test_zzz.py",
        """
        import os


        def test_leaves(tmp_path):
            os.chdir(tmp_path)
            os.rmdir(tmp_path)
        """,
    )
    done = pytest_run(shop, "--pykcov", "-q", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(sqlite3.connect(shop / ".coverage")) as database:
        names = {name for (name,) in database.execute("SELECT path FROM file")}
    assert names == {"conftest.py", "shop.py", "test_shop.py", "test_zzz.py"}
    said = run([sys.executable, "-m", "coverage", "report"], shop).stdout
    assert re.search(r"shop.py +9 +1 +89%", said), said


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    shutil.copytree(WORKERS, tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("options", [(), ("-n2",), ("-p", "no:randomly", "--pykcov-source=.")])
def test_each_test_has_the_lines_of_those_who_worked_for_it(
    workers: Path, options: tuple[str, ...]
) -> None:
    if "-n2" in options:
        # What needs the test before it stays together with it.
        options = ("-n2", "--dist=loadfile")
    found = collected(workers, *options)
    assert len(found["tests"]) == 14
    for nodeid, test in found["tests"].items():
        executed = {n for phase in PHASES for n in test[phase].get("jobs.py", [])}
        wanted = truth.lines().get(nodeid.partition("::test_")[2], set())
        assert executed & BODIES == wanted, nodeid
        assert test["outcome"] == "passed"


PHASES = ("setup", "call", "teardown")


def test_what_a_fixtures_thread_does_for_nobody_is_the_fixtures(workers: Path) -> None:
    found = collected(workers)
    functions = truth.functions()
    noise = set(found["fixtures"]["conftest.py::noise"]["jobs.py"]) & BODIES
    assert {functions[number] for number in noise} == {"noise", "shared"}
    server = set(found["fixtures"]["conftest.py::server"]["jobs.py"]) & BODIES
    assert server == set(), "its requests are the tests'"


def test_a_line_of_a_worker_selects_the_test_that_it_worked_for(workers: Path) -> None:
    collected(workers)
    text = (workers / "jobs.py").read_text().splitlines()
    for name, wanted in {
        "server_a": ["server_a"],
        "process_again": ["process_again"],
        "thread_b": ["thread_b"],
        "late_end": [],
    }.items():
        line = text.index(f"def {name}():") + 2
        done = pytest_run(workers, f"--pykcov-impact=jobs.py:{line}", "--collect-only", "-q")
        chosen = re.findall(r"^test_workers.py::test_(\w+)$", done.stdout, re.MULTILINE)
        assert chosen == wanted, done.stdout + done.stderr


# -- tests that run at the same time


def test_threads_and_tasks_inside_a_test_are_its_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        "work.py",
        """
        def a():
            return 1


        def b():
            return 2


        def c():
            return 3
        """,
    )
    write(
        tmp_path,
        "test_work.py",
        """
        import asyncio
        import threading

        import work


        def test_threads():
            threads = [threading.Thread(target=f) for f in (work.a, work.b)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


        async def both():
            async def one(f):
                await asyncio.sleep(0)
                return f()

            await asyncio.gather(one(work.b), asyncio.to_thread(work.c))


        def test_tasks():
            asyncio.run(both())
        """,
    )
    found = collected(tmp_path)["tests"]
    assert found["test_work.py::test_threads"]["call"]["work.py"] == [2, 6]
    assert found["test_work.py::test_tasks"]["call"]["work.py"] == [6, 10]


def test_xdist_finds_what_one_process_finds(shop: Path) -> None:
    alone = collected(shop)
    together = collected(shop, "-n2")
    assert together["tests"] == alone["tests"]
    assert together["fixtures"] == alone["fixtures"]
    assert together["imports"] == alone["imports"]


def test_a_worker_that_crashes_loses_its_test_only(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_crash.py",
        """
        import os


        def test_before():
            pass


        def test_crash():
            os._exit(3)


        def test_after():
            pass
        """,
    )
    done = pytest_run(tmp_path, "--pykcov", "--pykcov-json=found.json", "-n1")
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["tests"]
    assert {name.partition("::")[2]: test["outcome"] for name, test in found.items()} == {
        "test_before": "passed",
        "test_crash": "failed",
        "test_after": "passed",
    }
    done = pytest_run(tmp_path, "--pykcov-impact=test_crash.py:5", "--collect-only", "-q")
    assert re.findall(r"::(\w+)$", done.stdout, re.MULTILINE) == ["test_before", "test_crash"]


# -- the fixture, traces


def test_the_fixture_gives_a_test_its_own_trace_also_without_the_option(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_own.py",
        """
        from threading import Thread


        def work():
            return 1


        def test_own(pykcov):
            assert pykcov.trace.functions() == {__file__: {"test_own"}}
            thread = Thread(target=work)
            thread.start()
            thread.join()
            assert pykcov.trace.functions() == {__file__: {"test_own", "work"}}
            work()
            lines = [pykcov.trace.symbolize(pc).line for pc in pykcov.trace.pcs]
            assert lines.count(5) == 2
        """,
    )
    for options in ((), ("--pykcov",)):
        done = pytest_run(tmp_path, *options)
        assert done.returncode == 0, done.stdout
    assert (tmp_path / ".coverage").exists()


def test_traces_in_order_are_saved_on_request(shop: Path) -> None:
    import pykcov

    done = pytest_run(shop, "--pykcov", "--pykcov-traces=traces")
    assert done.returncode == 0, done.stdout
    found = sorted((shop / "traces").iterdir())
    assert [path.name for path in found] == [
        f"test_shop.py-{name}.trace"
        for name in ("test_nothing", "test_phases", "test_shared", "test_shared_again")
    ]
    trace = pykcov.Trace.load(found[1])
    places = [trace.symbolize(pc) for pc in trace.pcs]
    order = [place.function for place in places if place.kind == "entry"]
    assert order == ["price", "quote", "test_phases", "discount", "close"]


# -- what it costs where it is not asked for


ASSERTIONS = """
    '''Of all kinds.'''
    from __future__ import annotations
    import pytest
    from pykcov import _recorder


    def compare(a, b):
        with pytest.raises(ValueError):
            raise ValueError
        assert (
            a
            < b
        ), "said"


    @pytest.mark.parametrize("n", [1, 2])
    def test_numbers(n):
        for i in range(n):
            assert i < 1


    def test_parts():
        a, b = [1, 2, 3], {"x": 1}
        assert a == [1, 2] and b


    def test_call():
        compare(2, 1)


    def test_members():
        assert all(
            len(word) > 1
            for word in ("ab", "c")
        )


    def test_probed():
        assert _recorder.is_probed(compare.__code__) == (not PLAIN), "compiled probes"
"""


def test_failed_assertions_are_explained_as_without(tmp_path: Path) -> None:
    """The modules that pytest rewrites are compiled with probes; nobody can tell by what it prints."""
    said = {}
    for plain in (True, False):
        directory = tmp_path / str(plain)
        directory.mkdir()
        write(directory, "test_all.py", ASSERTIONS + f"\n    PLAIN = {plain}\n")
        for _ in range(2):  # the second is from the cache
            done = pytest_run(directory, *(() if plain else ("--pykcov", "--pykcov-output=x")))
            assert done.returncode == 1, done.stderr
            text = re.sub(r"0x\w+", "", done.stdout).replace(str(directory), "")
            report = text[text.index("= FAILURES") : text.index("= short test summary")]
            said.setdefault(plain, []).append(
                re.sub(r"-+ pykcov -+\n.*\n", "", report).splitlines()
            )
    assert said[False] == said[True]
    assert "4 failed, 2 passed" in done.stdout


def test_without_the_option_nothing_of_pykcov_is_imported_or_written(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_lean.py",
        """
        import sys


        def test_lean():
            assert "pytest_pykcov" in sys.modules
            assert not [name for name in sys.modules if name.split(".")[0] == "pykcov"]
        """,
    )
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_lean.py"]


def test_memory_does_not_grow_with_the_number_of_tests(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_many.py",
        """
        import tracemalloc

        import pytest
        import pykcov


        @pytest.mark.parametrize("n", range(600))
        def test_many(n):
            x = 0
            for i in range(100):
                x += i
            if n == 100:
                tracemalloc.start()


        def test_size():
            snapshot = tracemalloc.take_snapshot()
            mine = snapshot.filter_traces([tracemalloc.Filter(True, pykcov.__path__[0] + "/*")])
            size = sum(trace.size for trace in mine.traces)
            assert size < 100_000, size
        """,
    )
    done = pytest_run(tmp_path, "--pykcov", "-q")
    assert done.returncode == 0, done.stdout


# -- mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pykcov-impact=HEAD"], "no recorded data in {0}/.pykcovdata: run `pytest --pykcov` first"),
        (["--pykcov", "--pykcov-source=/nowhere"], "source: '/nowhere' is no directory, no Python file"),
        (["--pykcov", "--pykcov-include=a/***b"], "'***' in"),
        (["--pykcov", "--pykcov-output=no/where"], "{0}/no/where: No such file or directory"),
        (["--pykcov-json=x.json"], "--pykcov-json needs --pykcov"),
        (["--pykcov-traces=traces"], "--pykcov-traces needs --pykcov"),
        (["--pykcov", "--pykcov-json=."], "{0}: Is a directory"),
        (["--pykcov", "--pykcov-traces=shop.py"], "{0}/shop.py: File exists"),
        (["--pykcov", "--pykcov-data=/proc/data"], "/proc/data: No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line_and_status_4(
    shop: Path, options: list[str], said: str
) -> None:
    usage_error(shop, options, said.format(shop))


def usage_error(directory: Path, options: list[str], said: str) -> None:
    done = pytest_run(directory, *options)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("ERROR: pykcov: "), line
    assert said in line


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("shop.py:99", "shop.py has no line 99: it has 15 lines"),
        ("shop.py:3-1", "shop.py has no line 3-1"),
        ("shop.py:0", "shop.py has no line 0"),
        ("gone.py:1", "there is no file gone.py"),
        ("nowhere..HEAD", "'nowhere..HEAD' is neither a file, nor FILE:LINES, nor a range that git knows"),
        ("--output=x", "'--output=x' is neither a file"),
        ("", "'' is neither a file"),
    ],
)  # fmt: skip
def test_what_is_said_to_have_changed_has_to_be_there(shop: Path, changed: str, said: str) -> None:
    collected(shop)
    usage_error(shop, [f"--pykcov-impact={changed}"], said)


def test_a_data_file_that_is_in_use_is_not_waited_for_until_the_end(shop: Path) -> None:
    database = sqlite3.connect(shop / ".coverage")
    database.execute("CREATE TABLE t (x)")
    database.execute("BEGIN EXCLUSIVE")
    try:
        usage_error(shop, ["--pykcov"], f"{shop}/.coverage is in use: database is locked")
    finally:
        database.close()


@pytest.mark.parametrize("content", [b"", b"something else, and long enough\n" * 100])
def test_recorded_data_that_is_something_else_is_told(shop: Path, content: bytes) -> None:
    (shop / ".pykcovdata").write_bytes(content)
    usage_error(shop, ["--pykcov-impact=shop.py"], ".pykcovdata is not what pytest --pykcov writes")
    assert (shop / ".pykcovdata").read_bytes() == content


def test_a_configuration_of_coverage_py_that_is_wrong_is_told_first(shop: Path) -> None:
    (shop / ".coveragerc").write_text("[run]\nrelative_files = perhaps\n")
    usage_error(shop, ["--pykcov"], "Couldn't read config file .coveragerc: Not a boolean: perhaps")


def test_a_namespace_that_cannot_be_used_is_told(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PYKCOV_NAMESPACE", "no/name")
    usage_error(shop, ["--pykcov"], "'no/name'")


def test_data_that_cannot_be_kept_at_the_end_is_told(shop: Path) -> None:
    write(
        shop,
        "test_spoil.py",
        """
        from pathlib import Path


        def test_spoil():
            Path(".pykcovdata").write_bytes(b"something else, and long enough" * 100)
        """,
    )
    done = pytest_run(shop, "--pykcov")
    assert done.returncode == 4
    assert "ERROR: pykcov: " in done.stdout
    assert "is not what pytest --pykcov writes" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_disk_that_fills_is_told(shop: Path, small_disk: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = run([*small_disk, *command, "--pykcov", "--pykcov-output=full/out"], shop)
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"ERROR: pykcov: report: {shop}/full/out: No space left on device\n" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_keeps_what_was_found(shop: Path) -> None:
    write(
        shop,
        "test_zzz.py",
        """
        import os
        import signal


        def test_interrupted():
            os.kill(os.getpid(), signal.SIGINT)
        """,
    )
    done = pytest_run(shop, "--pykcov", "--pykcov-json=found.json")
    assert done.returncode == 2, done.stdout
    found = json.loads((shop / "found.json").read_text())["tests"]
    assert [test["outcome"] for test in found.values()] == [*["passed"] * 4, "failed"]
    done = pytest_run(shop, "--pykcov-impact=shop.py:5", "--collect-only")
    assert "test_zzz.py::test_interrupted: did not pass when it ran last" in done.stdout


def test_pytest_in_a_program_that_is_collected_warns_of_nothing(tmp_path: Path) -> None:
    """pytest asks to rewrite the packages of installed plugins, and warned that pykcov was imported before."""
    write(
        tmp_path,
        "conftest.py",
        """
        import pytest
        pytest.register_assert_rewrite("pykcov")  # as pytest does it, where it finds them installed
        """,
    )
    write(tmp_path, "test_it.py", "def test_it():\n    pass\n")
    done = pykcov_run(tmp_path, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
