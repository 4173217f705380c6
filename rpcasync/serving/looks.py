"""A look at all clients of a server from time to time, as long as there are some.

It takes one timer, however many they are; and none while nobody is there, since that would keep a
mux waiting that has nothing else. This file does not know what is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from rpcasync.serving.peer import Peer

__all__ = ["Looks"]


class Looks:
    """One server's looks for one thing.

    Args:
        mux: has the timer, and the clock that goes with it.
        peers: returns the clients that there are.
    """

    __slots__ = ("_clock", "_due", "_peers", "_timer", "_watch", "limit")

    count: ClassVar[int]
    """How many there are in the limit."""

    def __init__(self, mux: object, peers: Callable[[], Collection[Peer]]) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._peers = peers
        self._due: float | None = None  # when the next one is; None if no timer runs
        self._watch: Any = None  # of that
        self.limit: float | None = None  # seconds; None is no look at all

    def check(self, name: str, limit: float | None) -> None:
        """See that a limit can be kept.

        Raises:
            TypeError: the mux has no timer.
        """
        if limit is not None and self._timer is None:
            raise TypeError(f"{name} needs a mux with timer(), as EventMux has it")

    def set_limit(self, limit: float | None) -> None:
        """Have another limit, for those who are there already, too."""
        self.stop()
        self.limit = limit
        if self._peers():
            self.begin()

    def begin(self) -> None:
        """Have looks from now on: there is a client."""
        if self.limit is not None and self._due is None and self._timer is not None:
            seconds = self.limit / self.count
            due = self._clock() + seconds
            self._watch = self._timer(seconds, self)
            self._due = due  # last: should it be interrupted before, another one runs, too

    def stop(self) -> None:
        """Look no more: there is nobody."""
        self._due = None
        watch, self._watch = self._watch, None
        cancel = getattr(watch, "cancel", None)  # another mux than ours may return nothing
        if cancel is not None:
            cancel()

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        now, due = self._clock(), self._due
        if due is None or now >= due:  # else one that was interrupted
            self._due = None
            if self._peers():
                self.begin()  # first: what follows may be interrupted
                self._look(now, now if due is None else due)
        return True

    def _look(self, now: float, due: float) -> None:
        """Look at all of them.

        Args:
            now: the time.
            due: when this look was to be.
        """
        raise NotImplementedError
