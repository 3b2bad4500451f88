from __future__ import annotations

import errno
import json
import os
import stat
import struct
import tracemalloc
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykcov import KcovError, Trace, tracefile, wholefile
from pykcov.codemap import Place
from pykcov.trace import SectionRecord
from unit.traces import BASE, SECTIONS, SMALL, A, line, trace_of

# --------------------------------------------------------------------------------- save and load


def test_a_loaded_trace_is_the_saved_one(tmp_path: Path) -> None:
    path = tmp_path / "one.trace"
    SMALL.save(path)
    again = Trace.load(path)
    assert again == SMALL
    assert again.places == SMALL.places
    assert (again.sections, again.dropped, again.probe) == (tuple(SECTIONS), 3, "events")
    assert again.arcs() == SMALL.arcs()
    assert again.sources == SMALL.sources == {A: ("0123456789abcdef",)}


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
    calls: list[Callable[[str], None]] = [
        SMALL.save,
        lambda path: wholefile.check_writable(path, "Trace.save"),
    ]
    for call in calls:
        with pytest.raises(KcovError) as caught:
            call(path)
        assert caught.value.errno == number
        assert str(caught.value) == f"[Errno {number}] Trace.save: {path}: {os.strerror(number)}"


def test_the_check_before_a_save_leaves_nothing_behind(tmp_path: Path) -> None:
    wholefile.check_writable(str(tmp_path / "x"), "Trace.save")
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
    trace = Trace.load(path)
    assert trace.lines() == {A: {3}}
    assert trace.sources == {}  # the first files of this format did not know them


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
        {"sections": [[1, 1, 1, "w", 1, 1, 0, 1, 1]]}, {"sources": []}, {"sources": {"f": "x"}},
        {"sources": {"f": [1]}},
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
