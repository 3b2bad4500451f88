"""The work: reads one document and says what is in it.

The parsers are the standard library's, and written in Python.
"""

import configparser
import email.policy
import html.parser
import tomllib
from collections.abc import Callable
from typing import Any


def read(kind: str, text: str) -> dict[str, Any]:
    """What is in the document, or what is wrong with it."""
    try:
        return READERS[kind](text)
    except (ValueError, configparser.Error) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def read_toml(text: str) -> dict[str, Any]:
    table = tomllib.loads(text)
    return {"keys": list(table), "values": count(table)}


def count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(count(inner) for inner in value.values())
    if isinstance(value, list):
        return sum(count(inner) for inner in value)
    return 1


def read_ini(text: str) -> dict[str, Any]:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


class Outline(html.parser.HTMLParser):
    """Headings and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.links: list[str] = []
        self.in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h1", "h2", "h3"):
            self.in_heading = True
            self.headings.append("")
        elif tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3"):
            self.in_heading = False

    def handle_data(self, data: str) -> None:
        if self.in_heading:
            self.headings[-1] += data


def read_html(text: str) -> dict[str, Any]:
    outline = Outline()
    outline.feed(text)
    outline.close()
    return {"headings": outline.headings, "links": outline.links}


def read_email(text: str) -> dict[str, Any]:
    message = email.message_from_string(text, policy=email.policy.default)
    parts = [part.get_content_type() for part in message.walk()]
    return {"subject": str(message["Subject"]), "from": str(message["From"]), "parts": parts}


READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "toml": read_toml,
    "ini": read_ini,
    "html": read_html,
    "email": read_email,
}
