"""How old a connection may become: then its client is asked to go, and to come again.

A balancer of TCP decides once for each connection. So a server that was started anew, or is new,
gets nothing until somebody connects. By this, all connections are made anew in time.

Asked is who has passed a function to `goaway`. The others are left alone: to disconnect them could
lose a call.

A timer looks at all clients, a hundred times in the limit, and each one counts how often. Between
90 and 110 times it is a matter of luck, with the same chance for each, so that those who came
together go one by one. So no client has a timer, or takes memory for a time of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from typing import Any

from rpcasync.serving.peer import Peer

__all__ = ["Aging"]

_LOOKS = 100  # in the limit
_FIRST, _LAST = 90, 110  # looks, from which to which a client is asked


class Aging:
    """The connections of one server that are old.

    Args:
        mux: has the timer, and the clock that goes with it.
        peers: returns the clients that there are.
    """

    __slots__ = ("_clock", "_due", "_peers", "_timer", "_watch", "limit")

    def __init__(self, mux: object, peers: Callable[[], Collection[Peer]]) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._peers = peers
        self._due: float | None = None  # when the next look is; None if no timer runs
        self._watch: Any = None  # of that
        self.limit: float | None = None  # seconds

    def check(self, limit: float | None) -> None:
        """See that a limit can be kept.

        Raises:
            TypeError: the mux has no timer.
        """
        if limit is not None and self._timer is None:
            raise TypeError("max_age needs a mux with timer(), as EventMux has it")

    def set_limit(self, limit: float | None) -> None:
        """Have another limit; who is there already begins to age. None is none."""
        self.stop()
        self.limit = limit
        if self._peers():
            self.begin()

    def begin(self) -> None:
        """Have a look from time to time: there is a client."""
        if self.limit is not None and self._due is None:
            due = self._clock() + self.limit / _LOOKS
            self._watch = self._timer(self.limit / _LOOKS, self)
            self._due = due  # last: should it be interrupted before, another one runs, too

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
        if self._due is None or self._clock() >= self._due:  # else one that was interrupted
            self._due = None
            peers = tuple(self._peers())
            if peers:
                self.begin()  # first: what follows may be interrupted
            for peer in peers:
                self._look_at(peer)
        return True

    def _look_at(self, peer: Peer) -> None:
        """Count this look; have a client go that is old, or was when it had not asked for it."""
        if peer.age < _LAST:
            peer.age += 1
        if peer.age >= _FIRST and peer.goaways and _is_drawn(_LAST - peer.age + 1):
            while peer.goaways and not peer.gone:
                peer.tell_to_go()
            peer.age = 0  # it may stay, and ask again


def _is_drawn(number: int) -> bool:
    """True by chance, one time in a number."""
    return random.randrange(number) == 0  # noqa: S311 - it is no secret
