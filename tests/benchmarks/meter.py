"""What a client asks for, and how many right answers it gets in a second.

A client makes calls for ever, and tells its `Tally` of each answer. The `Meter` looks at the
tallies twice, from a thread that otherwise sleeps: clients need no clock, and all are measured in
the same way, be they loops, threads or coroutines. The first wrong answer ends the process.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

PAYLOAD = "x" * 100_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How a client asks: a column of the table."""

    name: str
    title: str
    connections: int = 1
    in_flight: int = 1  # calls of each connection
    echo: bool = False  # 100 KB there and back, instead of adding two numbers


SHAPES = (
    Shape("one", "one at a time"),
    Shape("100", "100 in flight", in_flight=100),
    Shape("1000", "1,000 in flight", in_flight=1000),
    Shape("50x10", "50 clients x 10", connections=50, in_flight=10),
    Shape("echo", "100 KB echo", echo=True),
)


class Tally:
    """The right answers of one thread."""

    def __init__(self) -> None:
        self.calls = 0

    def check(self, expected: object, found: object) -> None:
        """Count an answer; end the process if it is wrong."""
        if found != expected:
            fail(f"wrong answer: {found!r:.80}, expected {expected!r:.80}")
        self.calls += 1

    def check_all(self, expected: list[int], found: Iterable[object]) -> None:
        """Count the answers of a batch."""
        answers = list(found)
        if answers != expected:
            fail(f"wrong answers: {answers!r:.80}, expected {expected!r:.80}")
        self.calls += len(answers)


class Meter:
    """Measures a client that asks in a certain way; `drive()` of a peer is given one.

    Args:
        shape: how to ask.
        warmup: seconds before it counts.
        seconds: for which it counts.
    """

    def __init__(self, shape: Shape, warmup: float, seconds: float) -> None:
        self.shape = shape
        self._warmup = warmup
        self._seconds = seconds
        self._tallies: list[Tally] = []
        source = random.Random(1)
        pairs = [(source.randrange(1000), source.randrange(1000)) for _ in range(1000)]
        self.pairs = itertools.cycle(pairs)
        """What to add: an iterator without an end, for one thread or several."""

    def tally(self) -> Tally:
        """Return what counts the answers of one thread."""
        self._tallies.append(Tally())
        return self._tallies[-1]

    def batch(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Return as many pairs as there may be calls in flight, and their sums."""
        pairs = list(itertools.islice(self.pairs, self.shape.in_flight))
        return pairs, [n1 + n2 for n1, n2 in pairs]

    def start(self) -> None:
        """Call this when all are connected. The end of the time is the end of the process."""
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        time.sleep(self._warmup)
        calls, start = self._calls(), time.perf_counter()
        time.sleep(self._seconds)
        rate = (self._calls() - calls) / (time.perf_counter() - start)
        print(rate, flush=True)
        os._exit(0)  # clients do not know how to end, and need not

    def _calls(self) -> int:
        return sum(tally.calls for tally in self._tallies)


def fail(why: str) -> None:
    """End the process, from wherever it is: exceptions get lost in callbacks and threads."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)
