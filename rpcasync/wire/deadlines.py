"""When things are due: a heap of deadlines, each known by a key, and what a time may be.

A deadline that is discarded stays in the heap until its turn comes, or until most of the heap is
like it. This file knows no clock: `now` is passed in, in the seconds of whoever uses it.
"""

from __future__ import annotations

import heapq

__all__ = ["Deadlines", "check_seconds", "check_time", "check_timeout"]

_FEW = 64  # entries that are not worth cleaning up


def check_seconds(name: str, seconds: float) -> float:
    """Return a time in seconds if it can be waited for.

    Raises:
        ValueError: it is negative, infinite or NaN.
        TypeError: it is no number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is {seconds!r}, must be a number of seconds")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} is {seconds!r}, must be 0 seconds or more")
    return seconds


def check_time(name: str, seconds: object) -> None:
    """See that a limit of time is above 0, or None for none.

    Raises:
        ValueError: it is something else.
    """
    if seconds is not None and (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 < seconds < float("inf")
    ):
        raise ValueError(f"{name} is {seconds!r}, must be a number of seconds above 0, or None")


def check_timeout(seconds: float | None) -> float | None:
    """Return the time that a call has; None is for ever.

    Raises:
        ValueError: it is negative, infinite or NaN.
        TypeError: it is no number.
    """
    return None if seconds is None else check_seconds("timeout", seconds)


class Deadlines:
    """A set of keys, each with the time when it is `due`."""

    __slots__ = ("_heap", "due")

    def __init__(self) -> None:
        self.due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def set(self, key: int, due: float) -> None:
        """Have the key due at a time, and not when it was before."""
        self.due[key] = due
        heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * len(self.due) + _FEW:
            self._heap = [(due, key) for key, due in self.due.items()]
            heapq.heapify(self._heap)

    def discard(self, key: int) -> None:
        """Forget the key, if it is there."""
        self.due.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.due.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """Return when the next key is due; None if there is none."""
        heap = self._heap
        while heap and self.due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def first(self, now: float) -> int | None:
        """Return the key that is due first, if it is due by now. It stays until it is discarded."""
        due = self.next()
        return self._heap[0][1] if due is not None and due <= now else None
