"""The page of `pykcov html` in a browser, from the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.browser import Browser, browser
from integration.commands import PYKCOV, run, write
from pykcov import Trace
from pykcov.codemap import PYTHON_PC_BASE, Place
from pykcov.trace import SectionRecord

pytestmark = pytest.mark.skipif(
    not shutil.which("chromedriver"), reason="needs Debian's packages chromium and chromium-driver"
)
ORDERS = "def total(who):\n    return price(who)\n"
PRICES = """\
def price(who):
    if who == "member":
        return 8
    return "</script><b>10</b>"
"""


def trace(folder: Path, parts: dict[tuple[int, int, int, str], list[tuple[str, int]]]) -> Trace:
    """A trace with a section for each (handle, process, thread id, thread), of lines of files."""
    numbers: dict[tuple[str, int], int] = {}
    pcs: list[int] = []
    sections = []
    for (handle, pid, tid, thread), lines in parts.items():
        start = len(pcs)
        pcs += [numbers.setdefault(line, PYTHON_PC_BASE + 1 + len(numbers)) for line in lines]
        sections.append(SectionRecord(handle, pid, tid, thread, tid, start, len(pcs), start, start))
    places = {
        pc: Place("line", str(folder / file), number, "f") for (file, number), pc in numbers.items()
    }
    return Trace(pcs, places=places, sections=sections)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    folder = tmp_path_factory.mktemp("page")
    write(folder, "shop/orders.py", ORDERS)
    (folder / "shop" / "prices.py").write_text(PRICES)
    total, prices = ("shop/orders.py", 2), "shop/prices.py"
    trace(
        folder,
        {
            (0x42, 10, 11, "worker-1"): [total, (prices, 2), (prices, 3)],
            (0x43, 10, 12, "worker-2"): [total, (prices, 2), (prices, 4)],
        },
    ).save(folder / "one.trace")
    trace(folder, {(0x44, 20, 20, "MainThread"): [(prices, 2)] * 5}).save(folder / "two.trace")
    done = run([*PYKCOV, "html", "one.trace", "two.trace", "-o", "a page.html"], folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "page written to a page.html\n"
    with browser(folder / "profile") as one:
        yield one, (folder / "a page.html").as_uri()
        assert one.complaints() == []


@pytest.fixture
def fresh(page: tuple[Browser, str]) -> Browser:
    one, url = page
    one.open("about:blank")
    one.open(url)
    return one


def shown(page: Browser) -> dict[str, Any]:
    """What a reader sees: the file, its lines by their kind, the figures of the files."""
    found: dict[str, Any] = page.ask(
        """
        const lines = kind => [...document.querySelectorAll(`tr.${kind}`)].map(row => Number(row.id.slice(1)));
        const text = node => node.textContent;
        return {
            file: document.querySelector("h2").firstChild.textContent,
            ran: lines("ran"), missed: lines("missed"), chosen: lines("chosen"),
            files: [...document.querySelectorAll("nav a")].map(a => [...a.children].map(text).join(" ")),
            total: text(document.getElementById("total")),
            who: [...document.querySelectorAll("tr.who li")].map(text),
        }
        """
    )
    return found


def options(page: Browser, select: str) -> list[str]:
    found: list[str] = page.ask(
        "return [...document.getElementById(arguments[0]).options].map(o => o.text)", select
    )
    return found


def test_the_page_shows_the_tree_and_the_lines_of_the_first_file(fresh: Browser) -> None:
    now = shown(fresh)
    assert now["file"] == "shop/orders.py"
    assert now["files"] == ["orders.py 1 / 2", "prices.py 3 / 4"]
    assert (now["ran"], now["missed"]) == ([2], [1])
    assert now["total"] == "lines executed: 4, in 2 of 2 files"
    assert fresh.ask("return document.title") == "pykcov: one, two"


def test_a_click_opens_a_file_and_the_button_back_leaves_it(fresh: Browser) -> None:
    fresh.click("nav a:nth-of-type(2)")
    now = shown(fresh)
    assert now["file"] == "shop/prices.py"
    assert (now["ran"], now["missed"]) == ([2, 3, 4], [1])
    fresh.back()
    assert shown(fresh)["file"] == "shop/orders.py"


def test_a_filter_leaves_what_was_executed_for_a_handle(fresh: Browser) -> None:
    fresh.click("nav a:nth-of-type(2)")
    assert options(fresh, "handle") == ["all (3)", "0x42", "0x43", "0x44"]
    fresh.choose("handle", "0x42")
    now = shown(fresh)
    assert (now["ran"], now["missed"]) == ([2, 3], [1, 4])
    assert now["files"] == ["orders.py 1 / 2", "prices.py 2 / 4"]
    fresh.choose("handle", "0x44")
    now = shown(fresh)
    assert (now["ran"], now["files"]) == ([2], ["orders.py 0 / 2", "prices.py 1 / 4"])
    assert now["total"] == "lines executed: 1, in 1 of 2 files"
    fresh.click("#reset")
    assert shown(fresh)["ran"] == [2, 3, 4]


@pytest.mark.parametrize(
    ("select", "value", "ran"),
    [
        ("collection", "two", [2]),
        ("process", "10", [2, 3, 4]),
        ("thread", "worker-2 (12)", [2, 4]),
        ("thread", "MainThread (20)", [2]),
    ],
)
def test_a_filter_leaves_what_a_collection_a_process_a_thread_executed(
    fresh: Browser, select: str, value: str, ran: list[int]
) -> None:
    fresh.click("nav a:nth-of-type(2)")
    fresh.choose(select, value)
    assert shown(fresh)["ran"] == ran


def test_filters_offer_what_the_others_leave(fresh: Browser) -> None:
    fresh.choose("process", "10")
    assert options(fresh, "handle") == ["all (2)", "0x42", "0x43"]
    assert options(fresh, "thread") == ["all (2)", "worker-1 (11)", "worker-2 (12)"]
    fresh.choose("handle", "0x43")
    assert options(fresh, "thread") == ["all (1)", "worker-2 (12)"]
    assert options(fresh, "collection") == ["all (1)", "one"]


def test_a_click_on_a_line_says_who_executed_it(fresh: Browser) -> None:
    fresh.click("nav a:nth-of-type(2)")
    fresh.click("#L2 button")
    now = shown(fresh)
    assert now["chosen"] == [2]
    assert now["who"] == [
        "in one for 0x42, by thread worker-1 (11) of process 10",
        "in one for 0x43, by thread worker-2 (12) of process 10",
        "in two for 0x44, by thread MainThread (20) of process 20",
    ]
    fresh.click("tr.who li:nth-child(2) button")
    now = shown(fresh)
    assert (now["ran"], now["missed"]) == ([2, 4], [1, 3])
    fresh.click("#L2 button")
    assert shown(fresh)["who"] == []


def test_an_address_names_a_file_a_filter_and_a_line(page: tuple[Browser, str]) -> None:
    one, url = page
    one.open("about:blank")
    one.open(f"{url}#file=shop/prices.py&handle=0x42&line=3")
    now = shown(one)
    assert (now["file"], now["ran"], now["chosen"]) == ("shop/prices.py", [2, 3], [3])
    assert now["who"] == ["in one for 0x42, by thread worker-1 (11) of process 10"]


def test_a_source_is_text_whatever_is_in_it(fresh: Browser) -> None:
    fresh.click("nav a:nth-of-type(2)")
    assert fresh.ask("return document.querySelectorAll('main b').length") == 0
    lines = fresh.ask("return [...document.querySelectorAll('td.t')].map(n => n.textContent)")
    assert lines == PRICES.splitlines()


def test_the_page_asks_for_nothing_but_itself(fresh: Browser) -> None:
    fresh.click("nav a:nth-of-type(2)")
    assert fresh.ask("return performance.getEntriesByType('resource').length") == 0
