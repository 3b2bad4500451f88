from __future__ import annotations

import errno
import json
import os
import stat
import struct
import sys
import tracemalloc
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykcov import KcovError, Location, Trace, symbolize, tracefile
from pykcov.codemap import PYTHON_PC_BASE, Place
from pykcov.trace import FileCount, SectionRecord

A, B = "/src/a.py", "/src/b.py"
BASE = PYTHON_PC_BASE + 0x1000


def line(number: int, function: str = "<module>", file: str = A) -> Place:
    return Place("line", file, number, function)


def entry(number: int, function: str, file: str = A) -> Place:
    return Place("entry", file, number, function)


def trace_of(*places: Place | None, **more: Any) -> Trace:
    """A trace with one PC for each distinct place; None is a PC that nobody knows."""
    numbers = {place: BASE + i for i, place in enumerate(dict.fromkeys(places))}
    known = {pc: place for place, pc in numbers.items() if place is not None}
    return Trace(array("Q", [numbers[place] for place in places]), places=known, **more)


SECTIONS = [SectionRecord(0x42, 10, 11, "worker-1", 7, 0, 2, 1000, 2000)]
SMALL = trace_of(
    entry(1, "<module>"), line(1), line(5), entry(1, "f"), line(2, "f"), line(2, "f"),
    line(3, "g", B), None, Place("arm", A, 5, "<module>", 3, 5, 9, "true"),
    sections=SECTIONS, dropped=3, probe="events",
)  # fmt: skip


# ------------------------------------------------------------------------------ what a trace says


def test_lines_are_the_lines_on_which_a_statement_started_by_file() -> None:
    assert SMALL.lines() == {A: {1, 2, 5}, B: {3}}


def test_functions_are_those_that_were_entered_and_no_modules() -> None:
    assert SMALL.functions() == {A: {"f"}}


def test_the_events_of_all_files_add_up_to_the_length_of_the_trace() -> None:
    counts = SMALL.files()
    assert counts == {"": FileCount(0, 0, 1), A: FileCount(3, 1, 7), B: FileCount(1, 0, 1)}
    assert sum(count.events for count in counts.values()) == len(SMALL) == 9


def test_two_lambdas_of_one_name_count_as_two_functions() -> None:
    trace = trace_of(entry(3, "<lambda>"), entry(4, "<lambda>"))
    assert trace.functions() == {A: {"<lambda>"}}
    assert trace.files()[A].functions == 2


def test_iteration_gives_the_pcs_in_order_with_repeats() -> None:
    assert list(SMALL) == list(SMALL.pcs)
    assert SMALL.pcs[4] == SMALL.pcs[5]
    assert SMALL.pcs.typecode == "Q"


def test_a_trace_carries_what_it_was_given_and_only_the_places_it_needs() -> None:
    trace = Trace([BASE], places={BASE: line(1), BASE + 1: line(2)}, dropped=3, probe="events")
    assert trace.places == {BASE: line(1)}
    assert (trace.sections, trace.dropped, trace.probe) == ((), 3, "events")


@pytest.mark.parametrize("name", ["pcs", "places", "sections", "dropped", "probe", "anything"])
def test_a_trace_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(SMALL, name, 1)


def test_a_trace_does_not_share_the_array_that_it_was_made_of() -> None:
    pcs = array("Q", [1, 2])
    trace = Trace(pcs, places={})
    pcs[0] = 99
    assert list(trace) == [1, 2]


def test_symbolize_of_a_trace_uses_the_places_that_it_carries() -> None:
    assert SMALL.symbolize(SMALL.pcs[8]) == Location(
        SMALL.pcs[8], "arm", A, 5, "<module>", 3, 5, 9, "true"
    )
    assert SMALL.symbolize(12345) == Location(12345, "unknown", "", 0, "")


# ---------------------------------------------------------------------------------- set operations


def pcs(*numbers: int, **more: Any) -> Trace:
    return Trace(numbers, places={}, **more)


def test_set_operations_keep_the_order_of_the_left_operand_and_first_occurrences() -> None:
    a, b = pcs(3, 1, 3, 2), pcs(4, 2, 4, 3)
    assert list(a | b) == [3, 1, 2, 4]
    assert list(a & b) == [3, 2]
    assert list(a - b) == [1]


def test_set_operations_keep_the_places_that_are_left() -> None:
    a, b = trace_of(line(1), line(2)), trace_of(line(1))
    assert (a | b).lines() == {A: {1, 2}}
    assert (a - b).lines() == {A: {2}}


def test_set_operations_have_no_sections_and_the_loss_of_both() -> None:
    joined = SMALL | pcs(dropped=4, probe="compiled")
    assert (joined.sections, joined.dropped, joined.probe) == ((), 7, "events, compiled")


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_set_operations_are_those_of_the_sets_of_pcs(left: list[int], right: list[int]) -> None:
    a, b = pcs(*left), pcs(*right)
    assert set(a | b) == set(left) | set(right)
    assert set(a & b) == set(left) & set(right)
    assert set(a - b) == set(left) - set(right)


def test_traces_are_equal_if_the_same_happened_in_the_same_order() -> None:
    assert pcs(1, 2, 1) == pcs(1, 2, 1, dropped=5, probe="x")
    assert hash(pcs(1, 2, 1)) == hash(pcs(1, 2, 1, dropped=5))
    assert pcs(1, 2, 1) != pcs(1, 2)
    assert pcs(1, 2) != pcs(2, 1)
    assert pcs() != []


@pytest.mark.parametrize("operation", ["__or__", "__and__", "__sub__"])
def test_set_operations_with_anything_but_a_trace_are_a_type_error(operation: str) -> None:
    assert getattr(SMALL, operation)({1}) is NotImplemented


def test_contains_and_truth_are_those_of_the_pcs() -> None:
    assert SMALL.pcs[0] in SMALL
    assert 1 not in SMALL
    assert not pcs()


# -------------------------------------------------------------------------------------------- arcs


def arcs(*places: Place, **more: Any) -> set[tuple[int, int]]:
    return trace_of(*places, **more).arcs().get(A, set())


def test_arcs_begin_at_minus_the_first_line_and_end_there() -> None:
    assert arcs(entry(1, "f"), line(2, "f"), line(4, "f")) == {(-1, 2), (2, 4), (4, -1)}


def test_a_line_of_the_caller_pops_what_was_called() -> None:
    found = arcs(
        entry(1, "<module>"), line(1), line(8),
        entry(1, "f"), line(2, "f"), entry(5, "g"), line(6, "g"), line(3, "f"),
        line(9),
    )  # fmt: skip
    assert found == {
        (-1, 1), (1, 8), (8, 9), (9, -1), (-1, 2), (2, 3), (3, -1), (-5, 6), (6, -5),
    }  # fmt: skip


def test_a_generator_goes_on_where_it_was_suspended() -> None:
    g = "gen"
    found = arcs(
        entry(1, "<module>"), line(9), entry(1, g), line(2, g), line(10), line(9),
        line(3, g), line(10), line(9), line(4, g),
    )  # fmt: skip
    assert {(-1, 2), (2, 3), (3, 4), (4, -1)} <= found
    assert not found & {(2, -1), (3, -1), (9, 3)}


def test_a_frame_that_was_already_running_has_neither_begin_nor_end() -> None:
    assert arcs(line(5, "f"), line(6, "f")) == {(5, 6)}


def test_no_arc_joins_two_sections() -> None:
    sections = [
        SectionRecord(1, 1, 1, "w", 1, 0, 2, 10, 20),
        SectionRecord(1, 1, 1, "w", 1, 2, 4, 30, 40),
    ]
    lines = line(5, "f"), line(6, "f"), line(7, "f"), line(8, "f")
    assert arcs(*lines, sections=sections) == {(5, 6), (7, 8)}
    assert arcs(*lines) == {(5, 6), (6, 7), (7, 8)}


def test_a_section_that_was_moved_in_parts_is_one_section() -> None:
    def part(tid: int, start: int, end: int, began: int) -> SectionRecord:
        return SectionRecord(1, 1, tid, "w", tid, start, end, began, 99)

    sections = [part(1, 0, 2, 10), part(2, 2, 3, 15), part(1, 3, 5, 10)]
    places = entry(1, "f"), line(2, "f"), line(7, "g"), line(3, "f"), line(4, "f")
    assert arcs(*places, sections=sections) == {(-1, 2), (2, 3), (3, 4), (4, -1)}


def test_what_lies_between_sections_is_the_tasks_own_and_goes_on() -> None:
    sections = [SectionRecord(1, 1, 2, "w", 2, 1, 2, 10, 20)]
    assert arcs(line(1), line(7, "g"), line(2), sections=sections) == {(1, 2)}


def test_a_lambda_on_a_line_of_its_own_statement_does_not_cut_that_in_two() -> None:
    # The line has one PC, and the code map may name either function for it.
    for function in ("f", "f.<locals>.<lambda>"):
        found = arcs(
            entry(1, "f"), line(2, "f"), line(3, function),
            entry(3, "f.<locals>.<lambda>"), line(3, function),
            entry(3, "f.<locals>.<lambda>"), line(3, function),
            line(4, "f"),
        )  # fmt: skip
        assert found == {(-1, 2), (2, 3), (3, 4), (4, -1), (-3, 3), (3, -3)}


def test_callbacks_without_number_do_not_pile_up() -> None:
    places = [place for _ in range(30_000) for place in (entry(1, "f"), line(2, "f"))]
    assert arcs(*places) == {(-1, 2), (2, -1)}


PROGRAM = """\
import math

class Shape:
    sides = 0

    def area(self, size):
        if size > 2:
            result = size * size
        else:
            result = 0
        return result

    one_line = lambda self: 7

def loop(count):
    total = 0
    for i in range(count):
        if i % 2:
            continue
        total += Shape().area(i)
    else:
        total += 1
    while total > 100:
        total -= 50
    return total

def fails(x):
    try:
        1 / x
    except ZeroDivisionError:
        return None
    finally:
        x += 1
    return x

def counter(n):
    i = 0
    while i < n:
        yield i
        i += 1

def deep(xs):
    return sorted(xs, key=lambda x: -x)

def decorated(f):
    return f

@decorated
def many(
    a,
    b=1,
):
    with open("/dev/null") as file:
        file.read()
    return [
        a,
        b,
    ]

result = loop(5)
for value in counter(3):
    fails(value)
fails(0)
deep([3, 1, 2])
many(1)
print(Shape().one_line(), end="")
"""


def events_of(source: str, name: str) -> Trace:
    """What a probe records, taken by a plain trace function: entries and lines in order."""
    places: list[Place] = []

    def tracer(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename != name:
            return None
        if event == "call" and code.co_code[frame.f_lasti + 1] == 0:  # RESUME at start
            places.append(entry(code.co_firstlineno, code.co_qualname, name))
        elif event == "line":
            places.append(line(frame.f_lineno, code.co_qualname, name))
        return tracer

    code = compile(source, name, "exec")
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        exec(code, ModuleType("program").__dict__)
    finally:
        sys.settrace(before)
    # One PC for each line, as the code map has it, with the function that ran there first.
    first = {place.line: place for place in reversed(places) if place.kind == "line"}
    return trace_of(*(first[p.line] if p.kind == "line" else p for p in places))


def test_arcs_are_those_that_coverage_py_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = pytest.importorskip("coverage")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    measured = coverage.Coverage(
        data_file=None, branch=True, include=[str(file)], config_file=False
    )
    measured.start()
    try:
        exec(compile(PROGRAM, str(file), "exec"), ModuleType("program").__dict__)
    finally:
        measured.stop()
    expected = set(measured.get_data().arcs(str(file)))
    found = events_of(PROGRAM, str(file)).arcs()[str(file)]
    # The generator's last suspension is the one thing that a stream without returns cannot tell.
    assert found == expected
    assert {a for arc in found for a in arc if a > 0} == set(measured.get_data().lines(str(file)))


# --------------------------------------------------------------------------------- save and load


def test_a_loaded_trace_is_the_saved_one(tmp_path: Path) -> None:
    path = tmp_path / "one.trace"
    SMALL.save(path)
    again = Trace.load(path)
    assert again == SMALL
    assert again.places == SMALL.places
    assert (again.sections, again.dropped, again.probe) == (tuple(SECTIONS), 3, "events")
    assert again.arcs() == SMALL.arcs()


U64 = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(codec=None, exclude_categories=[]), max_size=8)
PLACES = st.builds(
    Place, st.sampled_from(["line", "entry", "arm"]), NAMES, st.integers(0, 10**6), NAMES,
    *[st.none() | st.integers(0, 10**6)] * 3, NAMES,
)  # fmt: skip


@given(st.lists(U64), st.dictionaries(U64, PLACES), U64, NAMES, st.data())
def test_any_trace_survives_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[int],
    places: dict[int, Place],
    dropped: int,
    probe: str,
    data: st.DataObject,
) -> None:
    words += list(places)
    ends = data.draw(st.lists(st.integers(0, len(words)), max_size=3))
    sections = [SectionRecord(1, 2, 3, probe, 4, 0, end, -5, 6) for end in ends]
    trace = Trace(words, places=places, sections=sections, dropped=dropped, probe=probe)
    path = tmp_path_factory.getbasetemp() / "any.trace"
    trace.save(path)
    again = Trace.load(path)
    assert again == trace
    assert again.places == places
    assert (again.sections, again.dropped, again.probe) == (tuple(sections), dropped, probe)


def test_a_long_trace_is_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "long.trace"
    trace = Trace(array("Q", range(BASE, BASE + 1000)) * 1000, places={})
    trace.save(path)
    assert path.stat().st_size < len(trace) // 8
    assert Trace.load(path) == trace


def test_file_names_that_are_not_text_survive_a_file(tmp_path: Path) -> None:
    name = os.fsdecode(b"/src/\xff.py")
    path = tmp_path / "one.trace"
    trace_of(line(1, file=name)).save(path)
    assert Trace.load(path).lines() == {name: {1}}


def test_save_replaces_a_file_and_keeps_its_mode_and_a_link_to_it(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    SMALL.save(link)
    assert link.is_symlink()
    assert Trace.load(file) == SMALL
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        SMALL.save(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    SMALL.save(path)
    broken = Trace([1], places={}, probe=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        broken.save(path)
    assert Trace.load(path) == SMALL
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_save_writes_into_a_device_and_does_not_replace_it() -> None:
    SMALL.save("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(KcovError) as caught:
        SMALL.save("/dev/full")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("path", "number"), [("no/such/directory/x", errno.ENOENT), (".", errno.EISDIR)]
)
def test_save_and_its_check_name_the_call_the_file_and_the_cause(path: str, number: int) -> None:
    calls: list[Callable[[str], None]] = [SMALL.save, tracefile.check_writable]
    for call in calls:
        with pytest.raises(KcovError) as caught:
            call(path)
        assert caught.value.errno == number
        assert str(caught.value) == f"[Errno {number}] Trace.save: {path}: {os.strerror(number)}"


def test_the_check_before_a_save_leaves_nothing_behind(tmp_path: Path) -> None:
    tracefile.check_writable(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- bad files


def refused(path: Path, cause: str, number: int = errno.EINVAL) -> None:
    with pytest.raises(KcovError) as caught:
        Trace.load(path)
    assert caught.value.errno == number
    assert str(caught.value).startswith(f"[Errno {number}] Trace.load: {path}: ")
    assert cause in str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not a pykcov trace: the file is empty"),
        (b"hello", "not a pykcov trace"),
        (b"SQLite format 3\0" + bytes(100), "not a pykcov trace"),
        (b"\x89PNG\r\n\x1a\n", "not a pykcov trace"),
        (b"\x89pykcov\r\n\x01\0\0\0\0\0\0\0", "not a pykcov trace"),
        (b"\x89pyk", "it ends early"),
        (b"\x89pykcov\n", "it ends early"),
        (b"\x89pykcov\n\x02\0\0\0\xff\xff\xff\xff", "written by a newer pykcov (format 2"),
        (b"\x89pykcov\n\0\0\0\0\0\0\0\0", "its format version is impossible"),
        (b"\x89pykcov\n\x01\0\0\0\xff\xff\xff\xff" + bytes(100), "it ends early"),
    ],
)
def test_what_is_not_a_trace_is_refused_with_its_cause(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    refused(path, cause)


def test_a_missing_file_and_a_directory_are_the_systems_errors(tmp_path: Path) -> None:
    refused(tmp_path / "none", "No such file or directory", errno.ENOENT)
    refused(tmp_path, "Is a directory", errno.EISDIR)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    SMALL.save(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        refused(path, "it ends early" if size else "empty")


def test_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    SMALL.save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        refused(path, "")


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    SMALL.save(path)
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "something follows its end")


def forged(header: object, words: bytes = b"", **changes: int) -> bytes:
    """A file that is whole and has a right checksum, and any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed = zlib.compress(text)
    data = struct.pack("<8sHHI", b"\x89pykcov\n", 1, 0, changes.get("length", len(packed)))
    data += packed + zlib.compress(words)
    return data + struct.pack("<I", zlib.crc32(data))


GOOD: dict[str, Any] = {
    "words": 1, "dropped": 0, "probe": "", "pcs": [7], "strings": ["line", A, "f", ""],
    "places": [[0], [1], [3], [2], [None], [None], [None], [3]], "sections": [],
}  # fmt: skip
WORD = struct.pack("<Q", 7)


def test_the_forger_can_also_make_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(forged(GOOD, WORD))
    assert Trace.load(path).lines() == {A: {3}}


COLUMNS = GOOD["places"]


@pytest.mark.parametrize(
    "change",
    [
        {"words": -1}, {"words": 2}, {"words": 2**61}, {"words": 10**30}, {"words": "1"},
        {"words": True}, {"words": 1.0}, {"words": None}, {"dropped": -1}, {"probe": 3},
        {"pcs": 7}, {"pcs": []}, {"pcs": ["7"]}, {"pcs": [7, 8]}, {"strings": None},
        {"strings": [1, 2, 3, 4]}, {"strings": []}, {"places": {}}, {"places": []},
        {"places": [[0]]}, {"places": [0] * 8}, {"places": [[9], *COLUMNS[1:]]},
        {"places": [[None], *COLUMNS[1:]]}, {"places": [[[]], *COLUMNS[1:]]},
        {"places": [[-9], *COLUMNS[1:]]}, {"places": [*COLUMNS[:2], ["x"], *COLUMNS[3:]]},
        {"places": [*COLUMNS[:2], [True], *COLUMNS[3:]]}, {"sections": [1]},
        {"sections": {}}, {"sections": [[1] * 8]}, {"sections": [[1] * 9]},
        {"sections": [[1, 1, 1, "w", 1, 0, 2, 1, 1]]},
        {"sections": [[1, 1, 1, "w", 1, 1, 0, 1, 1]]},
    ],
)  # fmt: skip
def test_a_header_with_a_wrong_value_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "file"
    path.write_bytes(forged({**GOOD, **change}, WORD))
    refused(path, "damaged: ")


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"1" * 10_000, b'{"words": NaN}'],
)
def test_a_header_that_is_not_an_object_of_json_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(forged(header, WORD))
    refused(path, "damaged: ")


def test_words_that_do_not_match_the_count_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for words in (b"", WORD[:5], WORD * 2, WORD + b"\0"):
        path.write_bytes(forged(GOOD, words))
        refused(path, "damaged: it holds")


def test_a_hostile_file_takes_no_more_memory_than_it_has_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    bomb = zlib.compress(bytes(1 << 28), 9)
    hostile = [
        forged(GOOD, WORD, length=2**32 - 1),
        forged({**GOOD, "words": 2**60}, WORD),
        forged(GOOD, b"")[:-12] + bomb,  # one word is announced, 256 MiB would come
        forged({**GOOD, "words": 2**24}, bytes(2**24)),
    ]
    for content in hostile:
        path.write_bytes(content)
        tracemalloc.start()
        refused(path, "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 << 20


def test_a_compressed_header_may_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracefile, "HEADER_LIMIT", 1 << 16)
    path = tmp_path / "file"
    path.write_bytes(forged(b" " * (1 << 20) + json.dumps(GOOD).encode(), WORD))
    refused(path, "damaged: its header has the wrong length")


# --------------------------------------------------------------------------------------- symbolize


@pytest.mark.parametrize(
    "pc", [0, 1, -1, 2**63, 2**64 - 1, 2**64, 10**40, PYTHON_PC_BASE, PYTHON_PC_BASE - 1, True]
)
def test_any_integer_that_is_no_known_pc_is_an_unknown_place(pc: int) -> None:
    assert symbolize(pc) == Location(pc, "unknown", "", 0, "", None, None, None, "")


@pytest.mark.parametrize("pc", [None, "1", 1.0, b"1", [1]])
def test_what_is_not_an_integer_is_a_type_error(pc: Any) -> None:
    with pytest.raises(TypeError):
        symbolize(pc)


def test_a_location_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        symbolize(1).line = 3  # type: ignore[misc]
