"""A roll: each worker is replaced, one after the other, and nobody notices.

A replacement is started first, and the old worker told to go when that is ready. When it has ended,
it is the turn of the next. If a replacement fails, the roll stops, and all others stay.

This file starts and ends nothing itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rpcasync.workers.worker import Worker

if TYPE_CHECKING:
    from eventmux import Watch

__all__ = ["Roll", "Seat"]


class Seat:
    """One of the N workers that there are to be: who it is, and how often that one has ended."""

    __slots__ = ("attempts", "number", "retry", "worker")

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.attempts = 0
        """How many were started that did not last."""
        self.retry: Watch | None = None
        """Of the timer with which another one is started."""


class Roll:
    """One roll.

    Args:
        seats: whose workers are replaced.
        start: starts a worker for a seat; returns None if it cannot be done.
        dismiss: tells a worker to go.
        over: is called at the end with what was done: how many were replaced, and in how many
            seconds; and whether it is all that was to be done.
    """

    def __init__(
        self,
        seats: Iterable[Seat],
        start: Callable[[Seat], Worker | None],
        dismiss: Callable[[Worker], None],
        over: Callable[[int, float, bool], None],
    ) -> None:
        self._left = deque((seat, seat.worker) for seat in seats)
        self._start = start
        self._dismiss = dismiss
        self._over = over
        self._began = time.monotonic()
        self._done = 0
        self._seat: Seat | None = None  # the newcomer's
        self._newcomer: Worker | None = None  # who is not ready yet
        self._leaving: Worker | None = None  # whose place has been taken

    def go_on(self) -> None:
        """Replace the next one."""
        self._seat = None
        while self._left:
            seat, old = self._left.popleft()
            if seat.worker is not None and seat.worker is not old:
                continue  # it has died meanwhile, and what was started for it is new
            self._seat = seat
            self._newcomer = self._start(seat)
            if self._newcomer is None:
                self._end(False)
            return
        self._end(True)

    def is_replacing(self, seat: Seat) -> bool:
        """Return whether somebody for a seat is about to get ready."""
        return self._newcomer is not None and self._seat is seat

    def ready(self, worker: Worker) -> None:
        """Take note that the newcomer is ready."""
        seat = self._seat
        if worker is self._newcomer and seat is not None:
            self._newcomer, self._leaving, seat.worker = None, seat.worker, worker
            seat.attempts = 0
            self._done += 1
            if self._leaving is None:
                self.go_on()
            else:
                self._dismiss(self._leaving)

    def ended(self, worker: Worker) -> bool:
        """Take note that a worker has ended; return False if that was none of our doing."""
        if worker is self._newcomer:
            self._newcomer = None
            self._end(False)
        elif worker is self._leaving:
            self._leaving = None
            self.go_on()
        else:
            return False
        return True

    def _end(self, is_done: bool) -> None:
        self._over(self._done, time.monotonic() - self._began, is_done)
