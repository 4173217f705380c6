"""What a balancer is told of a server: one line to whoever connects, for HAProxy's agent-check.

    up ready N%    it gets N of 100 parts of its weight, 1 at least
    drain          it gets no new connections, and who is there stays
    down           it is over: who is left is being disconnected anyway

Load alone is never 0 %, which would be no new connections at all: where every server of a fleet is
loaded, somebody has to take what comes.

Who connects here is no client: nothing is read of anybody, and nobody is waited for. This file does
not know who is asking, or how often.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from eventmux.errors import URLError
from rpcasync._log import log
from rpcasync.serving.draining import Draining
from rpcasync.serving.entrance import Entrance
from rpcasync.serving.peers import Mux, Peers
from rpcasync.urls import parse_stream_url, url_listen

__all__ = ["Agent"]

_LATE = 0.1  # seconds of lag that are as bad as if as many calls ran as may
_MOST_TOLD = 32  # connections that have got their line, and are still there


class Agent:
    """That of one server.

    Args:
        mux: what the sockets are watched by.
        peers: the clients, their calls, and how late the loop is.
        entrance: knows whether there is a place for another client.
        draining: knows whether the server stops.
    """

    __slots__ = (
        "_close",
        "_draining",
        "_entrance",
        "_mux",
        "_peers",
        "_told",
        "listeners",
        "sockets",
    )

    def __init__(self, mux: Mux, peers: Peers, entrance: Entrance, draining: Draining) -> None:
        self._mux = mux
        self._close: Any = getattr(mux, "close", mux.kill)
        self._peers = peers
        self._entrance = entrance
        self._draining = draining
        self.listeners: set[socket.socket] = set()
        self.sockets: set[socket.socket] = set()
        """Those, and all connections that are not closed yet."""
        self._told: dict[socket.socket, None] = {}  # connections that may stay, the oldest first

    def listen(self, url: str) -> socket.socket:
        """Answer whoever connects to a URL; return the listener."""
        if parse_stream_url(url).scheme == "tls":
            raise URLError(f"cannot answer a balancer at {url!r}: it asks in plain text, at tcp://")
        sock = url_listen(url)
        try:
            self._mux.add(sock, listen=True)
            self.sockets.add(sock)
            self.listeners.add(sock)
        except BaseException:
            sock.close()
            raise
        self._peers.lag.turn_on()
        self._draining.on_end = self.close
        self._draining.look_after_leaving()
        return sock

    def close(self) -> None:
        """Answer nobody any more: the server has ended, and nobody shall wait for this."""
        for sock in tuple(self.sockets):
            self._kill(sock)

    def _kill(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError):  # it was done: `Closed` is to come
            self._mux.kill(sock)

    # What is said

    def line(self) -> bytes:
        """Return what there is to say now."""
        if self._draining.is_over():
            return b"down\n"
        if self._draining.has_begun:
            return b"drain\n"
        return b"up ready %d%%\n" % max(1, self._percent())

    def _percent(self) -> int:
        """Return a part of the weight: what a new call would wait longer, it gets less.

        All calls that may run are as bad as `_LATE` seconds of lag: each of the two halves it.
        """
        if self._entrance.is_full():  # who comes now waits until somebody goes
            return 0
        clients, _ = self._peers.admissions
        lag = self._peers.lag.last() if self._peers.by_fh else None  # else it is an old one
        load = (lag or 0.0) / _LATE
        if clients.outstanding is not None:
            load += clients.count() / clients.outstanding
        return round(100 / (1 + load))

    # Events

    def io(self, fh: Any, event: Any) -> bool:
        """Take an event; return whether it was one of this object's."""
        try:
            arrives = event.type == "connect" and event.parent_fh in self.listeners
            if not arrives and fh not in self.sockets:
                return False
        except (AttributeError, TypeError):  # an event of the program's own: no handle
            return False
        if arrives:
            self._tell(fh)
        elif event.type == "closed":
            self._told.pop(fh, None)
            self.listeners.discard(fh)
            self.sockets.discard(fh)
        elif event.type == "error" and fh in self.listeners:
            log.error("cannot accept at the agent: %s", event.error)
        return True

    def _tell(self, sock: socket.socket) -> None:
        """Say it, and hang up. Who does not hang up himself does not stay for long."""
        self.sockets.add(sock)
        self._told[sock] = None
        while len(self._told) > _MOST_TOLD:
            oldest = next(iter(self._told))
            del self._told[oldest]
            self._kill(oldest)
        with contextlib.suppress(KeyError):  # it has gone
            self._mux.send(sock, self.line())
            self._close(sock)
