"""How late the loop of a server is: once a second it is looked at.

A timer is set, and how much later than it was due its event comes, that is what every client has
waited for, too: a procedure that blocks, or more to do than there is time for.

This file counts no calls.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

__all__ = ["Lag"]

_EVERY = 1.0  # seconds
_LOOKS = 60  # that are kept


class Lag:
    """That of one server. Without `timer` of the mux, nothing is known."""

    __slots__ = ("_clock", "_due", "_seen", "_timer", "_watch", "is_on")

    def __init__(self, mux: object) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._due: float | None = None  # when the timer is; None if none runs
        self._watch: Any = None  # of it
        self._seen: deque[float] = deque(maxlen=_LOOKS)
        self.is_on = False

    def turn_on(self, has_clients: bool) -> None:
        """Have looks from now on, while there are clients: somebody wants to know."""
        self.is_on = True
        if has_clients:
            self.begin()

    def begin(self) -> None:
        """Have a look from time to time: there is a client."""
        if self.is_on and self._timer is not None and self._due is None:
            self._watch = self._timer(_EVERY, self)
            self._due = self._clock() + _EVERY  # last: interrupted before, another one runs, too

    def stop(self) -> None:
        """Look no more: there is nobody, and the timer would keep a mux waiting."""
        self._due = None
        watch, self._watch = self._watch, None
        cancel = getattr(watch, "cancel", None)  # another mux than ours may return nothing
        if cancel is not None:
            cancel()

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        due, self._due = self._due, None
        if due is not None:
            self._seen.append(max(0.0, self._clock() - due))
            self.begin()
        return True

    def last(self) -> float | None:
        """Return what was seen last, in seconds; None if nothing was."""
        return self._seen[-1] if self._seen else None

    def most(self) -> float | None:
        """Return the most that was seen in the last minute."""
        return max(self._seen, default=None)
