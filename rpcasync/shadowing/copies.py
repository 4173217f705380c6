"""A copy of a call, which nobody waits for, and the connections that copies leave by.

They are those of a fallback, but for their end: a client that has its answer and goes does not take
the copies of its calls with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import cast

from eventmux.events import Event, Handle
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import QueueFull, RPCError
from rpcasync.forwarding.fallback import Fallback
from rpcasync.forwarding.relayed import Answer, Relayed
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Mux
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import Id

__all__ = ["Copies", "Copy", "InnerCopies"]


_MOST_BYTES = 1024 * 1024  # queued for one connection: beyond, copies are skipped
_MOST_BYTES_OF_ALL = 64 * 1024 * 1024
_LITTLE = 16 * 1024  # bytes, for which the others are not looked at
_MOST_LEFT = 64  # connections of clients that have gone: beyond, no other is made
_MOST_FUNCTIONS = 10_000  # of one connection: the old server may keep what it gets


def swallow(*values: object) -> None:
    """Stand for a function of a client's, which has no use for being called twice."""


class Copy(Relayed):
    """A call that was made before."""

    __slots__ = ()

    def send(self, values: list[object], payload: bytes, has_callbacks: bool) -> None:
        """Send it, as `Relayed.send()` does; none of the client's functions will be called by it.

        Raises:
            EncodeError: a value cannot be sent.
            QueueFull: too much is queued already.
        """
        functions: dict[Id, object] = {}

        def replace(value: object) -> object:
            if not isinstance(value, Coderef):
                return value
            functions[value.id] = swallow
            return swallow

        if has_callbacks:
            values = map_leaves(values, replace)
        self._client._relay(self, values, payload, functions)


class Copies(Fallback):
    """The connections to the old server; the arguments are as for `Fallback`.

    Args:
        timeout: seconds after which a copy is not waited for any more.
    """

    _counts = False  # no client goes for what its copies take

    def __init__(
        self,
        mux: Mux,
        server: Client | str,
        connections: dict[object, Fallback],
        timeout: float,
    ) -> None:
        super().__init__(mux, server, connections)
        self._timeout = timeout
        self._later: list[Callable[[], None]] = []
        self._left: set[Client] = set()  # of clients that have gone, with copies under way

    @property
    def can_reconnect(self) -> bool:
        """True if a connection that has ended is made again, for the next call or by itself."""
        return self._given is None or self._given._connects_again

    def io(self, event: Event) -> Event | None:
        """Take an event, as `Fallback.io()` does, and that of `call_later()`."""
        handle: object = event.fh
        if handle is self:
            del self._connections[self]
            later, self._later = self._later, []
            for function in later:
                function()
            return None
        return super().io(event)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Have a function called."""
        self._later.append(function)
        self._connections[self] = self  # for the event, whose handle we are
        self._mux.timer(seconds, fh=cast("Handle", self))

    def send(
        self,
        peer: Peer,
        procedure: str,
        done: Callable[[Answer | RPCError], None],
        values: list[object],
        payload: bytes,
        has_callbacks: bool,
    ) -> None:
        """Send a copy of a call.

        Args:
            peer: whose call it is.
            procedure: its name.
            done: called with what comes of it.
            values: as for `Relayed.send()`.
            payload: likewise.
            has_callbacks: likewise.

        Raises:
            RPCError: it cannot be sent.
            OSError: the old server cannot be started.
        """
        if len(self._left) >= _MOST_LEFT and peer not in self._of_peer:
            raise QueueFull(f"{procedure}: copies for {len(self._left)} clients that left go first")
        client = self.client_of(peer)
        if len(payload) + self.buflen(client) > _LITTLE:
            queued = sum(map(self.buflen, self._clients.values()))
            if queued > _MOST_BYTES_OF_ALL:
                raise QueueFull(f"{procedure}: {queued} bytes are queued already")
        if has_callbacks and client.has_coderefs() >= _MOST_FUNCTIONS:
            raise QueueFull(f"{procedure}: {_MOST_FUNCTIONS} callbacks are held already")
        copy = Copy(client, procedure, partial(self._done, client, done))
        copy.send(values, payload, has_callbacks)
        copy.set_timeout(self._timeout)

    def _done(
        self, client: Client, done: Callable[[Answer | RPCError], None], answer: Answer | RPCError
    ) -> None:
        if client in self._left:
            self._end_if_idle(client)
        done(answer)

    def _connect(self, peer: Peer | None) -> Client:
        del peer  # it is the same for each
        return Client(self._mux, self._url, max_outbuffer=_MOST_BYTES)

    def _leave(self, peer: Peer) -> None:
        client = self._of_peer.get(peer)
        if client is not None:
            self._left.add(client)
            self._end_if_idle(client)
            self._of_peer.pop(peer, None)  # last: what is interrupted before is done again

    def _end_if_idle(self, client: Client) -> None:
        if not client.has_requests():
            self._left.discard(client)
            client.disconnect()


class InnerCopies(Copies):
    """Connections to a server in the same program, one for each of its clients.

    Args:
        mux: what all sockets are watched by.
        connect: returns the end of another one, for a client's copies.
        connections: as for `Copies`.
        timeout: as for `Copies`.
    """

    def __init__(
        self,
        mux: Mux,
        connect: Callable[[Peer], socket.socket],
        connections: dict[object, Fallback],
        timeout: float,
    ) -> None:
        super().__init__(mux, "unix://this server", connections, timeout)  # never connected to
        self._inside = connect

    def _connect(self, peer: Peer | None) -> Client:
        assert peer is not None  # noqa: S101  # this is no program that serves all
        return Client(self._mux, self._inside(peer), max_outbuffer=_MOST_BYTES)
