"""A headless Chromium, driven by the W3C's WebDriver protocol: what a test needs of it and no more."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Chromium's own look-ups and updates are none of the test's business.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1200,800",
]  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# No proxy of the environment stands between a test and its own machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    def __init__(self, driver: str, profile: Path) -> None:
        self._driver = driver
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._session = ""
        found = self._call("POST", "/session", capabilities={"alwaysMatch": capabilities})
        self._session = f"/session/{found['sessionId']}"

    def _call(self, method: str, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self._driver}{self._session}{path}",
            method=method,
            data=json.dumps(body).encode() if method == "POST" else None,
            headers={"Content-Type": "application/json"},
        )
        with OPENER.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._call("POST", "/url", url=url)

    def ask(self, script: str, *arguments: Any) -> Any:
        """What a script of the page's own, with `return`, finds."""
        return self._call("POST", "/execute/sync", script=script, args=arguments)

    def click(self, selector: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/click")

    def choose(self, select: str, option: str) -> None:
        """Choose an option of a list, as with the keyboard."""
        self.click(f'#{select} option[value="{option}"]')

    def back(self) -> None:
        self._call("POST", "/back")

    def _find(self, selector: str) -> str:
        found = self._call("POST", "/element", using="css selector", value=selector)
        return str(found[ELEMENT])

    def complaints(self) -> list[str]:
        """What the console has: errors of scripts, refused requests."""
        return [entry["message"] for entry in self._call("POST", "/se/log", type="browser")]

    def quit(self) -> None:
        self._call("DELETE", "")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    with subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            port = next(
                found[1]
                for line in driver.stdout
                if (found := re.search(r"started successfully on port (\d+)", line))
            )
            one = Browser(f"http://127.0.0.1:{port}", profile)
            try:
                yield one
            finally:
                one.quit()
        finally:
            driver.terminate()
