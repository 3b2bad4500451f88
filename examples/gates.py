"""A server whose requests have to get through four gates, each behind the one before."""

import queue
import threading
import zlib

import pykcov

_requests: queue.Queue[tuple[int, bytes, "queue.Queue[str]"]] = queue.Queue()


def parse(data: bytes) -> str:
    if int.from_bytes(data[:4], "little") != 0x4B434F56:
        return "no magic number"
    if data[4:8] != b"RQST":
        return "no request"
    command = data[8:16].decode("latin-1")
    if command.lower() != "transmit":
        return "no such command"
    if zlib.crc32(data[:16]) != int.from_bytes(data[16:20], "big"):
        return "bad checksum"
    return "welcome"


def ask(data: bytes) -> str:
    """Let the server answer a request; what it does is for whose common handle this task has."""
    answer: queue.Queue[str] = queue.Queue()
    _requests.put((pykcov.common_handle(), data, answer))
    return answer.get()


def _serve() -> None:
    while True:
        handle, data, answer = _requests.get()
        with pykcov.remote(handle):
            text = parse(data)
        answer.put(text)


threading.Thread(target=_serve, daemon=True).start()
