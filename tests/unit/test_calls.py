"""A stream of kernel PCs is cut into system calls where their functions are entered."""

from __future__ import annotations

from pykcov.linux.calls import Call, Calls
from pykcov.linux.kallsyms import Kallsyms

TEXT = """\
0000000060001000 t _stext
0000000060001000 t sys_read
0000000060001000 t __se_sys_read
0000000060002000 t sys_getpid
0000000060003000 t vfs_read
0000000060004000 t __do_sys_fork
0000000060005000 t sys_fork
0000000060009000 t _etext
"""
READ, GETPID, VFS, DO_FORK, FORK = 0x6000_1005, 0x6000_2005, 0x6000_3005, 0x6000_4005, 0x6000_5005


def calls(*parts: list[int]) -> list[Call]:
    stream = Calls(Kallsyms(TEXT, ""))
    found = [call for part in parts for call in stream.feed(part)]
    return [*found, stream.end()]


def test_a_call_has_what_comes_until_the_next_one() -> None:
    assert calls([READ, VFS, VFS + 8, GETPID, READ, VFS]) == [
        Call("", []),
        Call("read", [READ, VFS, VFS + 8]),
        Call("getpid", [GETPID]),
        Call("read", [READ, VFS]),
    ]


def test_a_later_part_of_a_calls_function_begins_no_call() -> None:
    assert calls([READ, VFS, READ + 0x20, READ, READ + 0x20])[1:] == [
        Call("read", [READ, VFS, READ + 0x20]),
        Call("read", [READ, READ + 0x20]),
    ]


def test_the_stream_may_come_in_any_parts() -> None:
    whole = [VFS, READ, VFS, GETPID, READ, READ + 9]
    assert calls(*([pc] for pc in whole)) == calls(whole)
    assert calls(whole)[0] == Call("", [VFS])


def test_where_the_beginning_was_lost_the_entry_is_found_when_it_comes() -> None:
    found = calls([READ + 0x20, VFS, READ, VFS, READ + 0x20])
    assert found[-1] == Call("read", [READ, VFS, READ + 0x20])


def test_a_function_behind_the_call_begins_none() -> None:
    assert calls([FORK, DO_FORK, FORK + 8])[1:] == [Call("fork", [FORK, DO_FORK, FORK + 8])]
