"""Waiting without falling asleep, where what is waited for is about to come.

To put a process to sleep and to wake it up takes the kernel some tens of microseconds, more than
the peer may need for its answer. So a wait begins with looking again and again, for a moment. That
is time of the processor, so it is done where it has paid of late: each time that it was in vain,
more of the waits that follow go to sleep at once. Where it never pays, as on a single processor,
it costs less than one fiftieth.

This file knows no handles, and no clock but that of the processor.
"""

from __future__ import annotations

import math
from selectors import BaseSelector, SelectorKey
from time import perf_counter
from typing import Protocol

__all__ = ["Ready", "Spinner", "Waiter"]

_MOST_SKIPPED = 63  # waits, until it is tried again

Ready = list[tuple[SelectorKey, int]]


class Waiter(Protocol):
    """A way to wait for what a selector knows."""

    def wait(self, selector: BaseSelector, timeout: float | None) -> Ready:
        """Return what is ready, as `select()` does."""
        ...


class Spinner:
    """How a selector is waited for.

    Args:
        seconds: for which to look before going to sleep; 0 never looks.

    Raises:
        ValueError: it is negative, infinite or NaN.
    """

    __slots__ = ("_in_vain", "_seconds", "_skipped")

    def __init__(self, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"spin is {seconds!r}, must be 0 seconds or more, and finite")
        self._seconds = seconds
        self._in_vain = 0  # how many waits to skip after one that was
        self._skipped = 0 if seconds else math.inf  # how many are still to be skipped

    def wait(self, selector: BaseSelector, timeout: float | None) -> Ready:
        """Return what is ready, as `select()` does."""
        if timeout is not None and timeout <= self._seconds:
            return selector.select(timeout)
        if self._skipped:
            self._skipped -= 1
            return selector.select(timeout)
        ready = selector.select(0)
        if ready:
            return ready
        start = now = perf_counter()
        while now < start + self._seconds:
            ready = selector.select(0)
            if ready:
                self._in_vain = 0
                return ready
            now = perf_counter()
        self._skipped = self._in_vain = min(2 * self._in_vain + 1, _MOST_SKIPPED)
        return selector.select(None if timeout is None else max(0.0, timeout - (now - start)))
