"""Streams with TLS.

The life of one, and the events on the way:

    connecting, if it is --> handshake --Ready--> open --Closing--> closing --> ended: Closed
    accepted, its handshake through -----------/

A stream that `start_tls()` was called for sends what is queued before its handshake.

It is a stream whose `recv()` and `send()` are those of a `TLSLayer`. What it has besides are a
handshake, records that OpenSSL has made by itself, and plain bytes that wait inside, of which no
selector knows.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from itertools import starmap
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Protocol, cast

from eventmux._channels.channel import ENDED, Outlet
from eventmux._channels.files import FileSender
from eventmux._channels.intake import _one_read, records_of
from eventmux._channels.lingering import LINGER, Lingering, has_unread
from eventmux._channels.options import READ_SIZE, ChannelOptions
from eventmux._channels.ports import SEND_FLAGS, Port
from eventmux._channels.streams import Stream
from eventmux._tls.layer import TLSLayer
from eventmux._waiting.pollable import HANGUP, HELD
from eventmux.errors import EventMuxError, TLSError
from eventmux.events import Handle, Read, ReadLast, Ready, Records, Sent
from eventmux.peers import Address, Peer

if TYPE_CHECKING:
    from ssl import SSLSession

__all__ = ["SecureStream"]

# A peer may ask OpenSSL for answers (KeyUpdate: RFC 8446, section 4.6.3), and read none. With so
# many bytes of records it is not read from; what the program sends takes less at a time.
_MOST_RECORDS = 256 * 1024


_READ_SIZE = (
    256 * 1024
)  # bytes; unless the program says otherwise: a read costs more than a plain one


class Limits(Protocol):
    """Sees to it that a handshake takes only so long."""

    def begin(self, stream: SecureStream) -> None:
        """It begins, or goes on."""

    def end(self, stream: SecureStream) -> None:
        """It is through."""


class SecureStream(Stream):
    """A stream that is encrypted."""

    __slots__ = ("_is_told", "_layer", "_limits")

    def __init__(
        self,
        fh: Handle,
        port: Port,
        outlet: Outlet,
        options: ChannelOptions,
        meta: object,
        *,
        ready: bool,
        layer: TLSLayer,
        limits: Limits,
    ) -> None:
        super().__init__(fh, port, outlet, options, meta, ready=ready)
        self._layer = layer
        self._limits = limits
        self._is_told = ready  # the program knows that the handshake is through
        self._recv, self._send = layer.recv, layer.send
        self._one_read = _one_read(_read_size(options))

    @classmethod
    def over(
        cls, stream: Stream, options: ChannelOptions, layer: TLSLayer, limits: Limits
    ) -> SecureStream:
        """Return what takes the place of a plain stream, and has all that it has.

        Raises:
            RuntimeError: it is in the midst of a read, of which nobody knows yet what follows it.
        """
        if stream._is_giving:
            raise RuntimeError(f"{stream.fh!r} is being read from: wait for its Read to come")
        new = cls.__new__(cls)
        for kind in Stream.__mro__[:-1]:
            for name in getattr(kind, "__slots__", ()):
                setattr(new, name, getattr(stream, name))
        new.options, new.armed, new.armed_fd = options, 0, -1
        new._layer, new._limits, new._is_told = layer, limits, False
        new._recv, new._send = layer.recv, layer.send
        new._one_read = _one_read(_read_size(options))
        if type(stream._send) is FileSender:  # a file may be queued
            new._send = FileSender(stream.port, layer.send)
        new._is_direct = False
        new._see_buffer()
        layer.plain_left = new.unsent
        return new

    def start(self) -> None:
        """Begin in the midst of a connection.

        What has been read and was not handed out came in plain text. Somebody on the way may have
        put it there, to have it taken for something that came by TLS (CVE-2011-0411). So it is an
        error, and is dropped.
        """
        if self._extras.is_unsettled:  # it was the other channel that was to be called
            self._extras.is_unsettled = False
            self._unsettle()
        came = self._take_back_input()
        if came:
            self._buffer = None  # nor is what was left in it handed out
            self.fail(TLSError(f"{came} bytes came in plain text before the TLS handshake"))
        else:
            self.flush()
            self._shake_hands()

    def _take_back_input(self) -> int:
        """Take back what was read and not handed out; return how many bytes."""
        buffer, backlog = self._buffer, self._extras.backlog
        size = getattr(buffer, "pending", 0) + len(backlog.rest() if backlog else b"")
        for event in self._outlet.withdraw(self.fh):
            if isinstance(event, (Read, ReadLast, Records)):
                # An empty record is of a separator alone.
                size += sum(len(record) or 1 for record in records_of(event))
            else:
                self._emit(event)
        return size

    def _can_be_direct(self) -> bool:
        """False: what is sent has to be in the queue until its records have left."""
        return False

    @property
    def is_up(self) -> bool:
        """True once the handshake is through."""
        return self._is_told

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        layer = self._layer
        if self._is_told and not (layer.needs_input or layer.has_more or layer.has_records):
            return super().wanted  # as most often
        if not (self._ready and self._is_shaking):
            wanted = super().wanted
            if layer.needs_input and wanted & EVENT_WRITE and self._ready:
                wanted = wanted & ~EVENT_WRITE or (HANGUP if self.muted & ENDED else 0)
        else:
            wanted = 0 if self.muted & HELD else EVENT_READ
            if layer.plain_left:
                wanted |= EVENT_WRITE
        if self.dialing:
            return 0
        left = layer.records_left
        if left > _MOST_RECORDS:
            wanted &= ~EVENT_READ
        is_stuck = layer.has_more and self._is_to_go_on()
        return wanted & ~HANGUP | EVENT_WRITE if left or is_stuck else wanted

    @property
    def _is_shaking(self) -> bool:
        """True until the handshake is through; one that is closing needs it for what is queued."""
        return not self._is_told and (not self.closing or bool(self.unsent))

    def _is_to_go_on(self) -> bool:
        """True if what is inside would be got out now, if anything called for it."""
        if not self._is_told:
            return self._ready and self._is_shaking
        return not (self.closing or self.muted or self._extras.is_unsettled)

    # The handshake

    def _get_ready(self) -> None:
        """The connection is up: the handshake is next."""
        self._ready = True
        self.connecting = False
        if self._is_shaking:
            self._shake_hands()

    def _shake_hands(self) -> None:
        layer = self._layer
        self._limits.begin(self)
        if layer.plain_left:
            return
        try:
            if not layer.shake_hands():
                return
            self.identify(self.peer())
        except OSError as error:
            error.__traceback__ = None  # see `Intake._cut()`
            self.fail(error)
            return
        self._tell()

    def _tell(self) -> None:
        """Tell the program that the handshake is through."""
        self.quiet = 0
        if self.closing:
            self._is_told = True
        else:  # by C code, so that it is told once wherever a signal handler raises
            [told] = map(self._emit, (Ready(self.fh),))
            self._is_told = told is None
        self._limits.end(self)
        self.see_inside()
        if self.unsent or self._extras.is_ending:
            self.flush()

    def identify(self, peer: Peer) -> None:
        """Note who the peer is, with what TLS says of it.

        Raises:
            TLSError: its certificate cannot be read.
        """
        layer = self._layer
        self.introduce(replace(peer, certificate=layer.certificate(), tls=layer.session()))

    # Input

    def readable(self) -> None:
        """Go on with the handshake, or read."""
        if not self._is_told and self._is_shaking:
            self._shake_hands()
            return
        try:
            super().readable()
        finally:
            self._see_moved()
            if self._layer.has_more:
                self.see_inside()

    def _see_moved(self) -> None:
        """Note that something came or went, if only a part of a record."""
        if self._layer.has_moved:
            self._layer.has_moved = False
            self.quiet = 0

    def see_inside(self) -> None:
        """Have it read on when its events are handed out, if there may be more inside."""
        if self._layer.has_more and self._is_to_go_on():
            self._unsettle()

    def settle(self) -> None:
        """Go on with what was read before."""
        super().settle()
        if self._layer.has_more and self._is_to_go_on():
            self.readable()

    @property
    def is_behind(self) -> bool:
        """True if it has something to emit that nothing but `settle()` will."""
        return super().is_behind or (self._layer.has_more and not (self.closing or self.muted))

    # Output

    def send(self, data: tuple[bytes, ...], later: bool, receiver: Address | None = None) -> bool:
        """Take bytes to be sent, and send what the kernel takes; or put that off.

        A single piece for an empty queue comes first: the same as the rest would do, with less. It
        is in the queue until its records have left, whatever interrupts that.
        """
        if len(data) == 1 and not (later or self.unsent) and self._is_told and self._takes_output:
            piece = data[0]
            if type(piece) is bytes and piece and receiver is None and not self.closing:
                return self._send_alone(piece)
        return super().send(data, later, receiver)

    def _send_alone(self, piece: bytes) -> bool:
        event, size = Sent(self.fh), len(piece)
        self._is_quiet = False
        self.unsent = size
        self._out += [piece]
        try:
            [sent] = starmap(self._send, ((piece, SEND_FLAGS),))  # see _send_once()
        except OSError:
            return super().send((), False)  # which meets it again, and deals with it
        if sent == size:
            self.unsent = self.quiet = 0
            del self._out[0]
            self._emit(event)
            return False
        self.unsent = size - sent
        self._out[0] = piece[sent:]
        return super().send((), False)

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""
        layer = self._layer
        if self._is_told or layer.plain_left:
            super().flush()
        self.unflushed = self._extras.is_ending  # as there
        if layer.has_records:
            layer.push_or_drop()
        self._see_moved()

    def writable(self) -> bool | None:
        """Send what is queued, or what OpenSSL has to say; go on with what is stuck inside."""
        was_told = self._is_told
        is_new = super().writable()
        lingering = self._extras.lingering
        if lingering is not None and not lingering.is_said and not self._layer.has_records:
            lingering.end_our_side()
            self._outlet.see_off(self, LINGER)
        if self._ready and self._is_shaking:
            self._shake_hands()
        else:
            self.see_inside()
        return is_new or self._is_told != was_told

    # The end

    def fail(self, error: OSError | EventMuxError) -> None:
        """The stream is broken: say why, to the peer as well."""
        self._layer.push_or_drop()
        super().fail(error)

    def _end_output(self) -> None:
        """Say that no more comes. TCP goes on: TLS itself may have to answer the peer."""
        if self._is_told:
            self._layer.end_output()
            self._layer.push_or_drop()
            self.see_inside()

    def left_to_send(self) -> int:
        """Return what becomes less as the peer reads."""
        return super().left_to_send() + self._layer.records_left

    def linger(self) -> bool:
        """Say that no more comes, and wait for the peer to say so; True if that takes time."""
        port = cast("socket.socket", self.port)
        if self._extras.lingering or not self._ready or self.dialing or self.is_lost():
            return False
        layer = self._layer
        if not layer.has_failed and (self.missing or not layer.is_up):
            return False  # there is nothing to say: what the peer got is cut off
        layer.say_end()
        is_sent = layer.push_or_drop()
        is_unread = has_unread(port)
        if is_sent and (is_unread is None or (layer.is_ended and not is_unread)):
            return False
        self._takes_output = False
        extras = self._own_extras()
        lingering = Lingering(port, self.closed, is_said=is_sent)
        extras.lingering, self.closed = lingering, None  # nothing comes in between
        self._outlet.see_off(self, LINGER if is_sent else None)
        return True

    def ticket(self) -> SSLSession | None:
        """Return what the session can be taken up again with, by another connection."""
        return self._layer.ticket()

    def discard(self) -> None:
        """Say that no more comes."""
        if not self.unsent:
            self._layer.say_end()
            self._layer.push_or_drop()
        super().discard()


def _read_size(options: ChannelOptions) -> int:
    return _READ_SIZE if options.read_size == READ_SIZE else options.read_size
