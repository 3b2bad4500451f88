"""The job server's clients: one request, or threads that keep it busy with all kinds of them."""

import json
import random
import socket
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

KINDS = {"toml": "*.toml", "ini": "*.ini", "html": "*.html", "email": "*.eml"}
DOCUMENTS = Path(__file__).parent / "documents"


@cache
def documents(kind: str) -> list[str]:
    return [path.read_text("utf-8") for path in sorted(DOCUMENTS.glob(KINDS[kind]))]


def ask(port: int, kind: str, texts: list[str], handle: int = 0) -> Any:
    """One request. The client chooses `handle`; the server annotates its work with it.

    The HTTP is by hand: http.client parses headers with the email package, in the thread that asks.
    If that thread collects what it executes, those lines would rightly be in its trace.
    """
    body = json.dumps(texts).encode()
    head = f"POST /{kind} HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
    if handle:
        head += f"X-Kcov-Handle: {handle:#x}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"{head}\r\n".encode() + body)
        with connection.makefile("rb") as response:
            head, _, answer = response.read().decode().partition("\r\n\r\n")
    if " 200 " not in head.split("\r\n")[0]:
        raise RuntimeError(f"{kind}: {head} {answer}")
    return json.loads(answer)


class Load:
    """Threads that send requests of all kinds, one after another, until the block ends.

    Each answer is compared with the one that the same document got before there was any load.
    """

    def __init__(self, port: int, clients: int) -> None:
        self.port = port
        self.expected = {kind: ask(port, kind, documents(kind)) for kind in KINDS}
        self.counted = threading.Condition()  # guards the three below
        self.served: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.over = False
        self.threads = [
            threading.Thread(target=self.client, args=(seed,), name=f"client-{seed}", daemon=True)
            for seed in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self.counted:
            self.over = True
        for thread in self.threads:
            thread.join()

    def client(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.over:
            kind = dice.choice(list(KINDS))
            texts = documents(kind)
            chosen = dice.sample(range(len(texts)), dice.randint(1, len(texts)))
            try:
                answer: Any = ask(self.port, kind, [texts[n] for n in chosen])
            except Exception as error:  # a demo must end with a verdict, not wait for this thread
                answer = error
            right = answer == [self.expected[kind][n] for n in chosen]
            with self.counted:
                self.served[kind] += 1
                if not right:
                    self.wrong.append(f"{kind}: {answer}")
                self.counted.notify_all()

    def wait_for(self, requests: int) -> "Counter[str]":
        """Waits until so many more requests of each kind are answered, and says how many were."""
        with self.counted:
            before = self.served.copy()
            self.counted.wait_for(
                lambda: all(self.served[kind] - before[kind] >= requests for kind in KINDS)
            )
            return self.served - before
