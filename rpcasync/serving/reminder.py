"""Has the log tell how many lines it held back, also when nothing is logged any more.

This file logs nothing itself.
"""

from __future__ import annotations

from typing import Any

from rpcasync._log import INTERVAL, repeats
from rpcasync.serving.notes import Notes

__all__ = ["Reminder"]


class Reminder:
    """One server's, with a timer of its mux; without `timer`, the next line tells."""

    def __init__(self, mux: object, notes: Notes) -> None:
        self._timer = getattr(mux, "timer", None)
        self._notes = notes
        self._is_waiting = False  # a timer runs
        repeats.flush()  # a server begins to count anew
        repeats.wakers.add(self)

    def hold(self) -> None:
        """Note that something is held back; this may be another thread."""
        self._notes.add(self._wait)

    def _wait(self) -> None:
        if self._timer is not None and not self._is_waiting:
            self._is_waiting = True
            self._timer(INTERVAL, self)

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self._is_waiting = False
        repeats.flush()
        return True
