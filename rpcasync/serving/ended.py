"""Clients that have finished sending, and wait for their answers.

A script writes its calls, ends its side of the connection (`nc -N`, `shutdown()`), and reads on.
So the end of a client's input is not the end of the client: what it sent is served, its functions
can be called, and all limits hold. Once it is owed nothing, no call of it running or waiting, it is
let go of, and what is queued for it still leaves.

A UNIX socket that was closed altogether is told from that, and so is a connection that was reset.
With TCP, a client that has closed its socket looks like one that waits, until something is sent to
it, which it answers with a reset, or keepalive asks.

This file runs and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rpcasync.serving.notes import Notes
from rpcasync.serving.peer import Peer

__all__ = ["Ended"]


class Ended:
    """Those of one server.

    Args:
        notes: has one looked at once the turn is over in which it was answered.
        let_go: closes the connection of a client, in good order.
    """

    __slots__ = ("_let_go", "_notes")

    def __init__(self, notes: Notes, let_go: Callable[[Peer], None]) -> None:
        self._notes = notes
        self._let_go = let_go

    def begin(self, peer: Peer) -> None:
        """Note that nothing more comes of a client, and let go of it if it is owed nothing."""
        peer.with_extras().has_ended = True
        self.see(peer)

    def note(self, peer: Peer) -> None:
        """Have a client looked at, one of whose calls has been answered."""
        if peer.extras is not None and peer.extras.has_ended:
            self._notes.add(partial(self.see, peer))

    def see(self, peer: Peer) -> None:
        """Let go of a client that is owed nothing, if it has ended; nobody else is touched."""
        if peer.gone or peer.extras is None or not peer.extras.has_ended:
            return
        framing = peer.protocol.framing
        if peer.broken or framing.failure is not None or peer.paused or peer.in_line:
            return  # who serves it also ends it, or looks again
        if framing.frames or framing.cut():  # it is being served
            return
        framing.drop_rest()  # else its time would come, and it would be disconnected for that
        if not peer.running and not peer.waiting:
            self._let_go(peer)
