"""A connection that was accepted, and that the program was not told of yet.

Before it is, it may have to say who it is: by a PROXY header, and by a TLS handshake. One that does
not ends without an event of its own, since the program does not know it: an `Error` of the
listener says who it was, and why.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import cast

from eventmux._channels.channel import reason_of
from eventmux._channels.options import ChannelOptions
from eventmux.errors import EventMuxError
from eventmux.events import Connect, Error, Handle
from eventmux.peers import Address, Peer

__all__ = ["Arrival"]


@dataclass(slots=True)
class Arrival:
    """What is known of it.

    Args:
        listener: the handle through which it came.
        options: those it is to have.
        meta: what it is to have; it is its own.
        peer: who is there, as far as is known by now.
    """

    listener: Handle
    options: ChannelOptions
    meta: object
    peer: Peer

    def connect(self, sock: socket.socket) -> Connect:
        """Return what tells the program."""
        peer, event = self.peer, Connect(sock, self.listener, peer=self.peer)
        event.address = cast("Address", peer.address)
        if peer.credentials is not None:
            event.pid, event.uid, event.gid = peer.credentials
        return event

    def refusal(self, error: OSError | EventMuxError, what: str) -> Error:
        """Return what tells the program that nothing came of it.

        Args:
            error: why.
            what: what has failed, such as "TLS handshake".
        """
        reason = reason_of(error)
        text = f"{what} with {self.peer.address!r} failed: {reason}"
        number = getattr(error, "errno", None)
        return Error(self.listener, text, number, error, sender=self.peer.address)
