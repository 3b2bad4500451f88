"""A site for the tests of live servers, as ASGI and as WSGI. A comment says which requests execute a line."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pykcov.carry import asgi, wsgi

POOL = ThreadPoolExecutor(2)


def total(prices):
    return sum(prices)  # guest member


def discount(price):
    return price * 8 // 10  # member


def guest():
    return total([10, 20])  # guest


def member():
    price = total([10, 20])  # member
    return POOL.submit(discount, price).result()  # member


async def chunk(price):
    await asyncio.sleep(0.001)  # asgi
    return str(price).encode()  # asgi


async def aapp(scope, receive, send):
    if scope["type"] == "lifespan":  # asgi
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    kind = scope["path"].strip("/")  # asgi
    if kind == "wrong":  # asgi
        raise ValueError("wrong")
    price = await asyncio.to_thread(globals()[kind])  # asgi
    begin = {"type": "http.response.start", "status": 200, "headers": []}  # asgi
    await send(begin)  # asgi
    parts = [asyncio.create_task(chunk(p)) for p in (price, "!")]  # asgi
    for part in parts[:1]:  # asgi
        body = await part  # asgi
        await send({"type": "http.response.body", "body": body, "more_body": True})  # asgi
    last = await parts[1]  # asgi
    await send({"type": "http.response.body", "body": last})  # asgi


def answer(kind):
    yield str(globals()[kind]()).encode()  # wsgi
    yield b"!"  # wsgi


def wapp(environ, start_response):
    kind = environ["PATH_INFO"].strip("/")  # wsgi
    start_response("200 OK", [("Content-Type", "text/plain")])  # wsgi
    return answer(kind)  # wsgi


asgi_app = asgi.Middleware(aapp)
wsgi_app = wsgi.Middleware(wapp)


def truth(kind, interface):
    """The lines that a request executes."""
    wanted = {kind, interface}
    lines = Path(__file__).read_text().splitlines()
    return {n for n, line in enumerate(lines, 1) if wanted & set(line.partition("  # ")[2].split())}
