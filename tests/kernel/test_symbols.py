"""Names and lines of this kernel's PCs: by kallsyms, and as addr2line has them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import pykcov
from conformance.marks import DEVICE, PATIENCE
from pykcov.linux import kallsyms
from pykcov.linux.vmlinux import Vmlinux, checked

VMLINUX = os.environ["PYKCOV_VMLINUX"]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def recorded() -> list[int]:
    """What the kernel does for this thread when it does many things."""
    with pykcov.open(DEVICE) as device:
        device.init_trace(1 << 20)
        area = device.mmap()
        device.enable()
        area[0] = 0
        for path in ("/", "/proc", "/sys", "/dev", "/tmp"):
            for entry in os.scandir(path):
                entry.stat(follow_symlinks=False)
        subprocess.run(["true"], check=True)
        Path("/tmp/symbols").write_text("x" * 100_000)
        Path("/tmp/symbols").unlink()
        count = area[0]
        device.disable()
        return area[1 : count + 1].tolist()


def text() -> range:
    names = kallsyms.running()
    first, last = names.address("_stext"), names.address("_etext")
    assert first is not None and last is not None
    return range(first, last)


def of_addr2line(pcs: list[int]) -> dict[int, list[tuple[str, str]]]:
    """What the tool itself prints for the addresses before these, as pairs of a function and file:line."""
    said = subprocess.run(
        ["addr2line", "-a", "-f", "-i", "-e", VMLINUX],
        input="".join(f"{pc - 1:#x}\n" for pc in pcs), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: dict[int, list[str]] = {}
    for line in said.splitlines():
        if line.startswith("0x"):
            lines = found[int(line, 16) + 1] = []
        else:
            lines.append(line.partition(" (discriminator")[0])
    return {pc: list(zip(lines[::2], lines[1::2], strict=True)) for pc, lines in found.items()}


def as_printed(vmlinux: Vmlinux, pc: int) -> list[tuple[str, str]]:
    frames = vmlinux.frames(pc)
    return [
        (f.function, f"{os.path.join(vmlinux.root, f.file)}:{f.line}" if f.line else "??")
        for f in frames
    ] or [("??", "??")]


def plain(frames: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what the compiler added to the names of its versions of a function, and ``..`` in paths.

    Without a line: the file is then none, or one of the symbol table's, which has no path.
    """
    marks = (".isra.", ".part.", ".constprop.", ".cold")
    return [
        (
            min((name.partition(mark)[0] for mark in marks), key=len),
            "??" if place.endswith((":?", ":0")) else os.path.normpath(place),
        )
        for name, place in frames
    ]


def test_10_000_pcs_of_this_kernel_are_where_addr2line_has_them() -> None:
    vmlinux = checked(Vmlinux(VMLINUX, reader="addr2line"))
    pcs = set(recorded())
    assert len(pcs) > 2000
    pick = random.Random(1)
    while len(pcs) < 10_000:
        pcs.add(pick.choice(text()) + 1)
    wanted = of_addr2line(sorted(pcs))
    assert len(wanted) == len(pcs)
    vmlinux.resolve(pcs)
    differing = [pc for pc in pcs if as_printed(vmlinux, pc) != plain(wanted[pc])]
    assert not differing, [(hex(pc), as_printed(vmlinux, pc), wanted[pc]) for pc in differing[:5]]


def test_without_the_tool_the_same_is_read() -> None:
    """Of a part of the kernel: it takes about a tenth of a second for each file of the source."""
    vmlinux = Vmlinux(VMLINUX, reader="pyelftools")
    with pykcov.open(DEVICE) as device:
        device.init_trace(1 << 16)
        area = device.mmap()
        device.enable()
        area[0] = 0
        os.stat("/")
        os.getppid()
        count = area[0]
        device.disable()
        pcs = sorted(set(area[1 : count + 1]))
    assert len(pcs) > 50
    wanted = of_addr2line(pcs)
    differing = [
        (hex(pc), as_printed(vmlinux, pc), wanted[pc])
        for pc in pcs
        if as_printed(vmlinux, pc) != plain(wanted[pc])
    ]
    assert not differing


def test_a_function_has_the_name_that_kallsyms_has_and_its_line_is_in_it() -> None:
    names = kallsyms.running()
    start = names.address("ksys_read")
    assert start is not None
    place = pykcov.symbolize(start + 6)
    assert (place.kind, place.file, place.function) == ("kernel", "fs/read_write.c", "ksys_read")
    assert place.line > 0
    found = names.symbol(start + 6)
    assert found is not None
    assert found.name == "ksys_read"


def test_the_local_example_prints_the_system_call_that_it_makes() -> None:
    done = subprocess.run(
        [sys.executable, "local.py", DEVICE], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=PATIENCE
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    functions = [line.split()[2].rstrip(",") for line in done.stdout.splitlines()]
    assert "ksys_read" in functions
    assert not {"ksys_write", "vfs_write"} & set(functions)


def test_without_debug_information_there_are_names_and_no_lines() -> None:
    program = "import pykcov, sys; print(pykcov.symbolize(int(sys.argv[1])))"
    start = kallsyms.running().address("ksys_read")
    assert start is not None
    environment = {name: value for name, value in os.environ.items() if name != "PYKCOV_VMLINUX"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(start + 6)], env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert "kind='kernel', file='[kernel]', line=0, function='ksys_read'" in done.stdout


@pytest.mark.parametrize("pc", [0, 1, (1 << 64) - 1])
def test_what_is_no_code_of_this_kernel_is_unknown(pc: int) -> None:
    assert pykcov.symbolize(pc).kind == "unknown"
