"""Debug information of a program in C, which stands for a kernel: every address as addr2line has it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pykcov import KcovError
from pykcov.linux.frames import Frame
from pykcov.linux.vmlinux import Vmlinux, checked

MAIN = """\
#include "deep.h"
volatile int sink;
static void leaf(int n) { sink += n; }
static inline __attribute__((always_inline)) void twice(int n)
{
    deep(n);
    if (n > 3)
        deep(n + 1);
}
__attribute__((noinline)) void start_kernel(int n)
{
    for (int i = 0; i < n; i++) {
        twice(i);
        leaf(i);
    }
}
int _text[0];
int main(int argc, char **argv) { (void)argv; start_kernel(argc); return 0; }
"""
DEEP = """\
extern volatile int sink;
static inline __attribute__((always_inline)) void deeper(int n)
{
    sink -= n;
    if (sink < 0)
        sink = 0;
}
static inline __attribute__((always_inline)) void deep(int n)
{
    deeper(n);
    deeper(n * 2);
}
"""

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "addr2line", "objdump"))), reason="needs gcc and binutils"
)


@pytest.fixture(scope="module", params=["-gdwarf-5", "-gdwarf-4"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "init").mkdir()
    (tree / "include").mkdir()
    (tree / "init" / "main.c").write_text(MAIN)
    (tree / "include" / "deep.h").write_text(DEEP)
    command = [
        "gcc",
        "-O2",
        request.param,
        "-no-pie",
        "-Wl,--build-id",
        "-Iinclude",
        "-o",
        "vmlinux",
        "init/main.c",
    ]
    subprocess.run(command, cwd=tree, check=True, timeout=60)
    return tree / "vmlinux"


def instructions(program: Path) -> list[int]:
    said = subprocess.run(
        ["objdump", "-d", "-j", ".text", program], capture_output=True, text=True, check=True
    ).stdout
    return [int(found, 16) for found in re.findall(r"^ *([0-9a-f]+):\t", said, re.MULTILINE)]


def of_addr2line(program: Path, address: int) -> list[tuple[str, str]]:
    command = ["addr2line", "-f", "-i", "-e", str(program), hex(address)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [line.partition(" (discriminator")[0] for line in lines]
    return [pair for pair in zip(lines[::2], lines[1::2], strict=True) if pair != ("??", "??:0")]


def normal(place: str) -> str:
    file, _, line = place.rpartition(":")
    return f"{os.path.normpath(file)}:{line}"


@pytest.mark.parametrize("reader", ["addr2line", "pyelftools"])
def test_every_address_is_where_addr2line_has_it(program: Path, reader: str) -> None:
    found = Vmlinux(program, reader=reader)
    wanted = {address: of_addr2line(program, address) for address in instructions(program)}
    # The other functions of the program are the C library's, which has no lines here.
    wanted = {address: frames for address, frames in wanted.items() if "?" not in frames[0][1]}
    resolved = found.resolve(address + 1 for address in wanted)
    assert len(resolved) == len(wanted) > 30
    for address, frames in wanted.items():
        got = [(f.function, f"{program.parent / f.file}:{f.line}") for f in resolved[address + 1]]
        assert got == [(function, normal(place)) for function, place in frames], hex(address)
    depths = {len(frames) for frames in resolved.values()}
    assert 4 in depths, "deeper in deep in twice in start_kernel"


@pytest.mark.parametrize("reader", ["addr2line", "pyelftools"])
def test_files_are_relative_to_the_tree_that_the_kernel_was_built_in(
    program: Path, reader: str
) -> None:
    found = Vmlinux(program, reader=reader)
    frames = {
        frame
        for frames in found.resolve(a + 1 for a in instructions(program)).values()
        for frame in frames
    }
    assert {frame.file for frame in frames if frame.line} == {"init/main.c", "include/deep.h"}
    assert Frame("deeper", "include/deep.h", 4) in frames
    assert Frame("deep", "include/deep.h", 10) in frames


def test_a_pc_is_looked_up_once(program: Path) -> None:
    found = Vmlinux(program)
    pcs = [address + 1 for address in instructions(program)]
    first = found.resolve(pcs)
    (program.parent / "moved").unlink(missing_ok=True)
    program.rename(program.parent / "moved")  # no reader can open it now
    try:
        assert found.resolve(pcs * 1000) == first
    finally:
        (program.parent / "moved").rename(program)


def test_single_addresses_are_as_many_at_once_also_in_a_forked_child(program: Path) -> None:
    many, single = Vmlinux(program, reader="addr2line"), Vmlinux(program, reader="addr2line")
    resolved = many.resolve(address + 1 for address in instructions(program))
    pcs = sorted(resolved)
    half = len(pcs) // 2
    for pc in pcs[:half]:
        assert single.frames(pc) == resolved[pc]
    pid = os.fork()
    if not pid:
        os._exit(0 if all(single.frames(pc) == resolved[pc] for pc in pcs[half:]) else 1)
    for pc in pcs[half:]:
        assert single.frames(pc) == resolved[pc]
    assert os.waitpid(pid, 0)[1] == 0


def test_the_readers_have_the_same_build_id(program: Path) -> None:
    ids = {Vmlinux(program, reader=reader).build_id for reader in ("addr2line", "pyelftools")}
    assert len(ids) == 1
    assert re.fullmatch("[0-9a-f]{40}", ids.pop())


@pytest.mark.skipif(not os.path.exists("/sys/kernel/notes"), reason="this kernel shows no notes")
def test_the_debug_information_of_another_kernel_is_refused(program: Path) -> None:
    with pytest.raises(KcovError, match="not of the running kernel") as caught:
        checked(Vmlinux(program))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("reader", ["addr2line", "pyelftools"])
def test_a_file_that_is_no_use_is_an_error_that_names_it(
    program: Path, tmp_path: Path, reader: str
) -> None:
    stripped, text, missing = tmp_path / "stripped", tmp_path / "text", tmp_path / "missing"
    subprocess.run(["strip", "--strip-debug", "-o", stripped, program], check=True)
    text.write_text("not a program\n")
    for path, code in ((stripped, errno.EINVAL), (text, errno.EINVAL), (missing, errno.ENOENT)):
        with pytest.raises(KcovError) as caught:
            Vmlinux(path, reader=reader)
        assert caught.value.errno == code
        assert str(path) in str(caught.value)


def test_a_variable_that_names_a_useless_file_costs_lines_and_no_trace(tmp_path: Path) -> None:
    """symbolize() never fails; without root it may know nothing."""
    useless = tmp_path / "vmlinux"
    useless.write_text("not a program\n")
    program = (
        "import pykcov; print(pykcov.symbolize(0xffffffff81000001).kind in ('kernel', 'unknown'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYKCOV_VMLINUX": str(useless)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "Traceback" not in done.stderr
