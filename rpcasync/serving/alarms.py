"""What is to be done for a call after some time: a heap of deadlines, and one timer of the mux.

The timer is set for the first of them. One that has nothing to do any more, since its call has
ended, is not taken out: it stays until its turn comes, or until most of the heap may be like it.
So the end of a call costs nothing here. The heap is one of tuples, which C code alone compares:
no Ctrl-C can come between.

A turn is short, however much is due at once: what is left waits for a timer of 0 seconds, and
other events come in between.

This file calls no procedures, and knows no peers.
"""

from __future__ import annotations

import heapq
import time
from typing import Any, Protocol

__all__ = ["Alarm", "Alarms"]

_FEW = 64  # entries that are not worth looking through
_SECONDS = 0.005  # of one turn, and then to the end of what is being done


class Alarm(Protocol):
    """What is to be done at one time."""

    def is_live(self) -> bool:
        """True if there is still something to do."""
        ...

    def ring(self) -> None:
        """Do it; it is not live behind that. One that was interrupted before rings again."""
        ...


class Alarms:
    """The alarms of one server.

    Args:
        mux: has the timer, and the clock that goes with it.
    """

    __slots__ = ("_clock", "_count", "_heap", "_look_at", "_rings_at", "_timer", "_watch")

    def __init__(self, mux: object) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._heap: list[tuple[float, int, Alarm]] = []
        self._count = 0  # of what is due at the same time, the first that was set comes first
        self._look_at = _FEW  # so many entries are looked through for those that are not live
        self._watch: Any = None  # of the timer
        self._rings_at: float | None = None  # when the timer is due; None if none is known to run

    def __len__(self) -> int:
        """Return how many there are, those included that have nothing to do any more."""
        return len(self._heap)

    def check(self, what: str) -> None:
        """See that there is a timer.

        Raises:
            TypeError: the mux has none.
        """
        if self._timer is None:
            raise TypeError(f"{what} needs a mux with timer(), as EventMux has it")

    def set(self, seconds: float, alarm: Alarm) -> None:
        """Have something done after so many seconds."""
        if len(self._heap) >= self._look_at:
            self._look_through()
        self._count += 1
        heapq.heappush(self._heap, (self._clock() + seconds, self._count, alarm))
        self._arm()

    def _look_through(self) -> None:
        heap = [entry for entry in self._heap if entry[2].is_live()]
        heapq.heapify(heap)
        self._heap, self._look_at = heap, 2 * len(heap) + _FEW

    def clear(self) -> None:
        """Forget all: nothing is live any more."""
        self._heap, self._look_at, self._rings_at = [], _FEW, None
        self._cancel_timer()

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object.

        If an alarm raises what ends a program, such as KeyboardInterrupt, call `recover()`.
        """
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self._rings_at = None
        self._ring()
        self._arm()
        return True

    def recover(self) -> None:
        """See that the timer runs: something was interrupted."""
        self._rings_at = None
        self._arm()

    def _ring(self) -> None:
        end = time.monotonic() + _SECONDS
        while self._heap:  # an alarm may turn the loop, which comes here again
            due, _, alarm = self._heap[0]
            if not alarm.is_live():
                heapq.heappop(self._heap)
            elif due > self._clock() or time.monotonic() >= end:
                break
            else:
                alarm.ring()

    def _arm(self) -> None:
        """Have the timer run for the first entry, if it does not, or runs for a later one."""
        while self._heap:
            due, _, alarm = self._heap[0]
            if self._rings_at is not None and self._rings_at <= due:
                return
            if alarm.is_live():
                break
            heapq.heappop(self._heap)
        else:
            return
        self._rings_at = None
        self._cancel_timer()
        self._watch = self._timer(max(0.0, due - self._clock()), self)
        self._rings_at = due  # last: should it be interrupted before, another one runs as well

    def _cancel_timer(self) -> None:
        watch, self._watch = self._watch, None
        cancel = getattr(watch, "cancel", None)  # another mux than ours may return nothing
        if cancel is not None:
            cancel()
