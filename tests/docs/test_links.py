"""Links lead somewhere, and every page can be reached."""

from pathlib import Path

import pytest

from docs.pages import DOCS, PAGES, ROOT, anchor, headings, links, name_of

EVERY = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_links_of_a_page_resolve(page: Path) -> None:
    for link in links(page):
        assert "://" not in link, f"{link}: the documentation is complete without a network"
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if fragment:
            assert fragment in map(anchor, headings(target)), link


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {name_of(page) for page in DOCS if page not in {index, *reached}} == set()


def test_the_readme_leads_to_the_index() -> None:
    assert "docs/index.md" in {link.partition("#")[0] for link in links(ROOT / "README.md")}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
