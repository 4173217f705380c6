"""How long a client may be idle: nothing comes of it, and nothing is under way.

Under way are calls that were not answered yet, and functions of the client's that the program still
has and may call: who has subscribed to something may say nothing for hours. Answers that the client
does not read are not: that it reads would be seen.

To look at a clock for each packet would cost more than all of this. So a client that is heard is
only marked, and all of them are looked at some times in the limit. One that was quiet at each
look for the limit is disconnected: never sooner than that, and up to an eighth of it later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import cast

from rpcasync.serving.looks import Looks
from rpcasync.serving.patience import is_readable
from rpcasync.serving.peer import Peer

__all__ = ["Idling"]


class Idling(Looks):
    """The clients of one server that are quiet.

    Args:
        mux: has the timer, and the clock that goes with it.
        peers: returns the clients that there are.
        refresh: sees how much is queued for a client now.
        end: disconnects a client, and says why.
    """

    __slots__ = ("_end", "_quiet", "_refresh")

    count = 8

    def __init__(
        self,
        mux: object,
        peers: Callable[[], Collection[Peer]],
        refresh: Callable[[Peer], None],
        end: Callable[[Peer, str], None],
    ) -> None:
        super().__init__(mux, peers)
        self._refresh = refresh
        self._end = end
        self._quiet: dict[Peer, tuple[float, int]] = {}  # since when, and what was queued then

    def stop(self) -> None:
        """Look no more, and forget what was seen."""
        self._quiet.clear()
        super().stop()

    def forget(self, peer: Peer) -> None:
        """Note that a client has gone."""
        self._quiet.pop(peer, None)

    def _look(self, now: float, due: float) -> None:  # noqa: ARG002  # that it is late is no news
        limit = cast("float", self.limit)  # else there were no look
        for peer in tuple(self._peers()):
            if peer.queued:
                self._refresh(peer)
            if peer.gone:
                continue
            since, queued = self._quiet.setdefault(peer, (now, peer.queued))
            if peer.was_heard or _has_work(peer) or queued != peer.queued:  # it reads
                self._quiet[peer], peer.was_heard = (now, peer.queued), False
            elif now - since >= limit and not is_readable(peer.fh):
                self._quiet.pop(peer, None)
                self._end(peer, f"idle for {now - since:.0f} s, limit is {limit:g} s")


def _has_work(peer: Peer) -> bool:
    """True if something of a client's is under way, or may still be called."""
    waits = peer.waiting or peer.in_line or peer.is_inner or peer.broken or peer.ending
    return bool(peer.running or waits or peer.has_coderefs())
