"""Handles travel in a header; nobody but this user's namespace can make one that does anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

import pykcov
from pykcov import registry
from pykcov.carry.headers import extract, inject


@pytest.fixture
def carried() -> Iterator[str]:
    """The value of a header, while somebody collects."""
    with pykcov.collect(source=[__file__]):
        headers: dict[str, str] = {}
        inject(headers)
        yield headers["baggage"]


def given(value: str) -> tuple[int, ...]:
    return extract({"baggage": value})


def test_a_request_carries_the_handle_of_who_collects() -> None:
    headers: dict[str, str] = {}
    with pykcov.collect() as c:
        inject(headers)
        assert list(headers) == ["baggage"]
        assert extract(headers) == (c.handle,)
        assert extract(headers)[0].session == pykcov.common_handle().session  # type: ignore[attr-defined]


def test_nothing_is_added_where_nobody_collects() -> None:
    headers = {"Baggage": "a=1"}
    inject(headers)
    assert headers == {"Baggage": "a=1"}


def test_collections_that_are_open_in_one_another_are_all_carried_outermost_first() -> None:
    with pykcov.collect() as outer, pykcov.collect() as inner:
        headers: dict[str, str] = {}
        inject(headers)
        assert extract(headers) == (outer.handle, inner.handle)


def test_more_collections_than_a_header_has_room_for_leave_the_innermost() -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        opened = [stack.enter_context(pykcov.collect(area_size=64)) for _ in range(18)]
        headers: dict[str, str] = {}
        inject(headers)
        assert extract(headers) == tuple(c.handle for c in opened[-16:])


def test_other_members_are_kept_and_an_old_one_of_ours_is_replaced() -> None:
    headers = {"BAGGAGE": "user=a%20b;p=1 , pykcov=old;x, other=2,"}
    with pykcov.collect() as c:
        inject(headers)
        inject(headers)
        assert extract(headers) == (c.handle,)
    assert list(headers) == ["BAGGAGE"]
    assert re.sub(r"pykcov=\S+", "pykcov=", headers["BAGGAGE"]) == "user=a%20b;p=1,other=2,pykcov="


def test_it_is_found_among_others_in_pairs_bytes_and_several_headers(carried: str) -> None:
    found = given(carried)
    assert len(found) == 1
    assert given(f"a=1 ,\t{carried} ;level=2,b=3") == found
    assert extract([(b"Baggage", b"a=1"), (b"host", b"x"), (b"baggage", carried.encode())]) == found
    assert extract([("baggage", carried)]) == found


@pytest.mark.parametrize(
    "encode", [quote, quote_plus, lambda v: "".join(f"%{ord(c):02X}" for c in v)]
)
def test_who_passes_it_on_may_encode_it(carried: str, encode: object) -> None:
    name, _, value = carried.partition("=")
    assert given(f"{name}={encode(value)}") == given(carried)  # type: ignore[operator]


def test_when_the_collection_is_over_it_is_nothing(carried: str) -> None:
    with pykcov.collect() as c:
        headers: dict[str, str] = {}
        inject(headers)
        assert extract(headers)[-1] == c.handle
    assert extract(headers) == given(carried) != ()


def test_a_handle_without_the_signature_of_the_namespace_is_nothing(carried: str) -> None:
    value = carried.partition("=")[2]
    signature, _, text = value.partition(".")
    with pykcov.collect(handles=[0x42]):
        key = 1 << 16
        for forged in (
            f"{'0' * 32}.{text}",
            f"{signature[:-1]}{'1' if signature[-1] == '0' else '0'}.{text}",
            f"{signature}.42_{key:x}_1",
            f".{text}",
            text,
            "42",
            "0x42",
        ):
            assert given(f"pykcov={forged}") == (), forged


def test_a_signature_of_another_namespace_is_nothing(carried: str) -> None:
    header = registry.get().header
    secret = registry.Header.SECRET
    assert given(carried)
    header[secret] ^= 1
    try:
        assert given(carried) == ()
    finally:
        header[secret] ^= 1
    assert given(carried)


def test_two_members_are_nothing(carried: str) -> None:
    assert given(f"{carried},{carried}") == ()
    assert given(f"pykcov=x,{carried}") == ()


@pytest.mark.parametrize(
    "value",
    [
        "", ",", "=", "pykcov", "pykcov=", "pykcov=;", "pykcov=,", "pykcov=%", "pykcov=%zz", "pykcov=%ff%fe",
        "pykcov=\u00fc", "pykcov=\ud800", "pykcov=" + "0" * 32, "pykcov=" + "0" * 32 + ".",
        "pykcov=" + "0" * 32 + ".1_1_2", "pykcov=" + "0" * 32 + ".\u0661_1_1", "pykcov=" + "0" * 32 + ".1_1_1" * 17,
        "pykcov=" + "f" * 32 + "." + "f" * 17 + "_1_1", "pykcov=" + "%30" * 2000, "," * 9000 + "pykcov=1",
        "pykcov=1" * 2000, "\0pykcov=1", "pykcov=1\r\nX: y", "xpykcov=1", "pykcov =1",
    ],
)  # fmt: skip
def test_what_else_may_come_is_nothing_and_no_error(carried: str, value: str) -> None:
    assert given(value) == ()
    encoded = value.encode("latin-1", "replace")
    assert extract([(b"baggage", encoded), (b"\xff", b"\xff")]) == ()


def test_a_header_that_is_too_long_is_not_looked_at(carried: str) -> None:
    assert given("a=" + "x" * 8192 + "," + carried) == ()
    assert given("a=" + "x" * 4000 + "," + carried)
