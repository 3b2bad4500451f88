"""Get through the gates of gates.py by what its worker compares; with --blind TRIES by lines alone.

Input-to-state: a value that was compared and stands in the input, one way or another, is replaced by
the value that it was compared with.
"""

import random
import sys
from collections.abc import Iterator, Sequence

import pykcov

pykcov.instrument(include=["*/gates.py"], comparisons=True)

import gates  # noqa: E402

START = bytes(range(65, 89))


def forms(old: object, new: object) -> Iterator[tuple[bytes, bytes]]:
    """What two values may look like in an input, in the same way."""
    if isinstance(old, int) and isinstance(new, int):
        for size in (1, 2, 4, 8):
            if 0 <= old < 256**size and 0 <= new < 256**size:
                yield old.to_bytes(size, "little"), new.to_bytes(size, "little")
                yield old.to_bytes(size, "big"), new.to_bytes(size, "big")
    elif isinstance(old, bytes) and isinstance(new, bytes):
        yield old, new
    elif isinstance(old, str) and isinstance(new, str):
        yield old.encode(), new.encode()
        yield old.upper().encode(), new.encode()


def children(data: bytes, comparisons: Sequence[pykcov.Comparison]) -> Iterator[bytes]:
    for one in comparisons:
        for pair in ((one.left, one.right), (one.right, one.left)):
            for old, new in forms(*pair):
                if old and old in data:
                    yield data.replace(old, new, 1)


def track() -> tuple[bytes | None, int]:
    known: set[int] = set()
    inputs, tries = [START], 0
    with pykcov.open(include=[gates.__file__]) as device:
        device.init_trace(1 << 12)
        area = device.mmap()
        device.remote_enable(trace_mode=pykcov.TRACE_CMP, area_size=1 << 12, common_handle=1)
        while inputs:
            data = inputs.pop()
            area[0], tries = 0, tries + 1
            if gates.ask(data) == "welcome":
                return data, tries
            trace = device.trace()
            if not known.issuperset(trace.pcs):
                known.update(trace.pcs)
                inputs += children(data, trace.comparisons)
    return None, tries


def blind(tries: int) -> tuple[bytes | None, int]:
    """The same by new lines, and random changes instead of values."""
    dice, corpus, known = random.Random(1), [START], set[int]()
    with pykcov.open(include=[gates.__file__]) as device:
        device.init_trace(1 << 12)
        area = device.mmap()
        device.enable()
        for number in range(1, tries + 1):
            data = bytearray(dice.choice(corpus))
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            area[0] = 0
            if gates.parse(bytes(data)) == "welcome":
                return bytes(data), number
            if not known.issuperset(area[1 : area[0] + 1]):
                known.update(area[1 : area[0] + 1])
                corpus.append(bytes(data))
    return None, tries


if __name__ == "__main__":
    found, tries = blind(int(sys.argv[2])) if sys.argv[1:2] == ["--blind"] else track()
    print(
        f"{found!r} got through after {tries} tries"
        if found
        else f"not through after {tries} tries"
    )
