"""The TLS handshakes that are under way.

Handles that the program knows do theirs by themselves; here is how long it may take. Connections
that were accepted are not known to the program yet, and are *guests* until then. Of one that has
said nothing only the socket is kept, and `Arrivals` bounds how many there are, and for how long.

A guest that is refused is *leaving* for two seconds at most: it is told why by an alert, which the
kernel would drop if the socket were closed while the guest is still sending.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, cast

from eventmux._channels.arrivals import Arrival, Arrivals, Awaited
from eventmux._channels.channel import Channel, Outlet
from eventmux._channels.lingering import LINGER, Lingering, has_unread
from eventmux._channels.options import ChannelOptions
from eventmux._channels.ports import Port
from eventmux._channels.secure import SecureStream
from eventmux._channels.streams import Stream
from eventmux._tls.layer import TLSLayer
from eventmux._tls.sessions import Sessions
from eventmux._waiting.poller import Poller
from eventmux._watching.timers import Entry
from eventmux.errors import EventMuxError
from eventmux.events import Handle

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Handshakes"]

_WHAT = "TLS handshake"
_MOST_LEAVING = 64  # of more, those that are leaving for longest are closed

Later = Callable[[float, Callable[[], None]], Entry]


class _Guest(Awaited):
    """A connection that was accepted, and whose handshake is not through."""

    __slots__ = ("_among", "_layer")

    def __init__(self, sock: socket.socket, arrival: Arrival, among: Handshakes) -> None:
        super().__init__(sock, arrival, among.arrivals)
        self._layer: TLSLayer | None = None  # once it has said something
        self._among = among

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        if self._sock is None:
            return 0
        layer = self._layer
        write = EVENT_WRITE if layer is not None and (layer.has_records or layer.has_more) else 0
        return write if self.muted else write | EVENT_READ

    def readable(self) -> None:
        """Receive and send what the handshake needs; when it is through, it is welcome."""
        if self._sock is None:
            return
        self._arrivals.heard(self._arrival)
        try:
            layer = self._layer
            if layer is None:
                context = cast("SSLContext", self._arrival.options.tls)
                layer = self._layer = TLSLayer(self._sock, context, server_side=True)
            is_through = layer.shake_hands()
        except OSError as error:
            error.__traceback__ = None  # see `Intake._cut()`
            self.fail(error)
            return
        if is_through:
            sock, self._sock = self._sock, None
            self._among.welcome(self, sock, self._arrival, layer)

    def drop(self) -> None:
        """Close it, without an event; if it has failed, the peer may read why."""
        sock, layer = self._sock, self._layer
        if sock is None:
            return
        self._sock = None
        self._among.disarm(self)
        if layer is None or not layer.has_failed or not self._among.see_off(sock, layer):
            sock.close()


class _Leaving:
    """A connection that came to nothing, and whose peer may read the alert."""

    __slots__ = (
        *("_layer", "_leave", "_lingering", "_sock", "entry"),
        *("armed", "armed_fd", "fd", "fh", "muted"),
    )

    def __init__(
        self, sock: socket.socket, layer: TLSLayer, leave: Callable[[_Leaving], None]
    ) -> None:
        self._sock = sock
        self._layer = layer
        self._leave = leave
        self._lingering: Lingering | None = None  # once all is sent
        self.entry: Entry | None = None
        self.fh = None
        self.fd = sock.fileno()
        self.armed = 0
        self.armed_fd = -1
        self.muted = 0

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        if self._sock.fileno() < 0:
            return 0
        return EVENT_WRITE if self._lingering is None else EVENT_READ

    def writable(self) -> None:
        """Send what is left, and say that no more comes."""
        if self._lingering is None and self._layer.push_or_drop():
            self._lingering = Lingering(self._sock, None)

    def readable(self) -> None:
        """Drop what comes, until the peer has ended."""
        lingering = self._lingering
        if lingering is not None:
            lingering.hear()
            if lingering.is_over:
                self._leave(self)

    def close(self) -> None:
        """It had its time."""
        self._sock.close()

    def fail(self, error: OSError | EventMuxError) -> None:
        """It cannot be waited for."""
        del error
        self._leave(self)

    def is_lost(self) -> bool:
        """False: the program does not know it, and cannot close it."""
        return False


class Handshakes:
    """Those of one mux.

    Args:
        poller: waits for the guests.
        arrivals: bounds how many guests there are, and how long they may take.
        later: does something after so many seconds.
        cancel: takes that back.
        announce: tells the program of a connection that was accepted.
        outlet: what the streams emit their events by.
    """

    def __init__(
        self,
        poller: Poller,
        arrivals: Arrivals,
        later: Later,
        cancel: Callable[[Entry], None],
        announce: Callable[[SecureStream, Arrival], None],
        outlet: Outlet,
    ) -> None:
        self.arrivals = arrivals
        self._poller = poller
        self._later = later
        self._cancel = cancel
        self._announce = announce
        self._outlet = outlet
        self._sessions = Sessions()
        self._entries: dict[SecureStream, Entry] = {}
        self._leaving: dict[_Leaving, None] = {}  # who leaves for longest comes first

    # Handles that the program knows

    def secure(self, fh: Handle, port: Port, options: ChannelOptions, meta: object) -> SecureStream:
        """Return a stream that is to shake hands as soon as it is up."""
        arguments = (fh, port, self._outlet, options, meta)
        return SecureStream(*arguments, ready=False, layer=self._layer(port, options), limits=self)

    def secure_over(self, stream: Stream, options: ChannelOptions) -> SecureStream:
        """Return what takes the place of a stream that is plain."""
        return SecureStream.over(stream, options, self._layer(stream.port, options), self)

    def _layer(self, port: Port, options: ChannelOptions) -> TLSLayer:
        context, name = cast("SSLContext", options.tls), options.server_hostname
        return TLSLayer(
            cast("socket.socket", port),
            context,
            server_side=bool(options.server_side),
            server_hostname=name,
            session=self._sessions.take(context, name),
        )

    def begin(self, stream: SecureStream) -> None:
        """Let it take as long as its option says, from the first time on."""
        if stream in self._entries:
            return
        seconds = stream.options.handshake_timeout
        self._entries[stream] = self._later(seconds, lambda: self._give_up(stream, seconds))

    def end(self, stream: SecureStream) -> None:
        """It is through."""
        entry = self._entries.pop(stream, None)
        if entry is not None:
            self._cancel(entry)

    def forget(self, channel: Channel) -> None:
        """It is not watched any more."""
        if isinstance(channel, SecureStream):
            self.end(channel)
            options = channel.options
            context = cast("SSLContext", options.tls)
            self._sessions.keep(context, options.server_hostname, channel.ticket())

    def _give_up(self, stream: SecureStream, seconds: float) -> None:
        self._entries.pop(stream, None)
        if not stream.closing and not stream.is_up:
            text = f"no TLS handshake within {seconds:g} seconds"
            stream.fail(TimeoutError(errno.ETIMEDOUT, text))
            self._poller.arm(stream)

    # Guests

    def greet(self, sock: socket.socket, arrival: Arrival) -> None:
        """Have a connection that was accepted shake hands."""
        sock.setblocking(False)
        guest = _Guest(sock, arrival, self)
        try:
            self.arrivals.enter(arrival, sock, _WHAT, guest.drop)
            self._poller.arm(guest)
        except BaseException:  # Ctrl-C, for example
            self.arrivals.leave(arrival)
            guest.drop()
            raise

    def disarm(self, guest: _Guest | _Leaving) -> None:
        """Wait for it no more."""
        self._poller.disarm(guest)

    def welcome(
        self, guest: _Guest, sock: socket.socket, arrival: Arrival, layer: TLSLayer
    ) -> None:
        """The handshake is through: tell the program."""
        try:
            self._poller.disarm(guest)
            self.arrivals.leave(arrival)
            arguments = (sock, sock, self._outlet, arrival.options, arrival.meta)
            stream = SecureStream(*arguments, ready=True, layer=layer, limits=self)
            stream.identify(arrival.peer)
            arrival.peer = stream.peer()
            self._announce(stream, arrival)
            stream.see_inside()
        except OSError as error:  # the selector takes no more, say
            sock.close()
            self._outlet.emit(arrival.refusal(error, _WHAT))
        except BaseException:
            sock.close()
            raise

    def see_off(self, sock: socket.socket, layer: TLSLayer) -> bool:
        """Have the peer read why it is refused; False if there is nothing to wait for."""
        if layer.push_or_drop() and has_unread(sock) is None:
            return False
        leaving = _Leaving(sock, layer, self._leave)
        while len(self._leaving) >= _MOST_LEAVING:
            self._leave(next(iter(self._leaving)))
        self._leaving[leaving] = None
        leaving.entry = self._later(LINGER, lambda: self._leave(leaving))
        leaving.writable()
        self._poller.arm(leaving)
        return True

    def _leave(self, leaving: _Leaving) -> None:
        self._poller.disarm(leaving)
        if leaving.entry is not None:
            self._cancel(leaving.entry)
        leaving.close()
        self._leaving.pop(leaving, None)

    def close(self) -> None:
        """Close who is leaving, and nothing more: the selector may not be ours any more."""
        for leaving in self._leaving:
            leaving.close()
        self._leaving.clear()
