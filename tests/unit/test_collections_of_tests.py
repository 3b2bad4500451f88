"""The collections of a test run: each event belongs to the innermost one, in every thread, task and process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import pykcov
from pykcov.scope import Scope
from pykcov.testing.collection import Collection, Collections


def one():
    return 1


def two():
    return 2


def three():
    return 3


def line(function):
    return function.__code__.co_firstlineno + 1


def found(lines):
    """Which of the three functions were executed."""
    here = lines.get(__file__, set())
    return {function.__name__ for function in (one, two, three) if line(function) in here}


@pytest.fixture
def every() -> Iterator[Collections]:
    collections = Collections(Scope(include=[__file__]))
    yield collections
    collections.close()


def test_an_inner_collection_takes_over_and_gives_back(every: Collections) -> None:
    outer, inner = Collection(every), Collection(every)
    with outer:
        one()
        with inner:
            two()
        three()
    assert found(inner.close()) == {"two"}
    assert found(outer.close()) == {"one", "three"}


def test_a_block_of_one_may_be_in_a_block_of_another_again_and_again(every: Collections) -> None:
    outer, inner = Collection(every), Collection(every)
    with outer, inner, inner:
        one()
    with inner:
        two()
        assert found(inner.take()) == {"one", "two"}
    with outer:
        three()
    assert found(outer.close()) == {"three"}
    assert found(inner.close()) == set()


def test_take_gives_what_was_executed_since_the_last_one(every: Collections) -> None:
    collection = Collection(every)
    with collection:
        one()
        assert found(collection.take()) == {"one"}
        two()
    assert found(collection.take()) == {"two"}
    assert found(collection.close()) == set()


def test_a_thread_goes_on_for_who_started_it_until_that_is_closed(every: Collections) -> None:
    collection, other = Collection(every), Collection(every)
    steps = [threading.Event() for _ in range(3)]

    def work():
        for step, function in zip(steps, (one, two, three), strict=True):
            step.wait()
            function()

    with collection:
        thread = threading.Thread(target=work)
        thread.start()
        steps[0].set()
    with other:
        steps[1].set()
        steps[2].set()
        thread.join()
    assert found(other.close()) == set()
    assert found(collection.close()) == {"one", "two", "three"}


def test_a_thread_of_one_that_works_for_another_by_its_handle_rests_meanwhile(
    every: Collections,
) -> None:
    fixture, test = Collection(every), Collection(every)
    handles: list[int] = []
    steps = threading.Barrier(2)

    def work():
        one()
        steps.wait()
        steps.wait()
        with pykcov.remote(handles[0]):
            two()
        three()

    with fixture:
        thread = threading.Thread(target=work)
        thread.start()
    steps.wait()
    with test:
        handles.append(pykcov.common_handle())
        steps.wait()
        thread.join()
    assert found(test.close()) == {"two"}
    assert found(fixture.close()) == {"one", "three"}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pool_of_processes_works_for_who_submits(every: Collections, method: str) -> None:
    first, second = Collection(every), Collection(every)
    with first:
        pool = ProcessPoolExecutor(1, mp_context=get_context(method))
        assert pool.submit(one).result() == 1
    with second:
        assert pool.submit(two).result() == 2
    with first:
        assert pool.submit(three).result() == 3
    pool.shutdown()
    assert found(second.close()) == {"two"}
    assert found(first.close()) == {"one", "three"}


def test_an_ordinary_collection_has_what_the_inner_ones_have_too(every: Collections) -> None:
    inner = Collection(every)
    with pykcov.collect(include=[__file__]) as everything, inner:
        with pykcov.collect(include=[__file__]) as within:
            one()
    assert found(inner.close()) == {"one"}
    assert found(everything.trace.lines()) == {"one"}
    assert found(within.trace.lines()) == {"one"}


def test_a_test_that_raises_leaves_nothing_open(every: Collections) -> None:
    collection = Collection(every)
    with pytest.raises(ZeroDivisionError), collection:
        one()
        1 / 0  # noqa: B018
    two()
    assert found(collection.close()) == {"one"}
    assert pykcov.common_handle() == 0


def test_a_loop_needs_no_memory(every: Collections) -> None:
    collection = Collection(every)
    with collection:
        for _ in range(200_000):
            one()
    before = sys.getsizeof(collection._pcs)
    assert found(collection.close()) == {"one"}
    assert before < 10_000
    assert every.dropped == 0


def test_devices_are_used_again(every: Collections) -> None:
    numbers = set()
    for _ in range(5):
        collection = Collection(every)
        numbers.add(collection._device.number)
        with collection:
            one()
        assert found(collection.close()) == {"one"}
    assert len(numbers) == 1


def test_an_ordinary_collection_that_begins_in_one_block_goes_on_in_the_next(
    every: Collections,
) -> None:
    collection, other = Collection(every), Collection(every)
    own = pykcov.collect(include=[__file__])

    def in_a_thread(function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    with collection:
        own.__enter__()
    in_a_thread(one)
    with collection:
        in_a_thread(two)
        with other:
            in_a_thread(three)
        own.__exit__(None, None, None)
        in_a_thread(one)
    assert found(own.trace.lines()) == {"one", "two", "three"}
    assert found(other.close()) == {"three"}
    assert found(collection.close()) == {"one", "two"}
    assert pykcov.common_handle() == 0
