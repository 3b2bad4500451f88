"""What /proc/kallsyms says, as kernels of several kinds write it."""

from __future__ import annotations

import errno

import pytest

from pykcov import KcovError
from pykcov.linux.kallsyms import Kallsyms, Symbol

X86 = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81001000 t local
ffffffff81002000 T __x64_sys_read
ffffffff81002000 t __se_sys_read
ffffffff81003000 T __pfx___x64_sys_getpid
ffffffff81003010 T __x64_sys_getpid
ffffffff81003010 T __ia32_sys_getpid
ffffffff81004000 W __x64_sys_vm86old
ffffffff81004000 t __do_sys_vm86
ffffffff81004000 T __x64_sys_ni_syscall
ffffffff81005000 T last
ffffffff81006000 T _etext
ffffffff82000000 D jiffies
ffffffff83000000 T _sinittext
ffffffff83000010 T start_kernel
ffffffff83001000 T _einittext
ffffffffc0100000 t fuse_dev_open\t[fuse]
ffffffffc0100200 t fuse_dev_release\t[fuse]
ffffffffc0400000 t bpf_prog_1234\t[bpf]
"""
MODULES = "fuse 4096 1 - Live 0xffffffffc0100000\n"


def names(text: str = X86, modules: str = MODULES, linked_at: int | None = None) -> Kallsyms:
    return Kallsyms(text, modules, linked_at=linked_at)


def name(pc: int, found: Kallsyms | None = None) -> str | None:
    symbol = (found or names()).symbol(pc)
    return None if symbol is None else symbol.name


def test_a_pc_is_the_address_after_the_call_that_it_stands_for() -> None:
    assert name(0xFFFF_FFFF_8100_1001) == "local"
    assert name(0xFFFF_FFFF_8100_2000) == "local"  # its last instruction is the call
    assert name(0xFFFF_FFFF_8100_2001) == "__x64_sys_read"


def test_of_several_names_of_one_address_the_global_one_counts() -> None:
    assert name(0xFFFF_FFFF_8100_2009) == "__x64_sys_read"


def test_a_call_that_the_kernel_was_built_without_is_called_so() -> None:
    assert name(0xFFFF_FFFF_8100_4009) == "__x64_sys_ni_syscall"


@pytest.mark.parametrize(
    "pc",
    [1, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_8100_6001, 0xFFFF_FFFF_8200_0001, 0xFFFF_FFFF_8300_1001, 2**64 - 1],
    ids=hex,
)  # fmt: skip
def test_what_is_outside_of_the_text_is_no_function(pc: int) -> None:
    assert name(pc) is None


def test_code_that_runs_once_at_boot_has_names_too() -> None:
    assert name(0xFFFF_FFFF_8300_0011) == "start_kernel"


def test_a_function_of_a_module_says_which_and_ends_with_it() -> None:
    assert names().symbol(0xFFFF_FFFF_C010_0100) == Symbol(
        "fuse_dev_open", "fuse", 0xFFFF_FFFF_C010_0000
    )
    assert name(0xFFFF_FFFF_C010_1000) == "fuse_dev_release"
    assert name(0xFFFF_FFFF_C010_1001) is None
    assert name(0xFFFF_FFFF_C040_0001) is None, "a program of BPF is no module"


def moved(by: int) -> str:
    lines = (line.split(" ", 1) for line in X86.splitlines())
    return "\n".join(f"{int(at, 16) + by:016x} {rest}" for at, rest in lines)


@pytest.mark.parametrize("by", [0, 0x1C00_0000])
@pytest.mark.parametrize("linked_at", [None, 0xFFFF_FFFF_8100_0000])
def test_pcs_of_kcov_are_those_of_a_kernel_that_kaslr_has_not_moved(
    by: int, linked_at: int | None
) -> None:
    found = names(moved(by), f"fuse 4096 1 - Live {0xFFFFFFFFC0100000 + by:#x}\n", linked_at)
    assert found.moved == by
    assert name(0xFFFF_FFFF_8100_2001, found) == "__x64_sys_read"
    assert found.symbol(0xFFFF_FFFF_C010_0001) == Symbol(
        "fuse_dev_open", "fuse", 0xFFFFFFFFC0100000
    )
    assert found.address("__x64_sys_read") == 0xFFFF_FFFF_8100_2000


def test_where_another_kernel_is_linked_is_known_by_its_vmlinux_only() -> None:
    arm = X86.replace("ffffffff8", "ffff80000").replace("ffffffffc", "ffff7fff0")
    assert names(arm, "").moved == 0
    assert names(arm, "", 0xFFFF_8000_0100_0000 - (1 << 40)).moved == 1 << 40


@pytest.mark.parametrize(
    ("function", "prefix"),
    [
        ("T __x64_sys_getpid", "__x64_sys_"),
        ("T __arm64_sys_getpid", "__arm64_sys_"),
        ("t sys_getpid", "sys_"),
    ],
)
def test_the_names_of_system_calls_begin_as_the_kernel_has_it(function: str, prefix: str) -> None:
    text = f"0000000060001000 t _stext\n0000000060002000 {function}\n"
    text += "0000000060003000 t __se_sys_getpid\n0000000060009000 t _etext\n"
    assert names(text, "").call_prefix == prefix


def test_a_kernel_that_hides_its_addresses_is_an_error_that_says_what_to_do() -> None:
    text = "0000000000000000 T _text\n0000000000000000 T __x64_sys_read\n"
    with pytest.raises(KcovError, match=r"needs root, or kernel\.kptr_restrict=0") as caught:
        names(text, "")
    assert caught.value.errno == errno.EPERM
