"""Other tools that trace run beside pykcov, and both see what they would see alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """\
def inner(n):
    if n % 2:
        return n
    return -n


def outer(n):
    total = 0
    for i in range(n):
        total += inner(i)
    return total
"""
OURS = [("entry", 7), ("line", 8), ("line", 9)] + [
    step
    for i in range(3)
    for step in (
        ("line", 10), ("entry", 1), ("line", 2), ("line", 3 if i % 2 else 4), ("line", 9),
    )
] + [("line", 11)]  # fmt: skip

SHOW = """
def show(trace):
    places = map(pykcov.symbolize, trace)
    return [(place.kind, place.line) for place in places if place.file.endswith("work.py")]
"""


def run(
    folder: Path, program: str, *, environment: dict[str, str] | None = None, text: str = ""
) -> str:
    (folder / "work.py").write_text(WORK)
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env={**os.environ, **(environment or {})},
        input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


CORES = ["ctrace", "pytrace"] + (["sysmon"] if sys.version_info >= (3, 12) else [])


@pytest.mark.parametrize("first", ["coverage", "pykcov"])
@pytest.mark.parametrize("core", CORES)
def test_coverage_py_and_pykcov_see_the_same_beside_each_other(
    core: str, first: str, tmp_path: Path
) -> None:
    if sys.version_info < (3, 12) and first == "pykcov" and core == "ctrace":
        pytest.skip(
            "3.11 has one trace function, and this one is set from C: kernel-differences.md"
        )
    out = run(
        tmp_path,
        "import coverage, pykcov, work\n" + SHOW + f"""
cov = coverage.Coverage(include=["*/work.py"], config_file=False, data_file=None)
collection = pykcov.collect(include=["*/work.py"])
if {first!r} == "coverage":
    cov.start()
    with collection:
        work.outer(3)
    cov.stop()
else:
    with collection:
        cov.start()
        work.outer(3)
        cov.stop()
print(show(collection.trace))
print(sorted(cov.get_data().lines(work.__file__)))
""",
        environment={"COVERAGE_CORE": core},
    )  # fmt: skip
    assert out == f"{OURS}\n[2, 3, 4, 8, 9, 10, 11]\n"


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_python_trace_function_is_kept_and_called(when: str, tmp_path: Path) -> None:
    """As a debugger's would be: set before the collection, or while it is open."""
    out = run(
        tmp_path,
        "import sys, pykcov, work\n" + SHOW + f"""
seen = []
def trace(frame, event, arg):
    if frame.f_code.co_filename.endswith("work.py"):
        seen.append((event, frame.f_lineno))
    return trace
def alone():
    sys.settrace(trace)
    work.outer(3)
    sys.settrace(None)
alone()
expected = seen[:]
seen.clear()
collection = pykcov.collect(include=["*/work.py"])
if {when!r} == "before":
    sys.settrace(trace)
    with collection:
        work.outer(3)
        assert sys.gettrace() is trace
    assert sys.gettrace() is trace
    sys.settrace(None)
else:
    with collection:
        sys.settrace(trace)
        work.outer(3)
        assert sys.gettrace() is trace
        sys.settrace(None)
print(show(collection.trace))
assert seen == expected, (seen, expected)
assert sys.gettrace() is None
""",
    )  # fmt: skip
    assert out == f"{OURS}\n"


def test_a_trace_function_that_raises_is_taken_off_and_pykcov_stays(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        "import sys, pykcov, work\n" + SHOW + """
def trace(frame, event, arg):
    if frame.f_code.co_name == "inner":
        raise KeyError("from the tracer")
    return trace
with pykcov.collect(include=["*/work.py"]) as collection:
    sys.settrace(trace)
    try:
        work.outer(3)
    except KeyError as error:
        print(error)
    assert sys.gettrace() is None
    print(work.outer(1))
print(show(collection.trace)[-6:])
""",
    )  # fmt: skip
    assert (
        out
        == "'from the tracer'\n0\n"
        + str([("line", 10), ("entry", 1), ("line", 2), ("line", 4), ("line", 9), ("line", 11)])
        + "\n"
    )


def test_pdb_stops_steps_and_continues_inside_a_collection(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        "import pdb, pykcov, work\n" + SHOW + """
with pykcov.collect(include=["*/work.py"]) as collection:
    debugger = pdb.Pdb(nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.runcall(work.outer, 3)
print()
print(show(collection.trace))
""",
        text="next\nnext\nstep\nstep\nstep\np n\ncontinue\n",
    )  # fmt: skip
    assert "> " in out and "work.py(4)inner()" in out
    assert out.splitlines()[-1] == str(OURS)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_other_tools_of_sys_monitoring_keep_their_events(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        "import sys, pykcov, work\n" + SHOW + """
monitoring = sys.monitoring
E = monitoring.events
seen = []
for tool in (5, 2):  # the ids that pykcov tries first
    monitoring.use_tool_id(tool, f"other{tool}")
def line(code, number):
    if code.co_filename.endswith("work.py"):
        seen.append(number)
monitoring.register_callback(5, E.LINE, line)
monitoring.set_events(5, E.LINE)
work.outer(3)
expected = seen[:]
seen.clear()
with pykcov.collect(include=["*/work.py"]) as collection:
    work.outer(3)
assert seen == expected
seen.clear()
work.outer(3)
assert seen == expected
print(show(collection.trace))
""",
    )  # fmt: skip
    assert out == f"{OURS}\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_without_a_free_tool_id_the_error_says_so(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
import sys, pykcov
for tool in range(6):
    sys.monitoring.use_tool_id(tool, "other")
try:
    with pykcov.collect():
        pass
except pykcov.KcovError as error:
    print(error)
with pykcov.open() as device:
    device.init_trace(64)
    try:
        device.enable()
    except pykcov.KcovError as error:
        print(error)
    device.remote_enable(area_size=64, handles=[1])
    sys.stderr = sys.stdout
    with pykcov.remote(1):
        pass
    device.disable()
""",
    )
    assert out.count("all tool ids of sys.monitoring are in use by others") == 3
