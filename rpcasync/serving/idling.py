"""How long a client may be idle: nothing comes of it, and nothing is under way.

Under way are calls that were not answered yet, and functions of the client's that the program still
has and may call: who has subscribed to something may say nothing for hours. Answers that the client
does not read are not: that it reads would be seen.

To look at a clock for each packet would cost more than all of this. So a client that is heard is
only marked, and a timer looks at all of them, some times in the limit. One that was quiet at each
look for the limit is disconnected: never sooner than that, and up to an eighth of it later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from rpcasync.serving.patience import is_readable
from rpcasync.serving.peer import Peer

__all__ = ["Idling"]

_LOOKS = 8  # in the limit


class Idling:
    """The clients of one server that are quiet.

    Args:
        mux: has the timer, and the clock that goes with it.
        peers: returns the clients that there are.
        refresh: sees how much is queued for a client now.
        end: disconnects a client, and says why.
    """

    __slots__ = (
        *("_clock", "_end", "_peers", "_quiet", "_refresh", "_timer", "_watch"),
        *("_is_waiting", "limit"),
    )

    def __init__(
        self,
        mux: object,
        peers: Callable[[], Collection[Peer]],
        refresh: Callable[[Peer], None],
        end: Callable[[Peer, str], None],
    ) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._peers = peers
        self._refresh = refresh
        self._end = end
        self._quiet: dict[Peer, tuple[float, int]] = {}  # since when, and what was queued then
        self._is_waiting = False  # a timer runs
        self._watch: Any = None  # of it
        self.limit: float | None = None  # seconds

    def check(self, limit: float | None) -> None:
        """See that a limit can be kept.

        Raises:
            TypeError: the mux has no timer.
        """
        if limit is not None and self._timer is None:
            raise TypeError("idle_timeout needs a mux with timer(), as EventMux has it")

    def set_limit(self, limit: float | None) -> None:
        """Have another limit; who is quiet already is so since then. None is none."""
        self.stop()
        self.limit = limit
        if self._peers():
            self.begin()

    def begin(self) -> None:
        """Have a look from time to time: there is a client."""
        if self.limit is not None and not self._is_waiting:
            self._watch = self._timer(self.limit / _LOOKS, self)
            self._is_waiting = True  # last: should it be interrupted before, another one runs, too

    def stop(self) -> None:
        """Look no more: there is nobody, and the timer would keep a mux waiting."""
        self._quiet.clear()
        self._is_waiting = False
        watch, self._watch = self._watch, None
        cancel = getattr(watch, "cancel", None)  # another mux than ours may return nothing
        if cancel is not None:
            cancel()

    def forget(self, peer: Peer) -> None:
        """Note that a client has gone."""
        self._quiet.pop(peer, None)

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self._is_waiting = False
        if self.limit is not None:
            self.begin()  # first: what follows may be interrupted
            self._look(self.limit)
        return True

    def _look(self, limit: float) -> None:
        now = self._clock()
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
