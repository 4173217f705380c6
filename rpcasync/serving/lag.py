"""How late the loop of a server is: once a second it is looked at.

A timer is set, and how much later than it was due its event comes, that is what every client has
waited for, too: a procedure that blocks, or more to do than there is time for.

This file counts no calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from rpcasync.serving.looks import Looks
from rpcasync.serving.peer import Peer

__all__ = ["Lag"]

_KEPT = 60.0  # seconds of which is known how late it was


class Lag(Looks):
    """That of one server. Without `timer` of the mux, nothing is known."""

    __slots__ = ("_seen",)

    count = 60

    def __init__(self, mux: object, peers: Callable[[], Collection[Peer]]) -> None:
        super().__init__(mux, peers)
        self._seen: deque[float] = deque(maxlen=self.count)

    def turn_on(self) -> None:
        """Have looks from now on: somebody wants to know."""
        if self.limit is None:
            self.set_limit(_KEPT)

    def _look(self, now: float, due: float) -> None:
        self._seen.append(now - due)

    def last(self) -> float | None:
        """Return what was seen last, in seconds; None if nothing was."""
        return self._seen[-1] if self._seen else None

    def most(self) -> float | None:
        """Return the most that was seen in the last minute."""
        return max(self._seen, default=None)
