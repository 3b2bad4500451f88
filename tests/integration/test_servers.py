"""One request of a live server is collected from another process, while other clients keep it busy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import pykcov
from integration import live_site
from pykcov.carry import asgi, wsgi
from pykcov.carry.headers import inject

HERE = Path(__file__).parent
SITE = str(HERE / "live_site.py")


def header() -> dict[str, str]:
    carried: dict[str, str] = {}
    inject(carried)
    return carried


def ask(port: int, kind: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{kind}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


@contextlib.contextmanager
def serving(*command: str) -> Iterator[int]:
    """Run a server, in a process group of its own, on a socket that is open before it is."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        fd = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=fd) for word in command)],
            cwd=HERE,
            pass_fds=[fd],
            start_new_session=True,
        )
        try:
            yield listening.getsockname()[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


@contextlib.contextmanager
def others(port: int, kind: str, clients: int = 4) -> Iterator[None]:
    """Other clients, who ask until the block is over."""
    over = threading.Event()
    failed: list[str] = []

    def client() -> None:
        while not over.is_set():
            answer = ask(port, kind, {})
            if answer != f"{getattr(live_site, kind)()}!":
                failed.append(answer)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed


SERVERS = {
    "asgi": ("uvicorn", "live_site:asgi_app", "--fd", "{fd}", "--log-level", "warning"),
    "wsgi": ("gunicorn", "live_site:wsgi_app", "-b", "fd://{fd}", "-w", "3", "--log-level", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("interface", SERVERS)
def test_a_request_of_a_live_server_is_collected_from_another_process(interface: str) -> None:
    with serving(*SERVERS[interface]) as port, others(port, "guest"):
        for kind in ("member", "guest", "member"):
            with pykcov.collect(include=[SITE]) as c:
                price = ask(port, kind, header())
            assert price == f"{24 if kind == 'member' else 30}!"
            assert c.trace.lines() == {SITE: live_site.truth(kind, interface)}
            assert c.trace.dropped == 0
            assert os.getpid() not in {section.pid for section in c.trace.sections}


def test_who_answers_without_being_asked_by_a_collector_is_not_collected() -> None:
    with serving(*SERVERS["wsgi"]) as port:
        with pykcov.collect(include=[SITE]) as c:
            assert ask(port, "guest", {}) == "30!"
            assert ask(port, "guest", {"baggage": "pykcov=1.2"}) == "30!"
        assert c.trace.lines() == {}


# -- the middleware alone


def one():
    return 1


def two():
    return 2


def three():
    return 3


def found(trace: pykcov.Trace) -> set[str]:
    """Which of the three functions were executed."""
    here = trace.lines().get(__file__, set())
    return {f.__name__ for f in (one, two, three) if f.__code__.co_firstlineno + 1 in here}


class Elsewhere:
    """A thread that was there before, and inherits nothing."""

    def __enter__(self):
        self._jobs: queue.Queue[tuple[Callable[[], object], Future[object]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._jobs.put(None)
        self._thread.join()

    def run(self, function):
        done: Future[object] = Future()
        self._jobs.put((function, done))
        return done.result(60)

    def _work(self):
        while (job := self._jobs.get()) is not None:
            function, done = job
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with Elsewhere() as thread:
        yield thread


async def call(app, scope, messages=()):
    sent = []
    waiting = list(messages)

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_asgi_a_websocket_is_a_section_as_long_as_it_is_open(server: Elsewhere) -> None:
    async def app(scope, receive, send):
        while (message := await receive())["type"] == "websocket.receive":
            await send(globals()[message["text"]]())

    async def serve(headers):
        # Another task of the same thread, for somebody else.
        scope = {"type": "websocket", "headers": raw(headers)}
        messages = [{"type": "websocket.receive", "text": t} for t in ("one", "two")]
        other = call(asgi.Middleware(app), {**scope, "headers": []}, [
            {"type": "websocket.receive", "text": "three"}, {"type": "websocket.disconnect"}])  # fmt: skip
        mine = call(asgi.Middleware(app), scope, [*messages, {"type": "websocket.disconnect"}])
        return await asyncio.gather(mine, other)

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        assert server.run(lambda: asyncio.run(serve(headers))) == [[1, 2], [3]]
    assert found(c.trace) == {"one", "two"}


def test_asgi_lifespan_and_whatever_has_no_headers_passes(server: Elsewhere) -> None:
    async def app(scope, receive, send):
        await send(scope)

    scope = {"type": "lifespan"}
    with pykcov.collect(include=[__file__]) as c:
        assert server.run(lambda: asyncio.run(call(asgi.Middleware(app), scope))) == [scope]
    assert found(c.trace) == set()


def test_asgi_an_exception_of_the_application_passes_and_ends_the_section(
    server: Elsewhere,
) -> None:
    async def app(scope, receive, send):
        one()
        raise ZeroDivisionError("mine")

    async def serve(headers):
        with pytest.raises(ZeroDivisionError, match="mine") as caught:
            await call(asgi.Middleware(app), {"type": "http", "headers": raw(headers)})
        two()  # the same task, after the request
        return [entry.name for entry in caught.traceback][-1]

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        assert server.run(lambda: asyncio.run(serve(headers))) == "app"
    assert found(c.trace) == {"one"}


def test_asgi_what_a_request_leaves_behind_works_for_it(server: Elsewhere) -> None:
    async def app(scope, receive, send):
        scope["state"].append(asyncio.create_task(later()))

    async def later():
        await asyncio.sleep(0.01)
        three()

    async def serve(headers):
        left: list[asyncio.Task[None]] = []
        scope = {"type": "http", "headers": raw(headers), "state": left}
        await call(asgi.Middleware(app), scope)
        await call(asgi.Middleware(app), {**scope, "headers": []})
        await asyncio.gather(*left)

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        server.run(lambda: asyncio.run(serve(headers)))
    assert found(c.trace) == {"three"}
    lines = [c.trace.symbolize(pc).line for pc in c.trace.pcs]
    assert lines.count(three.__code__.co_firstlineno + 1) == 1


def answer(headers: dict[str, str], application: Any, environ: dict[str, Any] | None = None) -> Any:
    every = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return wsgi.Middleware(application)({**every, **(environ or {})}, None)


def test_wsgi_the_call_each_step_and_close_belong_to_the_request(server: Elsewhere) -> None:
    class Body:
        def __init__(self):
            one()

        def __iter__(self):
            yield two()

        def close(self):
            three()

    def serve(headers):
        body = answer(headers, lambda environ, start_response: Body())
        found = list(body)
        body.close()
        return found

    for done, wanted in (
        (serve, {"one", "two", "three"}),
        (lambda headers: next(iter(answer(headers, lambda e, s: Body()))), {"one", "two"}),
    ):
        with pykcov.collect(include=[__file__]) as c:
            headers = header()
            server.run(lambda: done(headers))  # noqa: B023
        assert found(c.trace) == wanted


def test_wsgi_what_happens_between_the_steps_is_the_servers(server: Elsewhere) -> None:
    def serve(headers):
        for _ in answer(headers, lambda environ, start_response: (f() for f in (one, two))):
            three()

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        server.run(lambda: serve(headers))
    assert found(c.trace) == {"one", "two"}


def test_wsgi_a_list_or_a_file_is_given_to_the_server_as_it_is(server: Elsewhere) -> None:
    class FileWrapper:
        pass

    body, file = [b"1"], FileWrapper()
    with pykcov.collect(include=[__file__]):
        headers = header()
        environ = {"wsgi.file_wrapper": FileWrapper}
        assert server.run(lambda: answer(headers, lambda e, s: body)) is body
        assert server.run(lambda: answer(headers, lambda e, s: file, environ)) is file
        assert server.run(lambda: answer({}, lambda e, s: file)) is file


def test_wsgi_an_answer_that_knows_its_length_has_it_still(server: Elsewhere) -> None:
    """wsgiref and others send the Content-Length of an answer that has one piece."""

    class Body:
        def __iter__(self):
            yield b"1"

        def __len__(self):
            return one()

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        assert server.run(lambda: len(answer(headers, lambda e, s: Body()))) == 1
        assert server.run(lambda: not hasattr(answer(headers, lambda e, s: iter(())), "__len__"))
    assert found(c.trace) == {"one"}


def test_wsgi_an_exception_passes_and_ends_the_section(server: Elsewhere) -> None:
    def app(environ, start_response):
        yield one()
        raise ZeroDivisionError("mine")

    def serve(headers):
        body = answer(headers, app)
        assert next(body) == 1
        with pytest.raises(ZeroDivisionError, match="mine"):
            next(body)
        with pytest.raises(StopIteration):
            next(body)
        body.close()
        two()

    with pykcov.collect(include=[__file__]) as c:
        headers = header()
        server.run(lambda: serve(headers))
    assert found(c.trace) == {"one"}


def test_a_server_that_is_collected_itself_keeps_what_its_requests_execute(
    server: Elsewhere,
) -> None:
    with pykcov.collect(include=[__file__]) as client:
        headers = header()

        def serve() -> None:
            with pykcov.collect(include=[__file__]) as own:
                list(answer(headers, lambda environ, start_response: (f() for f in (one,))))
                two()
            assert found(own.trace) == {"one", "two"}

        server.run(serve)
    assert found(client.trace) == {"one"}
