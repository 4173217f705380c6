"""How long to wait before the next attempt: ever longer, and never all for the same time.

A server that starts again needs a moment, and all its clients come at once. So the limit doubles
with each attempt, and each wait is anything up to the limit: "full jitter", as the AWS Architecture
Blog has it in "Exponential Backoff And Jitter".

This file knows no clock and no connection: it only says a number.
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """How long a client waits before it connects again.

    Before the first attempt it is any time between 0 and `least`, before the second up to twice
    that, and so on, up to `most`.

        >>> from rpcasync import Backoff
        >>> Backoff(0.1, 30)
        Backoff(least=0.1, most=30)

    Args:
        least: seconds, above 0.
        most: seconds, at least as many.

    Raises:
        ValueError: it is not so, or one is infinite or NaN.
        TypeError: one is no number.
    """

    __slots__ = ("least", "most", "uniform")

    def __init__(self, least: float = 0.1, most: float = 30.0) -> None:
        for name, seconds in (("least", least), ("most", most)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"{name} is {seconds!r}, must be a number of seconds")
            if not 0 < seconds < float("inf"):
                raise ValueError(f"{name} is {seconds!r}, must be above 0 seconds")
        if most < least:
            raise ValueError(f"most is {most!r}, must be at least {least!r}, which is `least`")
        self.least = least
        self.most = most
        self.uniform: Callable[[float, float], float] = random.uniform
        """Draws between two numbers: `random.Random(1).uniform` draws the same each time."""

    def __repr__(self) -> str:
        """Show both limits."""
        return f"Backoff(least={self.least!r}, most={self.most!r})"

    def limit(self, attempt: int) -> float:
        """Return the most seconds to wait before an attempt; the first is 0.

        Raises:
            ValueError: `attempt` is negative.
        """
        if attempt < 0:
            raise ValueError(f"attempt is {attempt!r}, must be 0 or more")
        least: float = self.least
        while attempt > 0 and least < self.most:
            least *= 2
            attempt -= 1
        return min(least, self.most)

    def seconds(self, attempt: int) -> float:
        """Return how many seconds to wait before an attempt; the first is 0.

        Raises:
            ValueError: `attempt` is negative.
        """
        return self.uniform(0.0, self.limit(attempt))
