"""A connection through a proxy: its header is read, and nothing behind it.

What follows may be TLS, or may be read by the program itself. So the header is looked at while it
is in the kernel, and exactly what belongs to it is taken out: what is left there is the client's.
A header that comes in pieces is taken out in pieces, else what has come would be reported as
readable again and again.

This file does not know how a header is written.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import starmap
from selectors import EVENT_READ, EVENT_WRITE

from eventmux._channels.arrivals import Arrival, Arrivals, Awaited
from eventmux._channels.listeners import Listener
from eventmux._channels.trust import Trust
from eventmux._waiting.poller import Poller
from eventmux.errors import MalformedHeader
from eventmux.events import Address, Error
from eventmux.peers import Peer, ProxyHeader
from eventmux.proxy import header_length, parse_header

__all__ = ["Gate"]

_WHAT = "PROXY header of the connection"
_USUAL = 536  # bytes; a header is to fit in the smallest packet of TCP (section 2)
_UNTRUSTED = "is not trusted to say who its clients are"


class Gate:
    """Where those come in who have to say first whose connection they pass on.

    Args:
        trust: who is believed.
        arrive: makes what is known of a connection that was accepted.
        arrivals: those that are waited for.
        poller: waits for their headers.
        welcome: takes a connection of which all is known.
        emit: queues an event for the program.
    """

    def __init__(
        self,
        trust: Trust,
        arrive: Callable[[Listener, socket.socket, Address], Arrival],
        arrivals: Arrivals,
        poller: Poller,
        welcome: Callable[[socket.socket, Arrival], None],
        emit: Callable[[Error], None],
    ) -> None:
        self._trust = trust
        self._arrive = arrive
        self.arrivals = arrivals
        self.poller = poller
        self.welcome = welcome
        self.emit = emit

    def adopt(self, listener: Listener, sock: socket.socket, address: Address) -> None:
        """Take a connection that a listener accepted, or refuse it before anything is read."""
        arrival = self._arrive(listener, sock, address)
        if not self._trust.covers(arrival.peer):
            who = arrival.peer.credentials or address
            error = PermissionError(errno.EACCES, f"{who!r} {_UNTRUSTED}")
            sock.close()
            self.emit(Error(listener.fh, str(error.strerror), error.errno, error, sender=address))
            return
        sock.setblocking(False)
        proxied = _Proxied(sock, arrival, self)
        try:
            self.arrivals.enter(arrival, sock, _WHAT, proxied.drop)
            proxied.readable()  # a proxy sends it at once, so it is here already, most likely
            self.poller.arm(proxied)
        except BaseException:  # Ctrl-C, for example
            proxied.drop()
            self.arrivals.leave(arrival)
            raise


class _Proxied(Awaited):
    """A connection whose header has not been read."""

    __slots__ = ("_gate", "_length", "_pieces")

    def __init__(self, sock: socket.socket, arrival: Arrival, gate: Gate) -> None:
        super().__init__(sock, arrival, gate.arrivals)
        self._gate = gate
        self._pieces: list[bytes] = []  # of the header
        self._length = header_length(b"")  # of all of it, as far as that is known

    @property
    def wanted(self) -> int:
        """The readiness to wait for.

        A header that is whole is still here if a signal handler has raised: the kernel will not
        report it, but that one can write.
        """
        if self._sock is None:
            return 0
        is_whole = sum(map(len, self._pieces)) >= self._length
        return EVENT_WRITE if is_whole else 0 if self.muted else EVENT_READ

    def readable(self) -> None:
        """Read what is there of the header; if that is all, the connection is welcome."""
        if self._sock is None:
            return
        try:
            header = self._read(self._sock)
        except BlockingIOError:
            return
        except (OSError, MalformedHeader) as error:
            error.__traceback__ = None  # see `Intake._cut()`
            self.fail(error)
            return
        self._finish(self._sock, header)

    def _read(self, sock: socket.socket) -> ProxyHeader:
        """Take out what has come of the header, and return it once it is whole.

        Raises:
            BlockingIOError: there is more to come.
            OSError: the connection has ended, or broken.
            MalformedHeader: it is none.
        """
        while True:
            head = b"".join(self._pieces)
            self._length = header_length(head)
            if self._length == len(head):
                return parse_header(head)
            self._pieces[:] = [head]
            ahead = sock.recv(max(self._length, _USUAL) - len(head), socket.MSG_PEEK)
            if not ahead:
                text = f"it ended after {len(head)} bytes of at least {self._length}"
                raise ConnectionResetError(errno.ECONNRESET, text)
            self._length = header_length(head + ahead)
            size = min(self._length - len(head), len(ahead))
            # As in Intake.readable(): what the kernel has given is kept by C code.
            self._pieces.extend(starmap(sock.recv, ((size,),)))
            self._arrivals.heard(self._arrival)

    def _finish(self, sock: socket.socket, header: ProxyHeader) -> None:
        """Pass it on: to TLS, or to the program."""
        arrival = self._arrival
        arrival.peer = _told(arrival.peer, header)
        try:
            self._gate.poller.disarm(self)
            if arrival.options.tls is None:  # else it enters again, in what is left of the time
                self._arrivals.leave(arrival)
            self._gate.welcome(sock, arrival)
            self._sock = None
        except BaseException as error:
            self._arrivals.leave(arrival)
            self.drop()
            if not isinstance(error, OSError):
                raise
            self._gate.emit(arrival.refusal(error, _WHAT))  # the selector takes no more, say

    def drop(self) -> None:
        """Close it, without an event."""
        if self._sock is not None:
            self._gate.poller.disarm(self)
            self._sock.close()
            self._sock = None


def _told(proxy: Peer, header: ProxyHeader) -> Peer:
    """Return who is there: the proxy itself, or who it says."""
    header = replace(header, address=proxy.address, credentials=proxy.credentials)
    if header.source is None:
        return Peer(proxy.address, proxy.credentials, proxy=header)
    return Peer(header.source, proxy=header)
