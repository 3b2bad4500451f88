"""`pykcov report`, `diff` and `html` as a user runs them, and what they say to bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from integration.commands import PYKCOV, pykcov_run, run, write
from pykcov import Trace

COVERAGE = [sys.executable, "-m", "coverage"]
FORMATS = ["text", "coverage", "lcov", "xml", "json", "chrome"]
PROGRAM = """
import sys

def price(who):
    if who == "member":
        return 8
    return 10

print(*map(price, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two traces of one program, of runs with namespaces of their own."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder, "app.py", PROGRAM)
    for name, arguments in (("guest", ["guest", "guest"]), ("member", ["member"])):
        done = pykcov_run(folder, "-q", "-o", f"{name}.trace", "app.py", *arguments)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it, in which the sources may be changed: the traces are told where it is."""
    for name in ("guest", "member"):
        trace = Trace.load(recorded / f"{name}.trace")
        places = {
            pc: place._replace(file=str(tmp_path / "app.py")) for pc, place in trace.places.items()
        }
        moved = Trace(
            trace.pcs,
            places=places,
            sections=trace.sections,
            sources={str(tmp_path / "app.py"): next(iter(trace.sources.values()))},
        )
        moved.save(tmp_path / f"{name}.trace")
    shutil.copy(recorded / "app.py", tmp_path)
    return tmp_path


def pykcov(directory: Path, *arguments: str, status: int = 0) -> str:
    done = run([*PYKCOV, *arguments], directory)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if status == 2:
        assert done.stdout == ""
        assert done.stderr.startswith("pykcov: ")
        assert done.stderr.count("\n") == 1
        return done.stderr
    return done.stdout


# ------------------------------------------------------------------------------- several traces


def test_several_traces_are_united_whatever_their_namespaces(folder: Path) -> None:
    lines = pykcov(folder, "report", "guest.trace", "member.trace").splitlines()
    events = sum(len(Trace.load(folder / name)) for name in ("guest.trace", "member.trace"))
    assert lines[2].split() == ["app.py", "6", "1", str(events)]


def test_files_that_differ_only_by_their_suffix_are_two_collections(folder: Path) -> None:
    shutil.copy(folder / "member.trace", folder / "guest")  # one was lost
    names = ["guest", "guest.trace", "member.trace", "guest.trace"]
    document = json.loads(pykcov(folder, "report", "--format", "json", *names))
    assert [(one["name"], one["events"]) for one in document["collections"]] == [
        (name, len(Trace.load(folder / file)))
        for name, file in (
            ("guest", "guest"), ("guest.trace", "guest.trace"), ("member", "member.trace"),
        )
    ]  # fmt: skip


def test_lcov_counts_lines_of_a_file_with_any_name(tmp_path: Path) -> None:
    write(tmp_path, "new\nline.py", "for i in range(3):\n    x = i\n")
    pykcov_run(tmp_path, "-q", "new\nline.py")
    said = pykcov(tmp_path, "report", "--format", "lcov")
    # The last look at the loop's line is an event, too.
    assert "DA:1,4\nDA:2,3\n" in said


def test_coverage_py_reads_a_context_for_each_trace(folder: Path) -> None:
    pykcov(folder, "report", "--format", "coverage", "guest.trace", "member.trace")
    whole = run([*COVERAGE, "report", "-m"], folder).stdout
    assert re.search(r"app.py +6 +0 +100%", whole)
    member = run([*COVERAGE, "report", "-m", "--contexts=^member$"], folder).stdout
    assert re.search(r"app.py +6 +1 +83% +6", member)
    run([*COVERAGE, "json", "--show-contexts", "-q"], folder)
    contexts = json.loads((folder / "coverage.json").read_text())["files"]["app.py"]["contexts"]
    assert sorted(contexts["4"]) == ["guest", "member"]
    assert (contexts["5"], contexts["6"]) == (["member"], ["guest"])


def test_coverage_py_combines_our_data_with_its_own(folder: Path) -> None:
    pykcov(folder, "report", "--format", "coverage", "-o", ".coverage.ours", "member.trace")
    run([*COVERAGE, "run", "--context=theirs", "-p", "app.py", "guest"], folder)
    done = run([*COVERAGE, "combine"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"app.py +6 +0 +100%", run([*COVERAGE, "report"], folder).stdout)


RELATIVE = {
    ".coveragerc": "[run]\nrelative_files = True\n",
    "pyproject.toml": "[tool.coverage.run]\nrelative_files = true\n",
}


def names_in(data: Path) -> list[str]:
    with closing(sqlite3.connect(data)) as database:
        return sorted(name for (name,) in database.execute("SELECT path FROM file"))


@pytest.mark.parametrize("configuration", RELATIVE)
def test_files_are_called_as_coverage_py_itself_calls_them(
    folder: Path, configuration: str
) -> None:
    # Every report said 0 %: it looks for relative names where all were absolute.
    (folder / configuration).write_text(RELATIVE[configuration])
    run([*COVERAGE, "run", "--data-file=theirs", "app.py", "guest"], folder)
    for options in ([], ["--branch"]):
        pykcov(folder, "report", "--format", "coverage", "-o", "ours", "guest.trace", *options)
        assert names_in(folder / "ours") == names_in(folder / "theirs") == ["app.py"]
        said = run([*COVERAGE, "report", "--data-file=ours", "-m"], folder).stdout
        assert re.search(r"app.py +6 +1 .*83%|app.py +6 +1 +2 +1 +75%", said), said


@pytest.mark.parametrize("configuration", RELATIVE)
def test_reports_find_what_ran_also_by_relative_names(folder: Path, configuration: str) -> None:
    (folder / configuration).write_text(RELATIVE[configuration])
    for options in ([], ["--branch"]):
        table = pykcov(folder, "report", "--missing", "guest.trace", *options)
        assert re.search(r"app.py +6 +1 .*5$", table, re.M), table
        lcov = pykcov(folder, "report", "--format", "lcov", "guest.trace", *options)
        assert "SF:app.py\nDA:1,1\nDA:3,1\nDA:4,2\nDA:5,0\nDA:6,2\nDA:8,1\n" in lcov
        xml = pykcov(folder, "report", "--format", "xml", "guest.trace", *options)
        assert (xml.count(' hits="1"'), xml.count(' hits="0"')) == (5, 1)
    assert "   5    !         return 8\n" in pykcov(
        folder, "report", "--show-source", "guest.trace"
    )
    pykcov(folder, "html", "guest.trace")
    assert '"statements": [1, 3, 4, 5, 6, 8]' in (folder / "pykcov.html").read_text()


def test_relative_names_are_those_of_the_directory_that_it_is_asked_in(folder: Path) -> None:
    inside = folder / "inside"
    inside.mkdir()
    (inside / ".coveragerc").write_text(RELATIVE[".coveragerc"])
    pykcov(inside, "report", "--format", "coverage", "../guest.trace")
    run([*COVERAGE, "run", "--data-file=theirs", "../app.py", "guest"], inside)
    assert names_in(inside / ".coverage") == names_in(inside / "theirs") == [f"{folder}/app.py"]
    assert re.search(r"app.py +6 +1 +83%", run([*COVERAGE, "report"], inside).stdout)
    assert re.search(r"app.py +6 +1 +83%", pykcov(inside, "report", "--missing", "../guest.trace"))


@pytest.mark.parametrize("section", ["run", "report"])
def test_what_is_omitted_from_reports_is_what_coverage_report_omits(
    folder: Path, section: str
) -> None:
    # [run] says what coverage.py records; it passes over no data that is there.
    pykcov(folder, "report", "--format", "coverage", "guest.trace")
    (folder / ".coveragerc").write_text(f"[{section}]\nomit = app.py\n")
    ours = run([*PYKCOV, "report", "--missing", "guest.trace"], folder)
    theirs = run([*COVERAGE, "report", "-m"], folder)
    if section == "run":
        assert "app.py" in ours.stdout
        assert ours.stdout == theirs.stdout
    else:
        assert theirs.stdout == "No data to report.\n"
        assert (ours.returncode, ours.stderr) == (2, "pykcov: report: No data to report.\n")


def test_branches_come_from_the_order_of_events(folder: Path) -> None:
    pykcov(folder, "report", "--format", "coverage", "--branch", "member.trace")
    assert re.search(r"app.py +6 +1 +2 +1 +75% +6", run([*COVERAGE, "report", "-m"], folder).stdout)
    assert re.search(
        r"app.py +6 +1 +2 +1 +75% +6",
        pykcov(folder, "report", "--missing", "--branch", "member.trace"),
    )


@pytest.mark.skipif(not shutil.which("genhtml"), reason="needs Debian's package lcov")
def test_genhtml_makes_pages_of_our_lcov(folder: Path) -> None:
    pykcov(folder, "report", "--format", "lcov", "-o", "app.lcov", "guest.trace", "--branch")
    done = run(["genhtml", "--branch-coverage", "-o", "pages", "app.lcov"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"lines\.*: 83\.3% \(5 of 6 lines\)", done.stdout)
    assert re.search(r"branches\.*: 50\.0% \(1 of 2 branches\)", done.stdout), done.stdout
    [page] = (folder / "pages").rglob("app.py.gcov.html")
    text = re.sub(r"<[^>]*>", "", page.read_text())
    assert re.search(r"2 :.*\n?.*return 10", text)


def test_the_default_is_the_trace_that_run_writes(tmp_path: Path) -> None:
    write(tmp_path, "app.py", PROGRAM)
    pykcov_run(tmp_path, "-q", "app.py", "guest")
    assert "app.py" in pykcov(tmp_path, "report")
    document = json.loads(pykcov(tmp_path, "report", "--format", "json"))
    assert [collection["name"] for collection in document["collections"]] == ["pykcov"]
    pykcov(tmp_path, "html")
    assert (tmp_path / "pykcov.html").read_text().startswith("<!DOCTYPE html>")


def test_a_tree_and_a_source_are_text(folder: Path) -> None:
    assert re.search(
        r"^ +2 +6 +price  app.py:3$", pykcov(folder, "report", "--tree", "guest.trace"), re.M
    )
    source = pykcov(folder, "report", "--show-source", "guest.trace")
    assert "   6  2 >     return 10\n" in source
    assert "   5    !         return 8\n" in source


# ------------------------------------------------------------------------------------- diff


def test_the_difference_is_what_b_executed_and_a_did_not(folder: Path) -> None:
    text = pykcov(folder, "diff", "guest.trace", "member.trace", status=1)
    assert text == "app.py\n  5          return 8\n\n1 line, 0 functions\n"
    text = pykcov(folder, "diff", "member.trace", "guest.trace", status=1)
    assert text == "app.py\n  6      return 10\n\n1 line, 0 functions\n"
    assert pykcov(folder, "diff", "guest.trace", "guest.trace") == "0 lines, 0 functions\n"


def test_a_difference_has_the_other_formats_too(folder: Path) -> None:
    text = pykcov(folder, "diff", "guest.trace", "member.trace", "--format", "json", status=1)
    [found] = json.loads(text)["collections"]
    assert found["name"] == "member.trace without guest.trace"
    assert [file["lines"] for file in found["files"].values()] == [{"5": 1}]


def test_a_difference_between_versions_of_a_source_says_so(folder: Path) -> None:
    write(folder, "app.py", "# a comment\n" + PROGRAM)
    pykcov_run(folder, "-q", "-o", "later.trace", "app.py", "guest")
    done = run([*PYKCOV, "diff", "guest.trace", "later.trace"], folder)
    assert done.returncode == 1
    assert done.stderr == (
        "pykcov: the source changed between the traces, and is compared by line numbers: app.py\n"
    )


# --------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "command",
    [
        ["report"], ["report", "--missing"], ["report", "guest.trace"], ["html", "guest.trace"],
        ["diff", "guest.trace"],
    ],
)  # fmt: skip
def test_what_is_no_whole_trace_is_one_line(folder: Path, command: list[str]) -> None:
    whole = (folder / "guest.trace").read_bytes()
    newer = whole[:8] + b"\xff\0" + whole[10:]
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    for content, cause in (
        (b"", "the file is empty"),
        (whole[: len(whole) // 2], "it ends early"),
        (b"SQLite format 3\0" * 9, "not a pykcov trace"),
        (newer, "written by a newer pykcov"),
        (bytes(flipped), "damaged"),
    ):
        (folder / "bad.trace").write_bytes(content)
        said = pykcov(folder, *command, "bad.trace", status=2)
        assert said.startswith("pykcov: Trace.load: bad.trace: ")
        assert cause in said
    assert not (folder / "pykcov.html").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["report", "--missing"], ["report", "--show-source"], ["html", "-o", "out"],
        *(["report", "--format", name, "-o", "out"] for name in ("coverage", "lcov", "xml")),
    ],
    ids=lambda command: command[-3] if "--format" in command else command[1],
)  # fmt: skip
def test_a_source_that_has_changed_is_said_with_its_name(folder: Path, command: list[str]) -> None:
    (folder / "app.py").write_text("# something else\n")
    said = pykcov(folder, *command, "guest.trace", status=2)
    assert said.startswith("pykcov: report: changed since it ran: app.py ")
    assert sorted(path.name for path in folder.iterdir()) == [
        "app.py", "guest.trace", "member.trace",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_place_that_cannot_be_written_to_is_one_line(folder: Path, name: str) -> None:
    for target, cause in (
        ("no/such/file", "No such file or directory"),
        (".", "Is a directory"),
    ):
        said = pykcov(folder, "report", "guest.trace", "--format", name, "-o", target, status=2)
        assert said.startswith(f"pykcov: report: {target}: ")
        assert cause in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "app.py", "guest.trace", "member.trace",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "coverage"])
def test_a_full_disk_is_one_line(folder: Path, name: str) -> None:
    command = [*PYKCOV, "report", "guest.trace", "--format", name]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "pykcov: report: standard output: No space left on device\n"
    done = run([*command, "-o", "/dev/full"], folder)
    assert done.returncode == 2
    assert done.stderr == "pykcov: report: /dev/full: No space left on device\n"


@pytest.mark.parametrize("branch", [[], ["--branch"]], ids=["lines", "branches"])
def test_a_disk_that_fills_is_one_line_for_a_data_file_too(
    folder: Path, small_disk: list[str], branch: list[str]
) -> None:
    report = [*small_disk, *PYKCOV, "report", "guest.trace", *branch]
    done = run([*report, "--format", "coverage", "-o", "full/out"], folder)
    assert (done.returncode, done.stderr) == (
        2, "pykcov: report: full/out: No space left on device\n",
    )  # fmt: skip
    for options in (["--missing"], ["--format", "lcov"], ["--format", "xml", "-o", "out"]):
        done = run([*report, *options], folder, TMPDIR=f"{folder}/full")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"pykcov: report: \S+/full/\S+: No space left on device\n", done.stderr)
    assert not (folder / "out").exists()


def test_a_file_that_may_not_grow_is_one_line_for_a_data_file_too(folder: Path) -> None:
    # Another error of the database: not even a disk is full.
    limited = ["bash", "-c", 'ulimit -f 1; "$@"', "bash", *PYKCOV, "report", "guest.trace"]
    done = run([*limited, "--format", "coverage", "-o", "out"], folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("pykcov: report: out: ")
    assert not (folder / "out").exists()


def test_a_report_that_fails_leaves_the_old_file(folder: Path) -> None:
    for name in FORMATS[1:]:
        pykcov(folder, "report", "guest.trace", "--format", name, "-o", f"out.{name}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "app.py").write_text("# something else\n")
    for name in ("coverage", "lcov", "xml"):
        pykcov(folder, "report", "member.trace", "--format", name, "-o", f"out.{name}", status=2)
    before["app.py"] = b"# something else\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_data_file_in_use_is_not_replaced(folder: Path) -> None:
    pykcov(folder, "report", "guest.trace", "--format", "coverage")
    before = (folder / ".coverage").read_bytes()
    with closing(sqlite3.connect(folder / ".coverage")) as database:
        database.execute("BEGIN IMMEDIATE")
        said = pykcov(folder, "report", "member.trace", "--format", "coverage", status=2)
    assert "report: .coverage: another process is writing to it" in said
    assert (folder / ".coverage").read_bytes() == before
    assert not list(folder.glob("*.tmp"))


def test_a_mistake_in_the_configuration_of_coverage_py_is_one_line(folder: Path) -> None:
    (folder / ".coveragerc").write_text("[report]\nexclude_lines =\n    (\n")
    for command in (["report", "--missing"], ["report", "--show-source"], ["html"]):
        assert "exclude" in pykcov(folder, *command, "guest.trace", status=2)


def test_a_plugin_of_coverage_py_that_is_not_there_is_one_line(folder: Path) -> None:
    (folder / ".coveragerc").write_text("[run]\nplugins = no_such_plugin\n")
    for command in (
        ["report", "--missing"], ["report", "--show-source"], ["report", "--format", "lcov"],
        ["report", "--format", "xml"], ["html"],
    ):  # fmt: skip
        said = pykcov(folder, *command, "guest.trace", status=2)
        assert said == "pykcov: report: a plugin of coverage.py: No module named 'no_such_plugin'\n"


def test_without_coverage_py_one_line_says_what_to_install(folder: Path) -> None:
    (folder / "none").mkdir()
    (folder / "none" / "coverage.py").write_text("raise ImportError('none')\n")
    for options in (["--missing"], ["--format", "xml"], ["--format", "coverage"]):
        done = run([*PYKCOV, "report", "guest.trace", *options], folder, PYTHONPATH="none")
        assert done.returncode == 2
        assert done.stderr == (
            "pykcov: report: this needs coverage.py: python -m pip install 'pykcov[coverage]'\n"
        )
    for options in (["report", "--show-source"], ["report", "--tree"], ["html"]):
        done = run([*PYKCOV, *options, "guest.trace"], folder, PYTHONPATH="none")
        assert done.returncode == 0, done.stderr


def test_a_reader_of_json_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    places = {pc: ("line", "/x.py", pc, "f") for pc in range(1, 200_000)}
    from pykcov.codemap import Place

    Trace(places, places={pc: Place(*p) for pc, p in places.items()}).save(tmp_path / "x.trace")
    with subprocess.Popen(
        [*PYKCOV, "report", "--format", "json", "x.trace"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(20) == b'{"format": "pykcov r'
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_names_that_are_not_text_give_no_traceback(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    folder.mkdir()
    write(folder, "app.py", PROGRAM)
    pykcov_run(folder, "-q", "app.py", "guest")
    for options in (["--format", "json"], ["--tree"], ["--pcs"], []):
        done = subprocess.run(
            [*PYKCOV, "report", *options], cwd=folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"app.py" in done.stdout
    for format in ("lcov", "coverage"):  # coverage.py knows no such file
        done = subprocess.run(
            [*PYKCOV, "report", "--format", format], cwd=folder, capture_output=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith(b"pykcov: report: not for coverage.py: ")
        assert done.stderr.count(b"\n") == 1


def test_options_of_text_are_for_text(folder: Path) -> None:
    done = run([*PYKCOV, "report", "--missing", "--format", "json", "guest.trace"], folder)
    assert done.returncode == 2
    assert done.stderr.endswith("error: --missing is for --format text\n")
    done = run([*PYKCOV, "report", "--missing", "--pcs"], folder)
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr
