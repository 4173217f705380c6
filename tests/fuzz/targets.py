"""What a target is, and what is true of each.

A target makes inputs and runs them. `run()` returns in a word what became of the input: an input
with a new outcome is worth to be changed further. It raises what escaped: an exception that the
thing under test may not raise, or `Broken` if a property does not hold.

Nothing but the input decides what `run()` does: how a stream is cut, or which limit is set, is
drawn from its checksum.

`decoding` has those that take one payload, `cutting` and `proxied` those that take a stream,
`recordings` that which takes a file, `endpoints` and `waiting` those with sockets.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from random import Random

from fuzz.mutators import mutate

__all__ = ["VALUES", "Broken", "Target", "check", "drawn_from"]

VALUES: tuple[list[object], ...] = (
    [0, "add", "n1", 2, "n2", 3],
    [2**31 - 1, "echo", -1, 2**40, 1.5, None, True, "caf\xe9", "\u263a", "", "x" * 300],
    [1, "fields", {"a": [1, {"b": []}], "c": {"d": {}}}, [[[[]]]]],
    [7, "error", "text", "errors", ["text"]],
    [3, "call", 1, 2],
    [3, "destroy"],
)
"""Packets as there are every day, to begin with."""


class Broken(AssertionError):
    """A property does not hold."""


class Target(ABC):
    """Something that reads bytes from strangers."""

    def __init__(self) -> None:
        self.seeds: list[bytes] = [b""]
        """Inputs to change: at first those that are known, then those with new outcomes."""
        self.begin()

    @abstractmethod
    def make(self, source: Random) -> bytes:
        """Return an input with a structure."""

    @abstractmethod
    def run(self, data: bytes) -> str:
        """Give it the input; return the outcome. What is raised has escaped."""

    def read(self, data: bytes) -> None:
        """Do with it what a program would, and no more: this is what is measured."""
        self.run(data)

    def size(self, data: bytes) -> int:
        """Return how many bytes an input is, or stands for, that was run just now."""
        return len(data)

    def generate(self, source: Random) -> bytes:
        """Return the next input: made, or changed."""
        dice = source.random()
        if dice < 0.7:
            return self.make(source)
        if dice < 0.85:
            return mutate(source, self.make(source), self.seeds)
        return mutate(source, source.choice(self.seeds), self.seeds)

    def begin(self) -> None:  # noqa: B027
        """Make what is to be there for all inputs; after an escape, make it anew."""

    def close(self) -> None:  # noqa: B027
        """Give back what `begin()` has made."""


def drawn_from(data: bytes) -> Random:
    """Return a source of what an input does not say."""
    return Random(zlib.crc32(data))


def check(holds: bool, what: str, *found: object) -> None:
    """Raise Broken if something does not hold."""
    if not holds:
        raise Broken(f"{what}: {', '.join(f'{each!r:.200}' for each in found)}")
