"""What the places of a whole trace cost: pykcov's symboliser against addr2line, which is asked for each PC of it.

A program in C stands for the kernel: 2,000 functions in 50 files, each with an inlined one.
"""

from __future__ import annotations

import random
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from setting import Round, Setting

from pykcov._recorder import tally
from pykcov.linux import Vmlinux

FILES, FUNCTIONS = 50, 40
EVENTS = 2_000_000  # less than the start of a Python takes


def _build(directory: Path, files: int) -> Path:
    (directory / "init").mkdir()
    sources = []
    for file in range(files):
        path = directory / "init" / ("main.c" if file == 0 else f"part{file}.c")
        text = f"volatile int sink_{file};\n"
        text += f"static inline int inner(int n) {{ return n * sink_{file}; }}\n"
        text += "".join(
            f"int f_{file}_{n}(int x)\n{{\n    for (int i = 0; i < {n}; i++)\n        x += inner(x + i);\n    return x;\n}}\n"
            for n in range(FUNCTIONS)
        )
        if file == 0:
            text += "int start_kernel(void) { return f_0_0(1); }\nint main(void) { return start_kernel(); }\n"
        path.write_text(text)
        sources.append(str(path))
    program = directory / "vmlinux"
    subprocess.run(["gcc", "-g", "-O2", "-no-pie", "-o", program, *sources], check=True)
    return program


def _places(program: Path) -> list[int]:
    said = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    names = [line.split() for line in said.splitlines()]
    return [int(name[0], 16) + 8 for name in names if name[-1].startswith("f_")]


def symbols(setting: Setting) -> Round:
    """How many times as fast as addr2line a whole trace, as a device has it, gets its places, each time from the start."""
    program = _build(setting.directory, setting.times(FILES))
    events = setting.times(EVENTS)
    trace = array("Q", random.Random(1).choices(_places(program), k=events))
    asked = "".join(f"{pc - 1:#x}\n" for pc in trace)

    def by_tool() -> None:
        command = ["addr2line", "-f", "-i", "-e", program]
        subprocess.run(command, input=asked, text=True, stdout=subprocess.DEVNULL, check=True)

    def timed(function: Callable[[], object]) -> int:
        began = perf_counter_ns()
        function()
        return perf_counter_ns() - began

    tool = timed(by_tool)  # it takes long: once in each process

    def one_round() -> dict[str, float]:
        ours = timed(lambda: Vmlinux(program).resolve(tally(trace)))
        reader = timed(lambda: Vmlinux(program, reader="pyelftools").resolve(tally(trace)))
        return {"of addr2line": tool / ours, "without it": tool / reader, "s": ours / 1e9}

    return one_round


CELLS = {"symbols": symbols}
