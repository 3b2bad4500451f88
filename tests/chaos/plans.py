"""What a section executes: from its number alone, so that worker and checker need not talk."""

from __future__ import annotations

import random
from dataclasses import dataclass

COLLECTIONS = 64
HANDLES = 3  # of each collection
THREADS = 4
LANES = 6  # of a worker: a thread each, but the last LANES - THREADS + 1 are tasks of one loop

_FIRST_HANDLE = 0x1000
_NUMBER_DIGITS = 12  # of 4 bits
_LANE_BITS, _SERIAL_BITS = 4, 28


def handle(collection: int, which: int) -> int:
    """Return a handle of a collection. All are in the range of common handles."""
    return _FIRST_HANDLE + 4 * collection + which


def number(worker: int, lane: int, serial: int) -> int:
    """Return a section's number, 48 bits: nothing else in a run has it."""
    return (worker << _LANE_BITS | lane) << _SERIAL_BITS | serial


def split(section: int) -> tuple[int, int, int]:
    """Return (worker, lane, serial)."""
    rest, serial = divmod(section, 1 << _SERIAL_BITS)
    return rest >> _LANE_BITS, rest & (1 << _LANE_BITS) - 1, serial


@dataclass(slots=True)
class Plan:
    """One section: digits and inner sections, in order."""

    number: int
    handle: int
    by_statement: bool  # `with remote()`, else remote_start() and remote_stop()
    start: int  # digits that its root executes before it
    body: list[bytes | Plan]
    digits: bytes = b""  # all of it, those of the inner sections too

    def walk(self) -> list[Plan]:
        """Return this section and all that are in it, from the outside in."""
        found = [self]
        for part in self.body:
            if isinstance(part, Plan):
                found += part.walk()
        return found


def name_digits(section: int) -> bytes:
    """Return the digits that every section begins with: its number."""
    return bytes(section >> 4 * n & 15 for n in reversed(range(_NUMBER_DIGITS)))


def make(seed: int, root: int) -> Plan:
    """Return the plan of the root section of that number; its inner ones have the numbers that follow."""
    rng = random.Random(seed << 64 | root)
    return _make(rng, [root], 0, 0, rng.randrange(COLLECTIONS))


def _make(rng: random.Random, numbers: list[int], start: int, depth: int, near: int) -> Plan:
    me = numbers[0]
    numbers[0] += 1
    # One more than there are: nobody ever enables that one's handles. Inner sections are often for the
    # collection that the outer one is for.
    collection = near if depth == 0 or rng.random() < 0.2 else rng.randrange(COLLECTIONS + 1)
    plan = Plan(
        me, handle(collection, rng.randrange(HANDLES)), rng.random() < 0.5, start, [name_digits(me)]
    )
    done = start + _NUMBER_DIGITS
    kind = rng.random()
    if kind < 0.01:
        pieces, longest = 1, 12_000
    elif kind < 0.15:
        pieces, longest = rng.randrange(1, 5), 400
    else:
        pieces, longest = rng.randrange(3), 30
    for _ in range(pieces):
        if depth < 3 and rng.random() < 0.35:
            inner = _make(rng, numbers, done, depth + 1, collection)
            plan.body.append(inner)
            done += len(inner.digits)
        run = rng.randbytes(rng.randrange(1, longest)).translate(_LOW)
        plan.body.append(run)
        done += len(run)
    plan.digits = b"".join(p if isinstance(p, bytes) else p.digits for p in plan.body)
    return plan


_LOW = bytes(value & 15 for value in range(256))
