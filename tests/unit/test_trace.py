from __future__ import annotations

import copy
import pickle
import tracemalloc
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pykcov
from pykcov import Location, Trace, codemap, symbolize
from pykcov._recorder import tally
from pykcov.codemap import PYTHON_PC_BASE, Place
from pykcov.probes.source import digest
from pykcov.trace import FileCount
from unit.traces import BASE, SMALL, A, B, entry, line, trace_of

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


@pytest.mark.parametrize(
    "name", ["pcs", "places", "sections", "dropped", "probe", "sources", "anything"]
)
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


# Of two runs, each with a namespace of its own: they number the places in the order in which they meet them.
RUN_1 = trace_of(line(1), line(2), line(3, file=B))
RUN_2 = trace_of(line(2), line(1), line(7, file=B), line(1))


def test_set_operations_of_traces_of_two_runs_compare_places() -> None:
    assert (RUN_1 - RUN_2).lines() == {B: {3}}
    assert (RUN_2 - RUN_1).lines() == {B: {7}}
    assert (RUN_1 & RUN_2).lines() == {A: {1, 2}}
    assert (RUN_1 | RUN_2).lines() == {A: {1, 2}, B: {3, 7}}
    assert len(RUN_1 | RUN_2) == 4
    assert list(RUN_1 & RUN_2) == list(RUN_1)[:2]


def test_set_operations_keep_apart_what_one_trace_keeps_apart() -> None:
    twins = Trace([BASE, BASE + 1], places={BASE: line(1), BASE + 1: line(1)})
    elsewhere = Trace([BASE + 5, BASE + 6], places={BASE + 5: line(1), BASE + 6: line(1)})
    assert list(twins | twins) == list(twins & twins) == list(twins | elsewhere) == list(twins)
    assert not elsewhere - twins


def test_set_operations_compare_pcs_of_the_kernel_that_have_the_same_place() -> None:
    place = Place("kernel", "[kernel]", 0, "ksys_read")
    a, b = (Trace(pcs, places=dict.fromkeys(pcs, place)) for pcs in ([8, 9], [9, 10]))
    assert [list(trace) for trace in (a - b, a & b, a | b)] == [[8], [9], [8, 9, 10]]


def test_a_join_has_all_events_and_sections_of_its_traces_one_after_the_other() -> None:
    joined = Trace.join([RUN_1, SMALL, RUN_2])
    assert [joined.places[pc] for pc in joined if pc in joined.places] == [
        trace.places[pc] for trace in (RUN_1, SMALL, RUN_2) for pc in trace if pc in trace.places
    ]
    assert len(joined) == len(RUN_1) + len(SMALL) + len(RUN_2)
    [section] = joined.sections
    assert (section.start, section.end) == (3, 5)
    assert (joined.dropped, joined.probe) == (3, "events")
    assert Trace.join([SMALL]) is SMALL
    assert not Trace.join([])


def test_the_versions_of_a_source_are_those_of_all_traces() -> None:
    one = Trace([1], places={}, sources={A: ["1" * 16], B: ["2" * 16]})
    two = Trace([1], places={}, sources={A: ["3" * 16, "1" * 16]})
    for result in (one | two, one & two, one - two, Trace.join([one, two])):
        assert result.sources == {A: ("1" * 16, "3" * 16), B: ("2" * 16,)}


def test_a_trace_knows_which_version_of_a_source_ran(tmp_path: Path) -> None:
    path = tmp_path / "versioned.py"
    versions = []
    for text in ("x = 1\n", "x = 2\n"):
        path.write_text(text)
        with pykcov.collect(source=[str(tmp_path)]) as c:
            exec(compile(text, str(path), "exec"))
        [(file, [version])] = c.trace.sources.items()
        assert file == str(path)
        assert version == digest(text)
        versions.append(version)
    assert len(set(versions)) == 2


def test_what_has_no_text_has_no_version() -> None:
    with pykcov.collect() as c:
        exec(compile("x = 1", "no such file", "exec"))
    assert "no such file" in c.trace.lines()
    assert "no such file" not in c.trace.sources


def test_pcs_that_the_code_map_does_not_have_have_no_version() -> None:
    with pykcov.collect(include=[__file__]) as c:
        pass
    known = {*c.trace.places}
    assert known
    assert codemap.versions(known | {1, 2**64 - 1, max(known) + (1 << 30)}) == codemap.versions(
        known
    )
    assert codemap.versions({2**64 - 1}) == {}


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)))
def test_the_tally_of_words_is_that_of_a_counter(words: list[int]) -> None:
    assert list(tally(array("Q", words)).items()) == list(Counter(words).items())


def test_the_tally_of_very_many_words_is_that_of_a_counter() -> None:
    words = [i * i % 4093 << 40 | i % 700 for i in range(100_000)]
    assert tally(array("Q", words)) == Counter(words)


def test_a_trace_takes_no_memory_for_each_event_but_its_words() -> None:
    pcs = array("Q", range(BASE, BASE + 1000)) * 1000
    places = {pc: line(pc - BASE) for pc in pcs[:1000]}
    tracemalloc.start()
    trace = Trace(pcs, places=places)
    assert sum(count.events for count in trace.files().values()) == len(pcs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * 8 * len(pcs)


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


# --------------------------------------------------------------------------------------- symbolize


@pytest.mark.parametrize(
    "pc", [0, 1, -1, 2**63, 2**64 - 1, 2**64, 10**40, PYTHON_PC_BASE, PYTHON_PC_BASE - 1, True]
)
def test_any_integer_that_is_no_known_pc_is_an_unknown_place(pc: int) -> None:
    assert symbolize(pc) == Location(pc, "unknown", "", 0, "", None, None, None, "")


@pytest.mark.parametrize("pc", [None, "1", 1.0, b"1", [1]])
def test_what_is_not_an_integer_is_a_type_error(pc: Any) -> None:
    for call in (symbolize, SMALL.symbolize):
        with pytest.raises(TypeError):
            call(pc)


def test_a_location_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        symbolize(1).line = 3  # type: ignore[misc]


def test_a_trace_can_be_copied_and_sent_to_another_process() -> None:
    """A worker of a pool could not return one: its places are a read-only mapping."""
    with pykcov.collect(include=[__file__]) as c:
        len([1])
    for trace in (SMALL, c.trace, Trace(places={})):
        for made in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
            assert made == trace
            for name in ("places", "sections", "dropped", "probe", "sources", "counts"):
                assert getattr(made, name) == getattr(trace, name)
