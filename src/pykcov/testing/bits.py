"""Line numbers as bits, a byte for eight lines: small in a database, and on the way from another process."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["decode", "encode", "merge"]


def encode(lines: Collection[int]) -> bytes:
    """Return line numbers as bits: number n is bit n % 8 of byte n // 8."""
    found = bytearray(max(lines, default=-1) // 8 + 1)
    for line in lines:
        found[line >> 3] |= 1 << (line & 7)
    return bytes(found)


def decode(bits: bytes) -> set[int]:
    """Return the line numbers that encode() was called on."""
    return {8 * i + j for i, byte in enumerate(bits) if byte for j in range(8) if byte >> j & 1}


def merge(one: bytes, other: bytes) -> bytes:
    """Return the bits of the lines of both."""
    both = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return both.to_bytes(max(len(one), len(other)), "little")
