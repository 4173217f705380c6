"""The connections to the server that has the procedures which ours has not.

A server that listens has a connection for each of our clients, so that what it keeps for one is
not another's, and a client it disconnects is no other. A program that is started serves all of
them, and is started again for the next call when it has ended. A `Client` that the program has made
is used as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from eventmux import EventMux
from eventmux.events import Event, Handle
from rpcasync._log import fields, log
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import Disconnected
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Mux
from rpcasync.urls import is_stream_url, parse_stream_url

__all__ = ["Fallback"]

_PATIENCE = 1.0  # seconds from the start of a program until it is started again
_MOST_LEAVING = 64  # connections of clients that have gone, whose calls were not sent yet
_MOST_BYTES_LEAVING = 64 * 1024 * 1024  # and what is queued for them
_MANY = 10  # times the callbacks of one client, on what all share


class Fallback:
    """Where calls are passed on to.

    Args:
        mux: what all sockets are watched by.
        server: a URL, or a client.
        connections: gets all handles that are ours, and no others.
        client_options: what each `Client` of a URL is given besides.

    Raises:
        TypeError: `server` is neither, or `mux` is no `EventMux`.
        ValueError: the client is on another mux.
        URLError: the URL is not understood.
        OSError: the program cannot be started.
    """

    _counts = True  # what is queued for a connection is held by the client that has it

    def __init__(
        self,
        mux: Mux,
        server: Client | str,
        connections: dict[object, Fallback],
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(server, (Client, str)):
            raise TypeError(f"fallback is {server!r}, must be a Client or a URL")
        if not isinstance(mux, EventMux):
            raise TypeError(f"mux is {mux!r}, must be an EventMux to have a fallback")
        if isinstance(server, Client) and server._mux is not mux:
            raise ValueError(f"{server!r} is on another mux: nobody would take its answers")
        self._mux: EventMux[Event] = mux
        self.name = server if isinstance(server, str) else server._name
        self._url = server if isinstance(server, str) else ""
        self._is_each_own = is_stream_url(self._url)
        if self._is_each_own:
            parse_stream_url(self._url)  # else what is wrong with it would show only at a call
        self._connections = connections
        self._client_options = client_options or {}
        self._clients: dict[Handle, Client] = {}
        self._of_peer: dict[Peer, Client] = {}
        self._leaving: dict[Client, None] = {}  # those of clients that have gone, oldest first
        self._closed: set[Client] = set()  # those whose process has not ended yet
        self._shared: Client | None = None
        self._lost: Client | None = None  # the last one that had not to end
        self._due = 0.0  # when the program may be started again
        self._given = server if isinstance(server, Client) else None
        if isinstance(server, Client):
            self._shared = server
            server._hand_to(connections, self)
        elif not self._is_each_own:
            self._open()

    def client_of(self, peer: Peer) -> Client:
        """Return the client that passes the calls of one of ours on.

        Raises:
            Disconnected: there is none, and it is too early for another; or it would lead here.
            OSError: the program cannot be started.
        """
        if self._is_each_own:
            client = self._of_peer.get(peer)
            if client is None or client.fh not in self._clients:
                if self._leads_to_us(peer):
                    raise Disconnected(f"{self.name} is this server itself")
                if client is None:
                    peer.call_when_gone(lambda: self._leave(peer))
                client = self._open(peer)
                if self._counts:
                    peer.with_extras().behind = partial(self.buflen, client)
            return client
        if self._shared is None:
            if self._mux.clock() < self._due:
                raise Disconnected(f"{self.name} has ended")
            return self._open()
        return self._shared

    def _leads_to_us(self, peer: Peer) -> bool:
        """Return True if a client has come to where our last connection went.

        It may be that connection: each would open another, until no descriptor is left.
        """
        client = next(reversed(self._clients.values()), None)
        with contextlib.suppress(OSError):  # one of them is not connected
            there = None if client is None else client.fh.getpeername()
            return bool(there) and there == peer.fh.getsockname()  # a pair of sockets has none
        return False

    def buflen(self, client: Client) -> int:
        """Return how many bytes are queued for a connection."""
        try:
            return self._mux.buflen(client.fh)
        except KeyError:  # it has gone
            return 0

    def has_room(self, client: Client, peer: Peer, limit: int) -> bool:
        """Return True if one of our clients may pass functions on.

        Passed twice, a function is two of the other server's, and what that keeps of a client
        that has gone, nobody can tell it to let go of.

        Args:
            client: the connection.
            peer: our client.
            limit: how many functions of it may be alive.
        """
        functions = client._functions()
        if len(functions) < limit:
            return True
        if self._is_each_own or len(functions) >= _MANY * limit:
            return False
        own = (isinstance(each, Coderef) and each._is_of(peer) for each in functions)
        return sum(own) < limit

    def _open(self, peer: Peer | None = None) -> Client:
        """Make a connection, and note whose it is: None is everybody's."""
        self._due = self._mux.clock() + _PATIENCE
        client = self._connect(peer)
        try:
            self._clients[client.fh] = client
            client._hand_to(self._connections, self)
            if peer is None:
                self._shared = client
            else:
                self._of_peer[peer] = client
        except BaseException:  # Ctrl-C, say: nobody uses it, but its end is ours
            self._clients[client.fh] = client
            self._connections[client.fh] = self
            client.disconnect()
            raise
        return client

    def _connect(self, peer: Peer | None) -> Client:
        """Return a connection: for one of our clients, or for all."""
        del peer  # it is the same for each
        return Client(self._mux, self._url, **self._client_options)

    def _leave(self, peer: Peer) -> None:
        client = self._of_peer.get(peer)
        if client is not None:
            self._see_off(client)
            self._of_peer.pop(peer, None)  # last: what is interrupted before is done again

    def _see_off(self, client: Client) -> None:
        """Disconnect. What is queued leaves first, unless others that left wait with too much."""
        client.disconnect()
        if not self.buflen(client):
            return
        self._leaving[client] = None
        queued = sum(map(self.buflen, self._leaving))
        while len(self._leaving) > _MOST_LEAVING or queued > _MOST_BYTES_LEAVING:
            oldest = next(iter(self._leaving))
            del self._leaving[oldest]
            queued -= self.buflen(oldest)
            oldest.disconnect(0)
            log.warning(
                "fallback %s does not read: calls of clients that left are lost",
                self.name,
                extra=fields(server=self.name),
            )

    def io(self, event: Event) -> Event | None:
        """Take an event of one of the connections; return it if it is none's."""
        client = self._clients.get(cast("Handle", event.fh), self._given)
        if client is None:
            return event
        try:
            rest = client.io(event)
        except Exception:  # noqa: BLE001  # the server goes on
            log.exception(
                "fallback %s: passing on failed", self.name, extra=fields(server=self.name)
            )
            rest = None
        if event.type in ("closed", "child") and self._url:
            self._ended(client, event.type == "closed")
        return rest

    def goes_on_with(self, event: Event) -> bool:
        """True if an event that was interrupted comes again by itself."""
        client = self._clients.get(cast("Handle", event.fh), self._given)
        return client is not None and client._goes_on_with(event)

    def close(self) -> None:
        """End the connections that were opened here as the loop turns; let go of the others.

        A shadow may share it, and passes calls on all the same: these open others.
        """
        if self._url:
            self._of_peer.clear()
            self._shared = None
        for client in self._clients.values():
            client.disconnect()
        if self._given is not None:
            self._given._take_back(self._connections, self)  # a shadow may have it, too

    def _ended(self, client: Client, is_closed: bool) -> None:
        """Note the end of a connection, or of its process: the last of them is the end of both."""
        if is_closed:
            self._closed.add(client)
            self._leaving.pop(client, None)
            if client is self._shared:
                self._shared, self._lost = None, client
        process = client.process
        if client in self._closed and (process is None or process.returncode is not None):
            self._closed.discard(client)
            del self._clients[client.fh], self._connections[client.fh]
            if process is not None and client is self._lost:  # nobody's call may tell
                log.warning(
                    "%s has ended with status %s: it is started again for the next call",
                    *(self.name, process.returncode),
                    extra=fields(server=self.name),
                )
