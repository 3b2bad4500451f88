"""Every program of the documentation runs, and prints what the page says."""

import os
import re
from pathlib import Path

import pytest

from docs.pages import PAGES, ROOT, blocks, differences, name_of, namespace

LANGUAGES = {"python", "text", "console", "sh", ""}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_run_and_print_what_it_says(page: Path, tmp_path: Path) -> None:
    found = list(differences(page, tmp_path))
    assert not found, "\n".join([name_of(page), *found])
    assert not Path(f"/dev/shm/pykcov-{os.geteuid()}", namespace(tmp_path)).exists()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_only_blocks_that_the_tests_know(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.read_text("utf-8").count("\n```") == 2 * len(blocks(page))


def test_the_first_example_of_the_readme_is_the_file_of_that_name() -> None:
    shown = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert shown.text == (ROOT / "examples" / "quick.py").read_text("utf-8")


def test_the_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE)
        assert set(named) <= targets, name_of(page)


def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```python\nprint("a")\n```\n\n```text\nb\n```\n'
        "```python\nraise SystemExit(3)\n```\n"
        "```console\n$ echo one\none\n$ echo two\nthree\n```\n"
        '```python\nprint("right, and", id(1))\n```\n```text\nright, and ...\n```\n',
        "utf-8",
    )
    found = [text.partition(":")[0] for text in differences(page, tmp_path)]
    assert found == ["line 1", "line 8", "line 11"]
