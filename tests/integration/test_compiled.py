"""Compiled probes as a user has them: instrument(), the import of modules, the cache, beside other tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from .commands import write

MONITORING = sys.version_info >= (3, 12)

HELPERS = """
import importlib, json, sys, warnings
import pykcov
from pykcov import _recorder, probes
warnings.simplefilter("error", pykcov.KcovWarning)
HERE = sys.path[0] = "."
def show(trace):
    return [(at.kind, at.file.rsplit("/", 1)[-1], at.line) for at in map(trace.symbolize, trace.pcs)]
def tell(**what):
    print("TOLD" + json.dumps(what))
"""

MOD = """
def work(n):
    total = 0
    for i in range(n):
        total += i
    return total

class Thing:
    def __init__(self, x):
        self.x = x
    @property
    def double(self):
        return super().__getattribute__("x") * 2

def fail(x):
    return [1 / (x - 1),
            2 / x]
"""


def ask(directory: Path, program: str, *options: str, **environment: str) -> dict[str, Any]:
    """Runs a program, and returns what it tells."""
    (directory / "program.py").write_text(HELPERS + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, *options, "program.py"], cwd=directory, capture_output=True, text=True,
        timeout=100, check=False,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PYKCOV_NAMESPACE": f"compiled-{os.getpid()}",
            "XDG_CACHE_HOME": str(directory / "cache"),
            **environment,
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("TOLD"):
            told |= json.loads(line[4:])
    return told | {"stderr": done.stderr}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write(tmp_path, "mod.py", MOD)
    return tmp_path


BOTH = """
compiled = sys.argv[1:] == [] and {compiled}
if compiled:
    pykcov.instrument(include=["./mod.py"])
import mod
with pykcov.collect(include=["./mod.py"], branch={branch}) as c:
    mod.work(3)
    mod.Thing(4).double
    try:
        mod.fail(0)
    except ZeroDivisionError:
        pass
sites, awake = _recorder.count_sites()
tell(events=show(c.trace), pcs=list(c.trace.pcs), probe=c.trace.probe, sites=sites, awake=awake)
"""


@pytest.mark.parametrize("branch", [False, True])
def test_both_kinds_of_probe_record_the_same(here: Path, branch: bool) -> None:
    compiled, events = (
        ask(here, BOTH.format(compiled=compiled, branch=branch)) for compiled in (True, False)
    )
    # A list on two lines: its first line happens again when it is built, which is no statement.
    assert {tuple(e) for e in compiled["events"]} == {tuple(e) for e in events["events"]}
    assert compiled["sites"] > 0 and not compiled["awake"]
    assert events["sites"] == 0
    if not branch:
        assert compiled["probe"] == "compiled"


ORDERED = {
    "what a loop goes over has loops": """
        def g():
            for i in range(2):
                y = i
            return [1, 2]
        def f():
            for x in list(g()):
                y = x
            for k in [g(), 2]:
                y = k
            for i, z in enumerate([g(), 5]):
                y = z
        f()
        """,
    "what a loop goes over is made by the same loop": """
        def f(n):
            for x in sorted(f(n - 1) if n else [1]):
                y = x
            return [1, 2]
        f(3)
        """,
    "making what a loop goes over fails": """
        def source(bad):
            if bad:
                raise ValueError
            return [1, 2, 3]
        def gen(bad):
            for x in list(source(bad)):
                yield x
        a = gen(False)
        next(a)
        try:
            next(gen(True))
        except ValueError:
            pass
        next(a)
        """,
    "a loop fails where it goes on": """
        def f(pairs):
            for a, b in pairs:
                x = a
        def g():
            for a, b in [(1, 2), (3,)]:
                x = a
        def h():
            for a, b in zip([1, 2], [1], strict=True):
                x = a
        def i(d):
            for d["x"] in (1, 2):
                x = 1
        class D(dict):
            def __setitem__(self, key, value):
                if value == 2:
                    raise ValueError
        for call in (lambda: f([(1, 2), 3]), g, h, lambda: i(D())):
            try:
                call()
            except (ValueError, TypeError):
                pass
        """,
    "where a loop's value goes runs code": """
        class A:
            def put(self, value):
                self.y = value
            x = property(None, put)
        def f(a):
            for a.x in [1, 2]:
                y = 1
        class T:
            def __str__(self):
                return S("ab")
        class S(str):
            def __iter__(self):
                yield 1
                yield 2
        def g():
            for c in str(T()):
                y = 1
        f(A())
        g()
        """,
    "an exception passes the ends of two managers": """
        class M:
            def __enter__(self):
                return self
            def __exit__(self, *error):
                return False
        def f(fails):
            with M() as a, M() as b, M():
                x = 1
                if fails:
                    1 / 0
            with M() as a, M() as b: x = 1
        f(False)
        try:
            f(True)
        except ZeroDivisionError:
            pass
        """,
}


@pytest.mark.parametrize("case", ORDERED)
def test_loops_and_blocks_are_recorded_in_the_order_of_events(here: Path, case: str) -> None:
    write(here, "ordered.py", textwrap.dedent(ORDERED[case]))
    program = """
        if {compiled}:
            pykcov.instrument(include=["./ordered.py"])
        with pykcov.collect(include=["./ordered.py"]) as c:
            import ordered
        tell(events=show(c.trace), probe=c.trace.probe)
        """
    compiled, events = (ask(here, program.format(compiled=kind)) for kind in (True, False))
    assert compiled["probe"] == "compiled" != events["probe"]
    assert compiled["events"] == events["events"]


def test_pcs_are_the_same_in_processes_of_both_kinds(here: Path) -> None:
    told = ask(
        here,
        """
        import os, subprocess
        if sys.argv[1:]:
            if sys.argv[1] == "compiled":
                pykcov.instrument(include=["./mod.py"])
            import mod
            with pykcov.remote(0x77):
                mod.work(2)
            raise SystemExit
        with pykcov.open(include=["./mod.py"], sections=10) as device:
            device.init_trace(1000)
            device.remote_enable(area_size=100, handles=[0x77])
            for kind in ("compiled", "events", "compiled"):
                subprocess.run([sys.executable, "program.py", kind], check=True)
            trace = device.trace()
            device.disable()
        tell(parts=[list(trace.pcs[s.start:s.end]) for s in trace.sections])
        """,
    )
    one, two, three = told["parts"]
    assert one == two == three and len(one) > 3


def test_the_program_sees_what_it_would_see_without(here: Path) -> None:
    told = ask(
        here,
        """
        import inspect, pickle, traceback, marshal
        pykcov.instrument(include=["./mod.py"])
        import mod
        from importlib.machinery import SourceFileLoader
        with pykcov.collect(include=["./mod.py"]):
            try:
                mod.fail(0)
            except ZeroDivisionError:
                text = traceback.format_exc()
            code = marshal.loads(marshal.dumps(mod.work.__code__))
        tell(
            text=text, source=inspect.getsource(mod.work), doubled=mod.Thing(4).double,
            loader=isinstance(mod.__loader__, SourceFileLoader), cached=mod.__cached__,
            pickled=pickle.loads(pickle.dumps(mod.Thing(3))).x,
            copied=type(mod.work)(code, {"range": range})(4),
            lines=[line for _, _, line in mod.fail.__code__.co_lines() if line],
        )
        """,
    )
    assert "    2 / x]\n    ~~^~~\nZeroDivisionError" in told["text"]
    assert told["source"].startswith("def work(n):\n    total = 0\n")
    assert (told["doubled"], told["pickled"], told["copied"]) == (8, 3, 6)
    assert told["loader"] and told["cached"].endswith(".pyc")
    assert set(told["lines"]) == {14, 15, 16}


def test_code_without_probes_is_recorded_in_the_same_collection(here: Path) -> None:
    write(here, "early.py", "def f():\n    return 1\n")
    told = ask(
        here,
        """
        import early, os
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pykcov.instrument(include=["./*.py"])
        import mod
        with pykcov.collect(include=["./mod.py"]) as alone:
            mod.work(1)
        with pykcov.collect(include=["./mod.py", "./early.py", "./made.py"]) as c:
            mod.work(1)
            early.f()
            names = {}
            exec(compile("def g():\\n    return 2\\n", os.path.abspath("made.py"), "exec"), names)
            names["g"]()
            mod.work(1)
        tell(warned=[str(w.message) for w in caught], alone=alone.trace.probe, probe=c.trace.probe,
             events=show(c.trace), describe=probes.describe())
        """,
    )
    (warned,) = told["warned"]
    assert warned == "instrument: imported before, so event probes record them: early"
    assert told["alone"] == "compiled"
    assert told["probe"].startswith("compiled, ")
    kinds = [(file, line) for kind, file, line in told["events"] if kind == "line"]
    work = [("mod.py", line) for line in (2, 3, 4, 3, 5)]
    assert kinds == [*work, ("early.py", 2), ("made.py", 1), ("made.py", 2), *work]
    assert any(
        "early.py" in text for label, text in told["describe"] if label.startswith("without")
    )


def test_instrument_may_be_called_while_a_collection_is_open(here: Path) -> None:
    """The event probes that recorded so far say nothing of code with probes, and those slept."""
    told = ask(
        here,
        """
        with pykcov.collect(include=["./mod.py"]) as c:
            pykcov.instrument(include=["./mod.py"])
            import mod
            mod.work(1)
        tell(events=show(c.trace), awake=_recorder.count_sites()[1])
        """,
    )
    assert told["awake"] is False
    lines = [line for kind, _, line in told["events"] if kind == "line"]
    assert lines[-5:] == [2, 3, 4, 3, 5]


def test_instrument_of_a_module_gives_its_functions_probes(here: Path) -> None:
    told = ask(
        here,
        """
        import mod
        started = mod.work
        pykcov.instrument(mod)
        with pykcov.collect(include=["./mod.py"]) as c:
            result = started(1), mod.Thing(4).double
        tell(result=result, probe=c.trace.probe, lines=[e[2] for e in show(c.trace)])
        """,
    )
    assert told["result"] == [0, 8]
    assert told["probe"] == "compiled"
    assert told["lines"] == [1, 2, 3, 4, 3, 5, 8, 9, 10, 12]


def test_a_function_whose_source_has_changed_is_named_and_left(here: Path) -> None:
    told = ask(
        here,
        """
        import mod
        text = open("mod.py").read().replace("total += i", "total += i * 2")
        open("mod.py", "w").write(text)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pykcov.instrument(mod)
        with pykcov.collect(include=["./mod.py"]) as c:
            result = mod.work(3)
        tell(warned=[str(w.message) for w in caught], result=result, probe=c.trace.probe)
        """,
    )
    (warned,) = told["warned"]
    assert "mod: the source is not what these were made of" in warned and warned.endswith(": work")
    assert told["result"] == 3
    assert told["probe"].startswith("compiled, ")


def test_what_has_no_source_is_named(here: Path) -> None:
    told = ask(
        here,
        """
        import math
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pykcov.instrument(sys.modules["itertools"])
        tell(warned=[str(w.message) for w in caught])
        """,
    )
    assert told["warned"] == [
        "instrument: itertools has no source that can be compiled with probes"
    ]


def test_a_module_can_be_executed_twice(here: Path) -> None:
    told = ask(
        here,
        """
        pykcov.instrument(include=["./mod.py"])
        import mod
        first = mod.work
        again = importlib.reload(mod).work
        with pykcov.collect(include=["./mod.py"]) as c:
            first(1), again(1)
        half = len(c.trace) // 2
        tell(equal=first.__code__ == again.__code__, same=c.trace.pcs[:half] == c.trace.pcs[half:])
        """,
    )
    assert told["equal"] and told["same"]


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\\xff", "return 1\n", "import nosuch\n"])
def test_what_is_wrong_with_a_module_is_said_by_python(here: Path, text: str) -> None:
    write(here, "wrong.py", text)
    program = """
        import traceback
        {}
        try:
            import wrong
        except BaseException:
            tell(text=traceback.format_exc())
        """
    plain = ask(here, program.format(""))
    probed = ask(here, program.format("pykcov.instrument(include=['./wrong.py'])"))
    strip = [line for line in plain["text"].splitlines() if "program.py" not in line]
    assert [line for line in probed["text"].splitlines() if "program.py" not in line] == strip


def test_a_second_start_takes_the_code_from_the_cache(here: Path) -> None:
    program = """
        from pykcov.probes import cache, compiled
        calls = []
        make = compiled.compile_file
        compiled.compile_file = lambda *a, **k: calls.append(a[1]) or make(*a, **k)
        pykcov.instrument(include=["./mod.py"])
        import mod, os
        with pykcov.collect(include=["./mod.py"]) as c:
            mod.work(2)
        names = os.listdir(cache.directory()) if os.path.isdir(cache.directory()) else []
        tell(compiled=len(calls), events=show(c.trace), entries=names,
             modes=[oct(os.stat(os.path.join(cache.directory(), n)).st_mode & 0o777) for n in names])
        """
    first, second = ask(here, program), ask(here, program)
    assert (first["compiled"], second["compiled"]) == (1, 0)
    assert first["events"] == second["events"]
    assert first["modes"] == ["0o600"]
    (name,) = first["entries"]
    entry = here / "cache" / "pykcov" / "code" / name
    whole = entry.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole[:100] + b"x" + whole[101:], b"x" * 4000):
        entry.write_bytes(damaged)
        entry.chmod(0o600)
        assert ask(here, program)["compiled"] == 1, "a damaged entry is as if it were not there"
        assert entry.read_bytes() == whole
    entry.chmod(0o620)
    assert ask(here, program)["compiled"] == 1, "one that others can write, too"
    os.utime(here / "mod.py", (1, 1))
    assert ask(here, program)["compiled"] == 1, "and one of another version of the source"
    os.utime(here / "mod.py", (1, 1))
    kept = ask(here, program, "-B")
    assert kept["compiled"] == 0
    assert ask(here, program, "-O")["compiled"] == 1, "another optimisation is another entry"


def test_what_was_not_used_for_a_month_is_removed_from_the_cache(here: Path) -> None:
    program = """
        pykcov.instrument(include=["./mod.py", "./other.py"])
        import {}
        tell()
        """
    entries, old = here / "cache" / "pykcov" / "code", time.time() - 31 * 24 * 3600
    ask(here, program.format("mod"))
    (used,) = entries.iterdir()
    os.utime(used, (old, old))
    ask(here, program.format("mod"))
    assert used.stat().st_mtime > old + 1, "it has been used"
    unused = entries / ("0" * 32)
    unused.write_bytes(b"")
    os.utime(unused, (old, old))
    write(here, "other.py", MOD)
    ask(here, program.format("other"))
    assert used.exists()
    assert not unused.exists()


def test_without_bytecode_files_nothing_is_kept(here: Path) -> None:
    program = """
        pykcov.instrument(include=["./mod.py"])
        import mod
        tell()
        """
    ask(here, program, "-B")
    assert not (here / "cache").exists()


TRACER = """
pykcov.instrument(include=["./mod.py"])
import mod
for _ in range(20):
    mod.work(3)
lines = []
def trace(frame, what, arg):
    if frame.f_code.co_filename.endswith("mod.py"):
        if what == "line":
            lines.append(frame.f_lineno)
        return trace
def traced():
    sys.settrace(trace)
    try:
        mod.work(2)
    finally:
        sys.settrace(None)
traced()
asleep, lines[:] = lines[:], []
with pykcov.collect(include=["./mod.py"]) as c:
    traced()
awake, lines[:] = lines[:], []
mod.work(2)
with pykcov.collect(include=["./mod.py"]) as d:
    mod.work(2)
tell(asleep=asleep, awake=awake, events=[e[2] for e in show(c.trace)], later=[e[2] for e in show(d.trace)])
"""


def test_other_tracers_see_the_lines_that_they_would_see(here: Path) -> None:
    plain = ask(here, TRACER.replace('pykcov.instrument(include=["./mod.py"])', ""))
    probed = ask(here, TRACER)
    assert probed["asleep"] == probed["awake"] == plain["asleep"] == [2, 3, 4, 3, 4, 3, 5]
    assert probed["events"] == probed["later"] == [1, 2, 3, 4, 3, 4, 3, 5]


def test_a_program_that_traces_itself_sees_nothing_of_pykcov(here: Path) -> None:
    told = ask(
        here,
        """
        pykcov.instrument(include=["./mod.py"])
        import mod
        seen, remote = [], pykcov.remote
        def see(frame, event, arg):
            if "/pykcov/" in frame.f_code.co_filename:
                seen.append((event, frame.f_code.co_qualname))
        with pykcov.collect(include=["./mod.py"]) as c:
            sys.settrace(see)
            exec("x = 1")
            mod.work(30_000)  # the section's area is full several times
            with remote(c.handle):
                mod.work(1)
            sys.settrace(None)
        tell(seen=seen, traced=repr(sys.gettrace()), events=len(c.trace))
        """,
    )
    assert told["events"] > 60_000 and told["traced"] == "None"
    # The code of exec() is gone.
    assert [name for _, name in told["seen"] if "_keep" not in name] == []


LONG_STATEMENTS = """
def gen():
    yield 1
def dec(x):
    def wrap(c):
        return c
    return wrap
def f(a):
    x = \\
      1
    y = {
        'a': 1,
        'b': a}
    z = {
        'a': a}
    w = [
        a,
        1]
    v = [
        1, 2, 3]
    for _ in (
        gen()
    ):
        pass
    t = (
        a,
        2)
    @dec(
        1)
    def g():
        pass
    with (
        open("/dev/null")
    ) as q:
        pass
    if (
        a
        and x):
        pass
    while (
        not a
    ):
        pass
    u = (
        a
        if x else
        y)
    del (
        u)
    assert (
        a), (
        1)
    x += (
        1)
    y[
      'b'] = 3
    r = f\"\"\"{
      a}\"\"\"
    p: int = (
       2)
    dec(
      1)
    dec(1)(
      2)
    def h(
        b,
        c=a,
        d=2):
        pass
    async def i(
        *, b,
        c=1):
        pass
    @(
      dec)(
      1)
    def j(b=
          a):
        pass
    @(
      dec)(
      1)
    class K:
        pass
    lam = lambda b=\\
      a: b
    l = [
        m
        for m in (1, a)
    ]
    n = {
        m: 1
        for m in [
            o
            for o in (1, a)
        ]
    }
    s = {
        1,
        2}
    return (
        a)
"""
if sys.version_info >= (3, 12):
    LONG_STATEMENTS = LONG_STATEMENTS.replace(
        "    return (",
        """\
    def p[T](
        b=a):
        pass
    return (""",
    )


def test_statements_that_begin_below_their_first_line_are_seen_as_without(here: Path) -> None:
    write(here, "mod.py", LONG_STATEMENTS)
    program = """
        if {probed}:
            pykcov.instrument(include=["./mod.py"])
        import mod
        seen = []
        def see(frame, event, arg):
            if frame.f_code is mod.f.__code__:
                seen.append(frame.f_lineno)
            return see
        def look():
            seen.clear()
            sys.settrace(see)
            mod.f(1)
            sys.settrace(None)
            return seen[:]
        asleep = look()
        with pykcov.collect(include=["./mod.py"]):
            awake = look()
        tell(asleep=asleep, awake=awake)
        """
    plain, probed = (ask(here, program.format(probed=probed)) for probed in (False, True))
    assert len(plain["asleep"]) > 50
    assert probed["asleep"] == probed["awake"] == plain["asleep"]


@pytest.mark.skipif(not MONITORING, reason="3.11 has no sys.monitoring")
@pytest.mark.parametrize("event", ["LINE", "INSTRUCTION", "JUMP", "BRANCH"])
def test_sites_wake_and_sleep_under_events_of_another_tool(here: Path, event: str) -> None:
    told = ask(
        here,
        f"""
        pykcov.instrument(include=["./mod.py"])
        import mod
        monitoring, E = sys.monitoring, sys.monitoring.events.{event}
        monitoring.use_tool_id(3, "other")
        seen = []
        monitoring.register_callback(3, E, lambda code, *a: seen.append(a))
        def collect():
            with pykcov.collect(include=["./mod.py"]) as c:
                assert mod.work(2) == 1
            return [e[2] for e in show(c.trace)]
        found = [collect()]
        for on in (True, False, True, False):
            if on:
                monitoring.set_local_events(3, mod.work.__code__, E)
                assert mod.work(2) == 1
            else:
                found.append(collect())  # armed while asleep
                monitoring.set_local_events(3, mod.work.__code__, 0)
            found.append(collect())
            assert mod.work(2) == 1
        tell(found=found, seen=len(seen))
        """,
    )
    assert told["seen"] > 0
    for found in told["found"]:
        assert found == [1, 2, 3, 4, 3, 4, 3, 5]


def test_a_zip_file_is_recorded_by_events(here: Path) -> None:
    import zipfile

    with zipfile.ZipFile(here / "zipped.zip", "w") as archive:
        archive.writestr("inside.py", "def f():\n    return 1\n")
    told = ask(
        here,
        """
        sys.path.insert(0, "zipped.zip")
        pykcov.instrument(include=["*/inside.py"])
        import inside
        with pykcov.collect(include=["*/inside.py"]) as c:
            inside.f()
        tell(events=show(c.trace), probe=c.trace.probe)
        """,
    )
    assert told["events"] == [["entry", "inside.py", 1], ["line", "inside.py", 2]]
    assert told["probe"].startswith("compiled, ")
