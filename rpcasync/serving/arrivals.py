"""Who comes to a server, and who goes: its sockets, and what their events mean, but for what
clients send.

This file feeds nothing to the core, and does not decide who is let in.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from eventmux.errors import TLSError
from rpcasync._log import fields, log
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.entrance import Entrance, Waiting
from rpcasync.serving.identity import Identity, identity_of
from rpcasync.serving.listening import tell_if_open
from rpcasync.serving.muting import Muting
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Mux, Peers
from rpcasync.urls import url_listen
from rpcasync.wire.codecs import Codec
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["Arrivals"]

_NO_OPTIONS: Mapping[str, Any] = {}


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
        *("codecs", "entrance", "max_packet", "take"),
    )

    def __init__(self, mux: Mux, peers: Peers, muting: Muting, dispatcher: Dispatcher) -> None:
        self._mux = mux
        self._peers = peers
        self._muting = muting
        self._dispatcher = dispatcher
        self.codecs: tuple[Codec, ...] = ()  # of clients that come from now on
        self.max_packet = 0  # likewise
        self.entrance = Entrance(mux, peers, self._let_in)
        self.take: Callable[[Any], object] = _nobody
        """Takes an event that a client had before it had a place."""

    @property
    def listeners(self) -> Collection[socket.socket]:
        """Those that are open."""
        return self.entrance.listeners.keys()

    # Listeners

    def listen(
        self,
        url: str,
        mode: int | None,
        uids: frozenset[int] | None,
        options: Mapping[str, Any],
    ) -> socket.socket:
        """Accept whoever connects to a URL; return the socket."""
        listen: Any = getattr(self._mux, "listen", None)
        if listen is not None:
            sock: socket.socket = listen(url, mode=mode, **self._limits(options))
        else:
            sock = url_listen(url, mode=mode)
            try:
                self._mux.add(sock, listen=True, **self._limits(options))
            except BaseException:
                sock.close()
                raise
        self.entrance.add_listener(sock, uids)
        tell_if_open(sock, options)
        return sock

    def add_listener(
        self, sock: socket.socket, uids: frozenset[int] | None, options: Mapping[str, Any]
    ) -> None:
        """Accept whoever connects to a socket."""
        self._mux.add(sock, listen=True, **self._limits(options))
        self.entrance.add_listener(sock, uids)
        tell_if_open(sock, options)

    def close_listeners(self) -> None:
        """Accept nobody any more."""
        for sock in tuple(self.entrance.listeners):
            self.close_listener(sock)
        self.entrance.close()

    def close_listener(self, sock: socket.socket) -> None:
        """Accept nobody any more at one."""
        self._peers.kill_socket(sock)
        self.entrance.remove_listener(sock)

    # Clients

    def add(self, sock: socket.socket, meta: dict[Any, Any] | None) -> bool:
        """Take a client, of which the program knows something, or None; False if it is refused."""
        self._mux.add(sock, listen=False, **self._limits())
        try:
            identity = identity_of(sock)
            is_admitted = self.entrance.admits(sock, identity)
        except BaseException:  # Ctrl-C, say: it was not let in
            self._peers.refuse(sock)
            raise
        if not is_admitted:
            self._peers.refuse(sock)
            return False
        self._add_peer(sock, identity)
        if meta is not None:
            self._peers.by_fh[sock].meta = meta
        self.entrance.look()
        return True

    def connect_inside(self, peer: Peer) -> socket.socket:
        """Return an end of a new connection, for copies of what a client calls."""
        ours, theirs = socket.socketpair()
        self._mux.add(ours, listen=False, **self._limits())
        self._add_peer(ours, peer.identity)
        inner = self._peers.by_fh[ours]
        inner.meta, inner.is_inner = peer.meta, True
        self._peers.accepted -= 1  # it is no client
        self._peers.inner.add(ours)
        return theirs

    def _limits(self, options: Mapping[str, Any] = _NO_OPTIONS) -> dict[str, Any]:
        """Return options of the mux, with those that the program has given.

        What is queued for a client is limited here, not there; and one that has finished sending
        still gets its answers, unless the program says otherwise.
        """
        high_water = self._peers.high_water
        ours = {"high_water": high_water, "max_outbuffer": None, "half_close": True}
        return {**ours, **options}

    def _add_peer(self, sock: socket.socket, identity: Identity) -> None:
        if sock not in self._peers.by_fh:  # else it was interrupted behind that
            self._peers.add(sock, ServerProtocol(self.codecs, self.max_packet), identity)

    def _let_in(self, sock: socket.socket, waiting: Waiting) -> None:
        """Serve a client that has waited, and first what came of it before that."""
        self._add_peer(sock, waiting.identity)
        self._peers.notes.add(partial(self._take_all, waiting))

    def _take_all(self, waiting: Waiting) -> None:
        events = waiting.events
        while events:
            self.take(events.popleft())

    # Events

    def io(self, fh: Any, event: Any) -> bool:
        """Take an event of a listener, or of a connection that begins; False if it is neither."""
        if event.type == "connect" and self._is_own(getattr(event, "parent_fh", None)):
            self._arrive(fh, event)
        elif fh in self.entrance.waiting:
            self.entrance.waiting[fh].events.append(event)
        elif fh not in self.entrance.listeners:
            return False
        elif event.type == "error" and getattr(event, "sender", None) is not None:
            self._peers.refused += 1
            who = f"{event.sender[0]}:{event.sender[1]}" if type(event.sender) is tuple else None
            # A handshake has failed, or a PROXY header.
            log.warning("client refused: %s", event.error, extra=fields(peer=who))
        elif event.type == "error":
            log.error("cannot accept: %s", event.error)
        elif event.type == "closed":
            self.entrance.remove_listener(fh)
        return True

    def _arrive(self, sock: socket.socket, event: Any) -> None:
        """Take a connection that was accepted: serve it, have it wait, or refuse it."""
        entrance, identity = self.entrance, identity_of(sock, getattr(event, "peer", None))
        if not entrance.admits(sock, identity, event.parent_fh):
            self._peers.refuse(sock, is_encrypted=identity.tls is not None)
            return
        has_place = sock in self._peers.by_fh  # it was interrupted behind that
        if has_place or not (entrance.waiting or entrance.is_full()):
            self._add_peer(sock, identity)
        else:
            entrance.hold(sock, identity)
        entrance.look()

    def _is_own(self, listener: Any) -> bool:
        """True for a listener of this server; one that was just closed may have accepted before."""
        try:
            return listener in self.entrance.listeners or listener in self._peers.leaving
        except TypeError:  # an event of the program's own, whose parent_fh is no handle
            return False

    def peer_event(self, peer: Peer, event: Any) -> None:
        """Take an event of a client that brings nothing."""
        kind = event.type
        if kind == "sent":
            if peer.paused:
                self._dispatcher.serve(peer)
        elif kind == "half_closed":
            self._peers.ended.begin(peer)
        elif kind == "closing":  # `Closed` comes next, unless there is something to be sent then
            peer.ending = True
            if (peer.paused or peer.in_line) and not self._peers.drop_if_gone(peer):
                self._dispatcher.serve(peer)
        elif kind == "closed":
            why = event.reason or "end of stream"
            log.debug("client %s closed: %s", peer.name, why, extra=fields(peer=peer.name))
            self._peers.forget(peer)
            self._peers.closed(peer.fh)
        elif kind == "error":
            usual = event.errno in _LEFT or _ended_unsaid(event.exception)
            level = logging.INFO if usual else logging.WARNING
            log.log(level, "client %s: %s", peer.name, event.error, extra=fields(peer=peer.name))
            if not self._peers.drop_if_gone(peer):  # else it only does not read any more
                peer.with_extras().has_failed = True
                self._muting.mute(peer, False)


_LEFT = (errno.EPIPE, errno.ECONNRESET)  # before it had its answer


def _ended_unsaid(error: object) -> bool:
    """True if a client has left without the last words of TLS, as many do.

    A packet has its length in front, so that none is taken for whole that was cut off.
    """
    return isinstance(error, TLSError) and error.reason is None


def _nobody(event: Any) -> None:
    """Stand in until a server takes events."""
