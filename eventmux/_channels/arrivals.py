"""A connection that was accepted, and that the program was not told of yet.

Before it is, it may have to say who it is: by a PROXY header, and by a TLS handshake. One that does
not ends without an event of its own, since the program does not know it: an `Error` of the
listener says who it was, and why.

The one rule: who says nothing costs little. There is one time limit for all that comes before the
program is told, and a bound on how many a listener waits for; over it, whoever has been silent for
longest gives way.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from eventmux._channels.channel import Emit, reason_of
from eventmux._channels.options import ChannelOptions
from eventmux._watching.timers import Entry
from eventmux.errors import EventMuxError
from eventmux.events import Connect, Error, Handle
from eventmux.peers import Address, Peer

__all__ = ["MOST_AWAITED", "Arrival", "Arrivals", "Awaited"]

MOST_AWAITED = 512
"""Connections of one listener that have yet to say who they are.

Half of the descriptors that a process usually has: the others are for those who have.
"""


@dataclass(slots=True, eq=False)
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
        who = self.peer.credentials or self.peer.address  # that of a UNIX socket is empty
        text = f"{what} with {who!r} failed: {reason}"
        number = getattr(error, "errno", None)
        return Error(self.listener, text, number, error, sender=self.peer.address)


class _Wait:
    """What is waited for."""

    __slots__ = ("drop", "entry", "sock", "what")

    def __init__(
        self, sock: socket.socket, what: str, drop: Callable[[], None], entry: Entry
    ) -> None:
        self.sock = sock
        self.what = what
        self.drop = drop
        self.entry = entry


class Arrivals:
    """All of a mux, by listener.

    Args:
        emit: queues an event for the program.
        later: does something after so many seconds.
        cancel: takes that back.
        freed: is called when a descriptor was given back.
    """

    def __init__(
        self,
        emit: Emit,
        later: Callable[[float, Callable[[], None]], Entry],
        cancel: Callable[[Entry], None],
        freed: Callable[[], None],
    ) -> None:
        self._emit = emit
        self._later = later
        self._cancel = cancel
        self._freed = freed
        self._waits: dict[Handle, OrderedDict[Arrival, _Wait]] = {}  # silent for longest first

    def _of(self, listener: Handle) -> OrderedDict[Arrival, _Wait]:
        return self._waits.get(listener) or OrderedDict()

    def awaited(self, listener: Handle) -> int:
        """Return how many a listener has accepted who have yet to say who they are."""
        return len(self._of(listener))

    def enter(
        self, arrival: Arrival, sock: socket.socket, what: str, drop: Callable[[], None]
    ) -> None:
        """Wait for what a connection has to say, for as long as its `handshake_timeout`.

        A second time, it is what comes behind that, in what is left of the time.

        Args:
            arrival: which.
            sock: its socket.
            what: what is waited for, as in "TLS handshake"; see `Arrival.refusal()`.
            drop: closes it, without an event; what was done already is not done again.
        """
        waits = self._waits.setdefault(arrival.listener, OrderedDict())
        wait = waits.get(arrival)
        if wait is not None:
            wait.what, wait.drop = what, drop
            waits.move_to_end(arrival)
            return
        while len(waits) >= MOST_AWAITED:
            self.give_way(arrival.listener)
        seconds = arrival.options.handshake_timeout
        entry = self._later(seconds, partial(self._give_up, arrival, seconds))
        waits[arrival] = _Wait(sock, what, drop, entry)

    def heard(self, arrival: Arrival) -> None:
        """It has said something: others have been silent for longer."""
        waits = self._of(arrival.listener)
        if arrival in waits:
            waits.move_to_end(arrival)

    def leave(self, arrival: Arrival) -> None:
        """All is said: the program is told of it."""
        wait = self._of(arrival.listener).pop(arrival, None)
        if wait is not None:
            self._cancel(wait.entry)

    def refuse(self, arrival: Arrival, error: OSError | EventMuxError) -> None:
        """Drop it, and tell the program why; nothing happens if that was done."""
        wait = self._of(arrival.listener).get(arrival)
        if wait is None:
            return
        wait.drop()
        self._emit(arrival.refusal(error, wait.what))
        self.leave(arrival)  # last: should the rest be interrupted, the time limit does it again
        self._freed()

    def _give_up(self, arrival: Arrival, seconds: float) -> None:
        text = f"not complete within {seconds:g} seconds"
        self.refuse(arrival, TimeoutError(errno.ETIMEDOUT, text))

    def give_way(self, listener: Handle) -> None:
        """Drop whoever has been silent for longest, if there is any: others need the place."""
        waits = self._of(listener)
        if waits:
            text = f"given up for others, {len(waits)} are waited for"
            error = ConnectionAbortedError(errno.ECONNABORTED, text)
            self.refuse(next(iter(waits)), error)

    def dismiss(self, listener: Handle) -> None:
        """Drop all of a listener, without an event: it ends."""
        waits = self._of(listener)
        while waits:
            arrival, wait = next(iter(waits.items()))
            wait.drop()
            self.leave(arrival)
        self._waits.pop(listener, None)

    def close(self) -> None:
        """Close all sockets, and nothing more: the selector is not ours any more, or has ended."""
        for waits in self._waits.values():
            for wait in waits.values():
                wait.sock.close()
        self._waits.clear()


class Awaited:
    """The socket of an arrival, which the poller waits for until it has said who it is.

    Args:
        sock: the socket.
        arrival: what is known of it.
        arrivals: those that it is one of.
    """

    __slots__ = (
        *("_arrival", "_arrivals", "_sock"),
        *("armed", "armed_fd", "fd", "fh", "muted"),
    )

    def __init__(self, sock: socket.socket, arrival: Arrival, arrivals: Arrivals) -> None:
        self._sock: socket.socket | None = sock  # None once it is another's, or closed
        self._arrival = arrival
        self._arrivals = arrivals
        self.fh = arrival.listener  # who waits for another handle alone does not read from it
        self.fd = sock.fileno()
        self.armed = 0
        self.armed_fd = -1
        self.muted = 0

    def readable(self) -> None:
        """Take what it says."""
        raise NotImplementedError

    def writable(self) -> None:
        """Go on where a signal handler has raised."""
        self.readable()

    def fail(self, error: OSError | EventMuxError) -> None:
        """Nothing comes of it."""
        self._arrivals.refuse(self._arrival, error)

    def is_lost(self) -> bool:
        """False: the program does not know it, and cannot close it."""
        return False
