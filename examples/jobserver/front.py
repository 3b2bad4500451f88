"""The front: `POST /toml` a JSON list of documents; back comes a list of what is in them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pykcov
from jobserver import documents
from jobserver.scheduler import Scheduler
from jobserver.workers import Workers


class JobServer:
    """Listens on 127.0.0.1 from when it is made until it is closed. `port` is one that was free."""

    def __init__(self, workers: int = 4) -> None:
        self.workers = Workers(workers)
        self.scheduler = Scheduler(self.workers, list(documents.READERS), at_a_time=workers)
        self.front = Front(self.scheduler)
        self.port: int = self.front.server_address[1]
        self.thread = threading.Thread(
            target=self.front.serve_forever, args=(0.05,), name="front", daemon=True
        )
        self.thread.start()

    def __enter__(self) -> "JobServer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.front.shutdown()
        self.thread.join()
        self.front.server_close()  # waits for the requests that are being answered
        self.scheduler.close()
        self.workers.close()


class Front(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheduler = scheduler


class Handler(BaseHTTPRequestHandler):
    server: Front

    def do_POST(self) -> None:
        # http.server reads headers with the email package: no part of what this request asks for.
        handle = handle_of(self.headers.get("X-Kcov-Handle", "0"))
        length = self.headers.get("Content-Length", "0")
        with pykcov.remote(handle):
            status, answer = self.answer(length, handle)
            body = json.dumps(answer).encode()
        # Only now, with the section ended: whoever gets the answer finds its lines recorded.
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, length: str, handle: int) -> tuple[int, Any]:
        kind = self.path.strip("/")
        if kind not in documents.READERS:
            return 404, {"error": f"no reader for {kind!r}"}
        try:
            texts = json.loads(self.rfile.read(int(length)))
        except ValueError:
            return 400, {"error": "the body is not JSON"}
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return 400, {"error": "the body is not a list of documents"}
        return 200, self.server.scheduler.serve(kind, texts, handle)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def handle_of(header: str) -> int:
    """The handle that a client chose. Nonsense is no handle and no error: it is only coverage."""
    try:
        return int(header, 0) % (1 << 64)
    except ValueError:
        return 0
