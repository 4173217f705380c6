"""Damage to inputs, whatever is in them.

The one rule: all that is random comes from the source that is given, so that a seed repeats it.

This file knows no format, but for one thing: many have lengths of four bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

__all__ = ["LENGTHS", "cut", "mutate", "some_size"]

LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 127, 128, 255, 256, 65535, 65536, 2**24, 2**24 + 1, 2**31 - 1]
LENGTHS += [2**31, 2**32 - 4, 2**32 - 1]
"""What stands in length fields to see whether anybody believes it."""

_LONGEST = 4 * 1024 * 1024  # bytes: what grows beyond is cut


def some_size(source: Random, usual: int = 12, most: int = 4096) -> int:
    """Return how many things to make: most often few, and now and then very many."""
    dice = source.random()
    if dice < 0.9:
        return source.randrange(usual)
    return int(min(most, 2 ** source.uniform(3, 10 if dice < 0.995 else 20)))


def mutate(source: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the input with one to four changes; some put a part of another one in."""
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4))):
        if source.random() < 0.1:
            data = _splice(source, data, source.choice(others))
        else:
            data = source.choice(_EDITS)(source, data)
    return data[:_LONGEST]


def cut(source: Random, data: bytes) -> list[bytes]:
    """Return the bytes in pieces, as a network might deliver them."""
    how = source.randrange(4)
    if how == 0 or len(data) < 2:
        return [data]
    if how == 1 and len(data) <= 300:
        return [data[at : at + 1] for at in range(len(data))]
    if how == 2:
        at = source.randrange(1, len(data))
        return [data[:at], data[at:]]
    ends = sorted(source.randrange(1, len(data)) for _ in range(source.randrange(1, 20)))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def _range(source: Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = source.randrange(len(data) + 1)
    return start, min(len(data), start + source.randrange(1, longest))


def _flip(source: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = source.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]


def _change(source: Random, data: bytes) -> bytes:
    at = source.randrange(len(data) + 1)
    byte = source.choice((0, 1, 4, 0x7F, 0x80, 0xFF, source.randrange(256), source.randrange(37)))
    return data[:at] + bytes([byte]) + data[at + 1 :]


def _insert(source: Random, data: bytes) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + source.randbytes(source.randrange(1, 9)) + data[at:]


def _delete(source: Random, data: bytes) -> bytes:
    start, end = _range(source, data)
    return data[:start] + data[end:]


def _duplicate(source: Random, data: bytes) -> bytes:
    start, end = _range(source, data)
    times = source.choice((1, 1, 2, 10, some_size(source)))
    return data[:end] + data[start:end] * times + data[end:]


def _truncate(source: Random, data: bytes) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _length(source: Random, data: bytes) -> bytes:
    """Change four bytes to another length, at best where one stands already."""
    zeros = data.find(b"\0\0", source.randrange(len(data) + 1))
    at = zeros if zeros >= 0 else source.randrange(len(data) + 1)
    number = source.choice(LENGTHS)
    if source.random() < 0.4:
        number = int.from_bytes(data[at : at + 4], "big") + source.choice((-4, -1, 1, 4))
    return data[:at] + (number % 2**32).to_bytes(4, "big") + data[at + 4 :]


def _move(source: Random, data: bytes) -> bytes:
    start, end = _range(source, data)
    rest = data[:start] + data[end:]
    at = source.randrange(len(rest) + 1)
    return rest[:at] + data[start:end] + rest[at:]


def _splice(source: Random, data: bytes, other: bytes) -> bytes:
    if source.random() < 0.5:
        return data[: source.randrange(len(data) + 1)] + other[source.randrange(len(other) + 1) :]
    start, end = _range(source, other)
    at = source.randrange(len(data) + 1)
    return data[:at] + other[start:end] + data[at:]


_EDITS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _change,
    _change,
    _insert,
    _delete,
    _duplicate,
    _truncate,
    _length,
    _length,
    _move,
)
