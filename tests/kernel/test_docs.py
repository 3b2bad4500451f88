"""The programs of docs/howto/kernel.md, which no other machine can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.pages import DOCS, Block, blocks, run, same
from kernel.test_examples import busy
from kernel.usb import Bus

(PAGE,) = [page for page in DOCS if page.name == "kernel.md"]
PROGRAMS = [
    (program, output)
    for program, output in zip(blocks(PAGE), blocks(PAGE)[1:], strict=False)
    if program.language == "python"
]


@pytest.mark.parametrize(("program", "output"), PROGRAMS, ids=lambda block: block.name)
def test_a_program_prints_what_the_page_says(program: Block, output: Block, tmp_path: Path) -> None:
    (tmp_path / program.name).write_text(program.text, "utf-8")
    with busy(Bus(0)):
        done = run(["python", program.name], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert output.language == "text"
    assert same(output.text, done.stdout), done.stdout
