"""What all clients may cost together: bytes that are kept for them.

That is what has come of packets, calls that wait, those that are passed on and did not leave yet,
and answers that were not sent. Nobody else suffers when there is too much: those who hold most are
disconnected until the rest fits.

A client is looked at when it has more than a little, and all of them when they seem to have too
much: what has become less is found out then.
"""

from __future__ import annotations

from collections.abc import Callable

from rpcasync.serving.peer import Peer

__all__ = ["LITTLE", "Budget"]

LITTLE = 16 * 1024  # bytes of answers, which are not looked at
_STEP = 64  # when all have been looked at, a part of the limit until that is done again


class Budget:
    """The bytes that the clients of one server hold.

    Args:
        refresh: sees how much is queued for a client now.
        end: disconnects a client, and says why.
    """

    __slots__ = ("_end", "_holders", "_look_at", "_refresh", "_total", "limit")

    def __init__(
        self, limit: int, refresh: Callable[[Peer], None], end: Callable[[Peer, str], None]
    ) -> None:
        self._refresh = refresh
        self._end = end
        self._holders: set[Peer] = set()
        self._total = 0
        self.set_limit(limit)

    def set_limit(self, limit: int) -> None:
        """Have another limit from now on."""
        self.limit = self._look_at = limit

    def see(self, peer: Peer) -> None:
        """Note how much a client holds now."""
        self._count(peer)
        if self._total > self._look_at:
            self._fit()

    def _count(self, peer: Peer) -> None:
        held = peer.protocol.framing.held + peer.waiting_size + peer.queued
        if peer.extras is not None and peer.extras.behind is not None:
            held += peer.extras.behind()
        self._total += held - peer.held
        peer.held = held
        if held:
            self._holders.add(peer)
        else:
            self._holders.discard(peer)

    def forget(self, peer: Peer) -> None:
        """Note that a client holds nothing any more."""
        self._total -= peer.held
        peer.held = 0
        self._holders.discard(peer)

    def _fit(self) -> None:
        """Look at all that hold something, and end those who hold most, if it is too much."""
        for peer in tuple(self._holders):
            if peer.queued:
                self._refresh(peer)
            self._count(peer)
        most_first = sorted(self._holders, key=lambda peer: peer.held, reverse=True)
        for peer in most_first:
            if self._total <= self.limit:
                break
            held, total = peer.held, self._total
            self.forget(peer)
            self._end(peer, f"holds {held} bytes of {total} of all clients, limit is {self.limit}")
        self._look_at = max(self.limit, self._total + self.limit // _STEP)
