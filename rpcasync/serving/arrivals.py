"""What the events of a server's sockets mean, but for what clients send: who comes, and who goes.

This file feeds nothing to the core.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from rpcasync._log import log
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.muting import Muting
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Peers

__all__ = ["Arrivals"]


class Arrivals:
    """Those at one server.

    Args:
        peers: the clients.
        muting: says which of them are not read from.
        dispatcher: serves them.
        add: takes a client that a listener has accepted.
    """

    __slots__ = ("_add", "_dispatcher", "_muting", "_peers", "listeners")

    def __init__(
        self,
        peers: Peers,
        muting: Muting,
        dispatcher: Dispatcher,
        add: Callable[[socket.socket], None],
    ) -> None:
        self._peers = peers
        self._muting = muting
        self._dispatcher = dispatcher
        self._add = add
        self.listeners: set[socket.socket] = set()

    def close_listeners(self) -> None:
        """Accept nobody any more."""
        listeners, self.listeners = self.listeners, set()
        for sock in listeners:
            self._peers.kill_socket(sock)

    def io(self, fh: Any, event: Any) -> bool:
        """Take an event of a listener, or of a connection that begins; False if it is neither."""
        if event.type == "connect" and self._is_own(getattr(event, "parent_fh", None)):
            self._add(fh)
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
