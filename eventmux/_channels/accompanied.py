"""What comes with more than its data: descriptors over UNIX sockets, and where a datagram went.

Descriptors that came are kept by the event's `PassedFds` before anything of Python's own is called:
a signal handler may raise there, and they would stay open for ever.

On a stream the kernel ends a read behind the piece that descriptors came with, but does not say
where that piece begins. So they cannot be told from record to record, and a stream that receives
descriptors has no buffer. Packets are records.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import starmap
from typing import Any, cast

from eventmux import destinations
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream, too_long
from eventmux._channels.ports import RECV_FLAGS, Port
from eventmux._channels.streams import Stream
from eventmux.events import Error, ReadWithDestination, ReadWithFds
from eventmux.passing import PassedFds

__all__ = ["DatagramWithDestination", "DatagramWithFds", "PacketStreamWithFds", "StreamWithFds"]

Request = tuple[tuple[int, int, int]]

_TRUNCATED = int(getattr(socket, "MSG_TRUNC", 0))
_CUT = int(getattr(socket, "MSG_CTRUNC", 0))
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_PASSCRED = getattr(socket, "SO_PASSCRED", None)
_CREDENTIALS = 12  # bytes of struct ucred: pid, uid and gid
_FD = 4  # bytes of a descriptor


def _request(port: Port, options: ChannelOptions) -> Request:
    """Return the arguments of `recvmsg()` with room for just so many descriptors, for `starmap()`.

    Credentials, if the program has asked for them, come in front of them in the same room.
    """
    sock = cast("socket.socket", port)
    room = socket.CMSG_LEN(_FD * cast("int", options.receive_fds))
    if _PASSCRED is not None and sock.getsockopt(socket.SOL_SOCKET, _PASSCRED):
        room += socket.CMSG_SPACE(_CREDENTIALS)
    return ((options.read_size, room, RECV_FLAGS | _CLOEXEC),)


def _lost_fds(event: ReadWithFds, options: ChannelOptions) -> Error:
    """Return what tells the program that they were; it gets none of the others."""
    limit = cast("int", options.receive_fds)
    number, text = errno.EMSGSIZE, f"more descriptors than receive_fds, {limit}"
    if len(event.fds) < limit:  # there was room for more
        number = errno.EMFILE
        text = f"descriptors that were passed are lost: {os.strerror(number)}"
    event.fds.close()
    return Error(
        event.fh, text, number, OSError(number, text), data=event.data, sender=event.sender
    )


class _ConnectionWithFds(Stream):
    """A UNIX socket with a peer, over which descriptors may be passed."""

    __slots__ = ("_recvmsg", "_request")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._recvmsg = cast("socket.socket", self.port).recvmsg
        self._request = _request(self.port, self.options)

    def readable(self) -> None:
        """Read once: some bytes, or one packet."""
        if self.closing:
            self._hear()
            return
        event = ReadWithFds(self.fh)
        passed = event.fds = PassedFds()
        try:  # by starmap(), as in Intake.readable()
            [(event.data, passed.ancillary, flags, _)] = starmap(self._recvmsg, self._request)
        except BlockingIOError:
            return
        except OSError as error:
            self._own_extras().end = error
            self.fail(error)
            return
        except MemoryError:  # the other handles are still to be served
            self.fail(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
            return
        self.quiet = 0
        if flags & _TRUNCATED:  # only packets are
            self._emit(too_long(self.fh, event.data, self.options.read_size, None))
        elif flags & _CUT:
            self._lose(event)
        elif event.data:
            self._emit(event)
            self._identify(event)
        else:
            self._end()

    def _lose(self, event: ReadWithFds) -> None:
        """Tell that descriptors are lost. Other packets are whole."""
        self._emit(_lost_fds(event, self.options))


class StreamWithFds(_ConnectionWithFds):
    """A UNIX stream that descriptors may be passed over."""

    __slots__ = ()

    def _lose(self, event: ReadWithFds) -> None:
        """What is out of step with its descriptors is of no use: read no more."""
        error = _lost_fds(event, self.options)
        self._own_extras().end = cast("OSError", error.exception)
        self.reason = error.error
        self._emit(error)
        self._begin_to_close()

    def set_buffer(self, buffered: object) -> None:
        """Refuse: which record they belong to cannot be told."""
        if buffered is not None:
            raise ValueError(f"{self.fh!r} has receive_fds: it cannot have a buffer")


class PacketStreamWithFds(_ConnectionWithFds, PacketStream):
    """A connection of packets that descriptors may be passed over."""

    __slots__ = ()


class _Accompanied(Datagram):
    """Reads one packet after the other as a subclass does."""

    __slots__ = ("_request",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._request: Request = self._make_request()

    def _make_request(self) -> Request:
        """Return the arguments of `recvmsg()`, for `starmap()`."""
        raise NotImplementedError

    def readable(self) -> None:
        """Read what has arrived, one event for each packet."""
        for _ in range(self.options.reads_per_turn):
            if self.closing or not self._read():
                return

    def _read(self) -> bool:
        """Read one packet; False if there is none."""
        raise NotImplementedError


class DatagramWithDestination(_Accompanied):
    """A UDP socket that hears to which address each packet was sent."""

    __slots__ = ()

    def _prepare(self) -> None:
        super()._prepare()
        destinations.tell_destinations(cast("socket.socket", self.port))

    def connected(self) -> None:
        """Note that the socket has its address, by another descriptor."""
        destinations.tell_destinations(cast("socket.socket", self.port))
        super().connected()

    def release(self) -> None:
        """Give the handle back as it was."""
        if not self.is_lost():
            destinations.tell_destinations(cast("socket.socket", self.port), False)
        super().release()

    def _make_request(self) -> Request:
        return ((self.options.read_size, destinations.ROOM, RECV_FLAGS),)

    def _read(self) -> bool:
        event = ReadWithDestination(self.fh)
        try:
            [(event.data, ancillary, flags, event.sender)] = starmap(self._receive, self._request)
        except OSError as error:
            self._stop_reading(error)
            return False
        self.quiet = 0
        if flags & _TRUNCATED:
            self._emit(too_long(self.fh, event.data, self.options.read_size, event.sender))
            return True
        try:
            found = destinations.destination_of(ancillary)
            if found is not None:
                event.destination, event.interface, event.local = found
        finally:  # a signal handler may raise
            self._emit(event)
        self._identify(event)
        return True


class DatagramWithFds(_Accompanied):
    """A UNIX datagram socket that descriptors may be passed over."""

    __slots__ = ()

    def _make_request(self) -> Request:
        return _request(self.port, self.options)

    def _read(self) -> bool:
        event = ReadWithFds(self.fh)
        passed = event.fds = PassedFds()
        try:
            [(event.data, passed.ancillary, flags, event.sender)] = starmap(
                self._receive, self._request
            )
        except OSError as error:
            self._stop_reading(error)
            return False
        self.quiet = 0
        if flags & _TRUNCATED:
            self._emit(too_long(self.fh, event.data, self.options.read_size, event.sender))
        elif flags & _CUT:
            self._emit(_lost_fds(event, self.options))
        else:
            self._emit(event)
            self._identify(event)
        return True
