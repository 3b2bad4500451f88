"""Who does the work: threads and an event loop that were there before any test, pools, a server."""

import asyncio
import os
import queue
import sys
import threading
import urllib.request
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from wsgiref.simple_server import WSGIRequestHandler, make_server

import jobs

import pykcov
from pykcov.carry import headers, wsgi

POOL = ThreadPoolExecutor(2)


class Threads:
    """Two threads and a queue: the handle goes with the job."""

    def __init__(self):
        self._jobs = queue.Queue()
        for _ in range(2):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self, function):
        done = queue.Queue()
        self._jobs.put((pykcov.common_handle(), function, done))
        return done.get(timeout=60)

    def _work(self):
        while True:
            handle, function, done = self._jobs.get()
            with pykcov.remote(handle):
                result = function()
            done.put(result)


class Loop:
    """An event loop in a thread of its own, with a task that works for whoever comes."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        ready.wait()

    def run(self, function):
        done = queue.Queue()
        job = (pykcov.common_handle(), function, done)
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, job)
        return done.get(timeout=60)

    def _serve(self, ready):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._work(ready))

    async def _work(self, ready):
        self._jobs = asyncio.Queue()
        ready.set()
        while True:
            handle, function, done = await self._jobs.get()
            with pykcov.remote(handle):
                result = function()
            done.put(result)


class Processes:
    """A pool of processes: the test that comes first makes it."""

    pool = None

    def run(self, function):
        if self.pool is None:
            self.pool = ProcessPoolExecutor(1)
        return self.pool.submit(function).result(timeout=60)

    def close(self):
        if self.pool is not None:
            self.pool.shutdown()


class Noise:
    """Somebody else's work, all the time."""

    def __init__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._over.wait(0.001):
            jobs.noise()

    def close(self):
        self._over.set()
        self._thread.join()


def ask(port, name):
    """Ask the server, which works for whoever is collected here."""
    carried = {}
    headers.inject(carried)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", headers=carried)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.read())


def application(environ, start_response):
    result = getattr(jobs, environ["PATH_INFO"].strip("/"))()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(result).encode()]


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, wsgi.Middleware(application), handler_class=Quiet)
    print(server.server_port, flush=True)
    parent = os.getppid()
    server.timeout = 1
    while os.getppid() == parent:
        server.handle_request()
    sys.exit()
