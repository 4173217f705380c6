"""Peers that are not read from for a while: they are in line, or too many of their calls wait.

The mux does not notice the end of a connection that it does not read from. So the muted peers are
looked after once a second, and one whose client has hung up is read to its end. One that is in
line is served first, since a client that sends no more may still read.
"""

from __future__ import annotations

import contextlib

from eventmux.events import Event
from eventmux.sockets import has_hung_up
from rpcasync.serving.peer import Peer

__all__ = ["Muting"]

_LOOK_AGAIN = 1.0  # seconds


class Muting:
    """The muted peers of one server.

    Without `want_read` of the mux nobody is muted; without `timer` nobody is looked after.
    """

    __slots__ = ("_is_looking", "_muted", "_timer", "_want_read")

    def __init__(self, mux: object) -> None:
        self._want_read = getattr(mux, "want_read", None)
        self._timer = getattr(mux, "timer", None)
        self._muted: set[Peer] = set()
        self._is_looking = False  # a timer runs

    def mute(self, peer: Peer, muted: bool) -> None:
        """Stop reading from a peer, or go on. One that has failed is read from, to its end."""
        muted = muted and (peer.extras is None or not peer.extras.has_failed)
        if muted != peer.muted and self._want_read is not None and not peer.gone:
            peer.muted = muted
            if muted:
                self._muted.add(peer)
                self._look_again()
            with contextlib.suppress(KeyError):
                self._want_read(peer.fh, not muted)

    def recover(self, peer: Peer) -> None:
        """Read from a peer, whether it is muted or not: something was interrupted."""
        if self._want_read is not None:
            peer.muted = False
            with contextlib.suppress(KeyError):
                self._want_read(peer.fh, True)

    def io(self, event: Event) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self._is_looking = False
        for peer in tuple(self._muted):
            if peer.gone or not peer.muted:
                self._muted.discard(peer)
            elif not peer.in_line and has_hung_up(peer.fh):  # what it has sent is all that comes
                peer.with_extras().has_failed = True
                self.mute(peer, False)
        if self._muted:
            self._look_again()
        return True

    def _look_again(self) -> None:
        if self._timer is not None and not self._is_looking:
            self._is_looking = True
            self._timer(_LOOK_AGAIN, self)
