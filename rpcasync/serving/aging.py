"""How old a connection may become: then its client is asked to go, and to come again.

A balancer of TCP decides once for each connection. So a server that was started anew, or is new,
gets nothing until somebody connects. By this, all connections are made anew in time.

Asked is who has passed a function to `goaway`. The others are left alone: to disconnect them could
lose a call.

All clients are looked at a hundred times in the limit, and each one counts how often. Between 90
and 110 times it is a matter of luck, with the same chance for each, so that those who came
together go one by one. So no client has a timer, or takes memory for a time of its own.
"""

from __future__ import annotations

import random

from rpcasync.serving.looks import Looks
from rpcasync.serving.peer import Peer

__all__ = ["Aging"]

_FIRST, _LAST = 90, 110  # looks, from which to which a client is asked


class Aging(Looks):
    """The connections of one server that are old."""

    __slots__ = ()

    count = 100

    def _look(self, now: float, due: float) -> None:  # noqa: ARG002  # it is counted
        for peer in tuple(self._peers()):
            self._look_at(peer)

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
    return random.randrange(number) == 0  # noqa: S311  # it is no secret
