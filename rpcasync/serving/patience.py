"""How long a packet may take to come.

The time begins with the first byte that is read of it, and what follows does not make it longer.
One timer is enough for all clients, for when the packet that was begun first has to be there.
A client that is not read from cannot be late, nor one whose bytes are still with the kernel.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from rpcasync.serving.peer import Peer

__all__ = ["Patience", "is_readable"]

_GRACE = 1 / 20  # of the limit: for what is still with the kernel, and between two looks


class Patience:
    """The packets of a server's clients that have begun.

    Without `timer` of the mux, nobody is late.

    Args:
        mux: has the timer, and the clock that goes with it.
        end: disconnects a client, and says why.
    """

    __slots__ = ("_begun", "_clock", "_end", "_is_waiting", "_timer", "_warned", "limit")

    def __init__(self, mux: object, end: Callable[[Peer, str], None]) -> None:
        self._timer = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._end = end
        self._begun: dict[Peer, float] = {}  # when
        self._warned: set[Peer] = set()  # had bytes with the kernel when its time was over
        self._is_waiting = False  # a timer runs
        self.limit: float | None = None  # seconds

    def see(self, peer: Peer, is_new: bool) -> None:
        """Note that a packet is not complete, or that none has begun.

        Args:
            peer: whose.
            is_new: another packet was completed since the last look.
        """
        if is_new or not peer.protocol.framing.size:
            self.forget(peer)
        if peer.protocol.framing.size and self.limit is not None and peer not in self._begun:
            self._begun[peer] = self._clock()
            self._wait(self.limit)

    def forget(self, peer: Peer) -> None:
        """Note that nothing is waited for."""
        self._begun.pop(peer, None)
        self._warned.discard(peer)

    def set_limit(self, limit: float | None) -> None:
        """Have another limit, for what has begun as well; None is none."""
        self.limit = limit
        if limit is None:
            self._begun.clear()
            self._warned.clear()
        elif self._begun:
            self._is_waiting = False  # the timer that runs may be too late
            self._wait(0)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None and not self._is_waiting:
            self._is_waiting = True
            self._timer(max(0.0, seconds), self)

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self._is_waiting = False
        if self.limit is not None:
            self._look(self.limit)
        return True

    def _look(self, limit: float) -> None:
        now = self._clock()
        for peer, begun in tuple(self._begun.items()):
            waited = now - begun
            if waited < limit:
                continue
            size = peer.protocol.framing.size
            if not size or peer.gone:
                self.forget(peer)
            elif peer.muted or peer.paused or peer.in_line:  # it is not read from
                self._begun[peer] = now
            elif peer not in self._warned and is_readable(peer.fh):
                self._warned.add(peer)  # once, for one that sends byte by byte
                self._begun[peer] = now - limit + limit * _GRACE
            else:
                self.forget(peer)
                why = f"{size} bytes of a packet in {waited:.1f} s, limit is {limit:g} s"
                self._end(peer, why)
        if self._begun:
            soonest = min(self._begun.values()) + limit - now
            self._wait(max(soonest, limit * _GRACE))


def is_readable(sock: socket.socket) -> bool:
    """True if bytes of a client, or its end, are still with the kernel."""
    poll: Any = getattr(select, "poll", None)
    if poll is None or sock.fileno() < 0:
        return False
    asked = poll()
    asked.register(sock, select.POLLIN)
    return bool(asked.poll(0))
