"""Whose turn it is: no client's calls hold those of another for long.

A client has a turn when something of it is read. What does not fit in is left, and the client
stands in line: the server is woken by an event of its own, which comes once the mux has looked at
its handles, and those in line have one turn each. Nothing is read from them meanwhile, so what
they send on is left to the kernel.

This file runs nothing.
"""

from __future__ import annotations

import time
from collections import deque

from rpcasync.serving.notes import Notes
from rpcasync.serving.peer import Peer

__all__ = ["MOST_CALLS", "Turns"]

MOST_CALLS = 512  # in one turn
_SECONDS = 0.005  # for one turn, and then to the end of the call that runs;
_LEAST = 0.001  # shared by those in line, but no less than this


class Turns:
    """The clients of one server that are in line.

    Without `push_event` of the mux the server cannot be woken: then nobody is, and all is served
    at once.
    """

    __slots__ = ("_line", "_notes", "clock")

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._line: deque[Peer] = deque()
        self.clock = time.monotonic

    def __len__(self) -> int:
        """Return how many are in line, those included that have left it since."""
        return len(self._line)

    def end(self, now: float) -> float:
        """Return when a client's turn is over that begins now: the sooner, the more are in line."""
        if not self._notes.can_wake:
            return float("inf")
        if not self._line:
            return now + _SECONDS
        return now + max(_LEAST, _SECONDS / (1 + len(self._line)))

    def end_of_all(self) -> float:
        """Return when it is time for the mux to look at its handles."""
        return self.clock() + _SECONDS if self._notes.can_wake else float("inf")

    def put(self, peer: Peer) -> bool:
        """Put a client at the end of the line, which moves on; False if that is not possible."""
        if not self._notes.can_wake:
            return False
        if not peer.in_line:
            self._line.append(peer)
            peer.in_line = True  # last: should it be interrupted before, it is put there again
        self._notes.wake_later()
        return True

    def take(self) -> Peer | None:
        """Return whose turn it is, who is not in line any more; None if nobody is."""
        while self._line:
            peer = self._line[0]
            is_next = peer.in_line and not peer.gone
            peer.in_line = False
            self._line.popleft()
            if is_next:
                return peer
        return None
