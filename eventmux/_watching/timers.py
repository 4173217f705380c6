"""What is to be done at a certain time: a heap of deadlines.

An entry that is cancelled stays in the heap until its turn comes, or until most of the heap is
like it: cancelling costs nothing, and a program that sets and cancels a timer for each call
does not grow.

A signal handler may raise wherever a function of Python's has been called. So the heap is one of
tuples, which C code alone compares, and what was interrupted is done again: it may be done twice.

This file knows no clock: `now` is passed in, in the seconds of whoever uses it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Entry", "Timers"]

_FEW = 64  # entries that are not worth cleaning up


class Entry:
    """One thing to do at one time."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action


class Timers:
    """A heap of entries, the first that is due on top."""

    __slots__ = ("_cancelled", "_count", "heap")

    def __init__(self) -> None:
        # When it is due, and of what is due at the same time, when it was added. For others to see,
        # without a call, if there is anything.
        self.heap: list[tuple[float, int, Entry]] = []
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Return how many entries are still to be done."""
        return len(self.heap) - self._cancelled

    def add(self, due: float, action: Callable[[], None]) -> Entry:
        """Do something at a time; return what `cancel()` takes."""
        self._count += 1
        entry = Entry(action)
        heapq.heappush(self.heap, (due, self._count, entry))
        return entry

    def cancel(self, entry: Entry) -> None:
        """Do not do it after all; nothing happens if it was done already."""
        if entry.action is None:
            return
        entry.action = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self.heap) // 2:
            heap = [item for item in self.heap if item[2].action is not None]
            heapq.heapify(heap)
            self.heap = heap
            self._cancelled = 0

    def next_due(self) -> float | None:
        """Return when the next entry is due; None if there is none."""
        heap = self.heap
        while heap and heap[0][2].action is None:
            self._cancelled -= 1
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Do what is due, in order."""
        while (due := self.next_due()) is not None and due <= now:
            item = self.heap[0]
            entry = item[2]
            action, entry.action = entry.action, None
            self._cancelled += 1  # from here on it is like one that is
            try:
                if action is not None:
                    action()
            except BaseException:
                entry.action = action
                self._cancelled -= 1
                if item not in self.heap:
                    heapq.heappush(self.heap, item)
                raise

    def clear(self) -> None:
        """Forget everything."""
        for _, _, entry in self.heap:
            entry.action = None  # so that it can still be cancelled
        self.heap.clear()
        self._cancelled = 0
