"""Who comes to a server, and who goes: its sockets, and what their events mean, but for what
clients send.

This file feeds nothing to the core.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

from rpcasync._log import log
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.muting import Muting
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Mux, Peers
from rpcasync.wire.codecs import Codec
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["Arrivals"]


class Arrivals:
    """Those at one server.

    Args:
        mux: what their sockets are watched by.
        peers: the clients.
        muting: says which of them are not read from.
        dispatcher: serves them.
    """

    __slots__ = (
        *("_dispatcher", "_mux", "_muting", "_peers"),
        *("codecs", "listeners", "max_packet"),
    )

    def __init__(self, mux: Mux, peers: Peers, muting: Muting, dispatcher: Dispatcher) -> None:
        self._mux = mux
        self._peers = peers
        self._muting = muting
        self._dispatcher = dispatcher
        self.codecs: tuple[Codec, ...] = ()  # of clients that come from now on
        self.max_packet = 0  # likewise
        self.listeners: set[socket.socket] = set()

    def add_listener(self, sock: socket.socket) -> None:
        """Accept whoever connects to a socket."""
        self._watch(sock, listen=True)
        self.listeners.add(sock)

    def add(self, sock: socket.socket, meta: dict[Any, Any] | None) -> None:
        """Take a client, of which the program knows something, or None."""
        self._watch(sock, listen=False)
        self._add_peer(sock)
        if meta is not None:
            self._peers.by_fh[sock].meta = meta

    def connect_inside(self, peer: Peer) -> socket.socket:
        """Return an end of a new connection, for copies of what a client calls."""
        ours, theirs = socket.socketpair()
        self.add(ours, peer.meta)
        self._peers.by_fh[ours].is_inner = True
        self._peers.inner.add(ours)
        return theirs

    def _watch(self, sock: socket.socket, listen: bool) -> None:
        """Watch a socket; what is queued for a client is limited here, and not by the mux."""
        high_water = self._peers.high_water
        self._mux.add(sock, listen=listen, high_water=high_water, max_outbuffer=None)

    def _add_peer(self, sock: socket.socket) -> None:
        if sock not in self._peers.by_fh:  # else it was interrupted behind that
            self._peers.add(sock, ServerProtocol(self.codecs, self.max_packet))

    def close_listeners(self) -> None:
        """Accept nobody any more."""
        listeners, self.listeners = self.listeners, set()
        for sock in listeners:
            self._peers.kill_socket(sock)

    def io(self, fh: Any, event: Any) -> bool:
        """Take an event of a listener, or of a connection that begins; False if it is neither."""
        if event.type == "connect" and self._is_own(getattr(event, "parent_fh", None)):
            self._add_peer(fh)
        elif fh not in self.listeners:
            return False
        elif event.type == "error":
            log.error("cannot accept: %s", event.error)
        elif event.type == "closed":
            self.listeners.discard(fh)
        return True

    def _is_own(self, listener: Any) -> bool:
        """True for a listener of this server; one that was just closed may have accepted before."""
        try:
            return listener in self.listeners or listener in self._peers.leaving
        except TypeError:  # an event of the program's own, whose parent_fh is no handle
            return False

    def peer_event(self, peer: Peer, event: Any) -> None:
        """Take an event of a client that brings nothing."""
        kind = event.type
        if kind == "sent":
            if peer.paused:
                self._dispatcher.serve(peer)
        elif kind == "closing":  # `Closed` comes next, unless there is something to be sent then
            peer.ending = True
            if (peer.paused or peer.in_line) and not self._peers.drop_if_gone(peer):
                self._dispatcher.serve(peer)
        elif kind == "closed":
            log.debug("client %s closed: %s", peer.name, event.reason or "end of stream")
            self._peers.forget(peer)
            self._peers.closed(peer.fh)
        elif kind == "error":
            usual = event.errno in (errno.EPIPE, errno.ECONNRESET)  # it left before its answer
            level = logging.INFO if usual else logging.WARNING
            log.log(level, "client %s: %s", peer.name, event.error)
            if not self._peers.drop_if_gone(peer):  # else it only does not read any more
                peer.failed = True
                self._muting.mute(peer, False)
