"""What is to be done at a certain time: a heap of deadlines.

An entry that is cancelled stays in the heap until its turn comes, or until most of the heap is
like it: cancelling costs nothing, and a program that sets and cancels a timer for each call
does not grow.

This file knows no clock: `now` is passed in, in the seconds of whoever uses it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Entry", "Timers"]

_FEW = 64  # entries that are not worth cleaning up


class Entry:
    """One thing to do at one time."""

    __slots__ = ("action", "due", "order")

    def __init__(self, due: float, order: int, action: Callable[[], None]) -> None:
        self.due = due
        self.order = order
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: Entry) -> bool:
        """Order by time, and what is due at the same time by when it was added."""
        return (self.due, self.order) < (other.due, other.order)


class Timers:
    """A heap of entries, the first that is due on top."""

    __slots__ = ("_cancelled", "_count", "heap")

    def __init__(self) -> None:
        self.heap: list[Entry] = []  # for others to see, without a call, if there is anything
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Return how many entries are still to be done."""
        return len(self.heap) - self._cancelled

    def add(self, due: float, action: Callable[[], None]) -> Entry:
        """Do something at a time; return what `cancel()` takes."""
        self._count += 1
        entry = Entry(due, self._count, action)
        heapq.heappush(self.heap, entry)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Do not do it after all; nothing happens if it was done already."""
        if entry.action is None:
            return
        entry.action = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self.heap) // 2:
            self.heap = [entry for entry in self.heap if entry.action is not None]
            heapq.heapify(self.heap)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """Return when the next entry is due; None if there is none."""
        heap = self.heap
        while heap and heap[0].action is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0].due if heap else None

    def run(self, now: float) -> None:
        """Do what is due, in order."""
        while (due := self.next_due()) is not None and due <= now:
            entry = heapq.heappop(self.heap)
            action, entry.action = entry.action, None
            if action is not None:
                action()

    def clear(self) -> None:
        """Forget everything."""
        for entry in self.heap:
            entry.action = None  # so that it can still be cancelled
        self.heap.clear()
        self._cancelled = 0
