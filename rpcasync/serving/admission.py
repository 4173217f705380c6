"""Which calls run, and which wait until others have been answered.

Each call that runs is counted with its peer, and given back once: when it is answered, or when the
peer has gone. So the count cannot drift, whatever becomes of a call.

This file runs nothing.
"""

from __future__ import annotations

from collections import deque
from typing import cast

from rpcasync.serving.callers import Caller
from rpcasync.serving.peer import Peer

__all__ = ["Admission"]

_FEW = 64  # entries of peers that have gone, which are not worth cleaning up


class Admission:
    """The calls of all peers of a server.

    `outstanding` is how many may run at a time, None is any number.
    """

    __slots__ = ("_gone", "_running", "_stalled", "outstanding", "queue")

    def __init__(self) -> None:
        self.outstanding: int | None = None
        self.queue: deque[tuple[Peer, Caller]] = deque()  # empty: nothing waits
        self._running = 0
        self._gone = 0  # entries in the queue of peers that have gone
        self._stalled = 0  # calls whose turn came while their client did not read

    def __len__(self) -> int:
        """Return how many calls wait."""
        return self._in_line() + self._stalled

    def _in_line(self) -> int:
        return len(self.queue) - self._gone

    def _is_full(self) -> bool:
        return self.outstanding is not None and self._running >= self.outstanding

    def admit(self, peer: Peer) -> bool:
        """Start a call that comes now, if none waits in front of it, and say whether it does."""
        if (self.outstanding is not None or self.queue) and (self._in_line() or self._is_full()):
            return False
        peer.running += 1  # as start() does, without the call: each call comes here
        self._running += 1
        return True

    def has_next(self) -> bool:
        """True if one that waits may run."""
        return self._in_line() > 0 and not self._is_full()

    def start(self, peer: Peer) -> None:
        """Count a call that runs."""
        peer.running += 1
        self._running += 1

    def finish(self, peer: Peer) -> bool:
        """Give back a call that is answered; return whether one that waits may run now."""
        if not peer.gone:  # else it was given back with all others of its peer
            peer.running -= 1
            self._running -= 1
        return bool(self.queue) and self.has_next()

    def put(self, peer: Peer, caller: Caller) -> None:
        """Have a call wait."""
        peer.waiting += 1
        peer.waiting_size += caller.size
        self.queue.append((peer, caller))

    def take(self) -> tuple[Peer, Caller] | None:
        """Return the next call to run; None if none waits, or none may run."""
        while self.queue and not self._is_full():
            peer, caller = self.queue.popleft()
            if peer.gone:
                self._gone -= 1
                continue
            peer.waiting -= 1
            peer.waiting_size -= caller.size
            return peer, caller
        return None

    def stall(self, peer: Peer, caller: Caller) -> None:
        """Set a call aside whose turn it is, until its client has read what was queued for it."""
        peer.waiting += 1
        peer.waiting_size += caller.size
        peer.stalled.append(caller)
        self._stalled += 1

    def resume(self, peer: Peer) -> None:
        """Put what was set aside for a client in front again."""
        self._stalled -= len(peer.stalled)
        callers = cast("list[Caller]", peer.stalled)
        self.queue.extendleft((peer, caller) for caller in reversed(callers))
        peer.stalled.clear()

    def forget(self, peer: Peer) -> None:
        """Drop what waits of a peer that has gone, and give back what runs."""
        self._running -= peer.running
        self._stalled -= len(peer.stalled)
        self._gone += peer.waiting - len(peer.stalled)
        peer.running = peer.waiting = peer.waiting_size = 0
        peer.stalled.clear()
        if self._gone > _FEW and self._gone > len(self.queue) // 2:
            self.queue = deque(entry for entry in self.queue if not entry[0].gone)
            self._gone = 0
