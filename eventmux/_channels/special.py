"""Handles that were added with a rare option: which class serves them, and what fits them."""

from __future__ import annotations

import socket

from eventmux import destinations
from eventmux._channels.accompanied import (
    DatagramWithDestination,
    DatagramWithFds,
    PacketStreamWithFds,
    StreamWithFds,
)
from eventmux._channels.channel import Channel
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.exceptional import EXCEPTIONAL, ExceptionalFile, can_wait
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.ports import Port
from eventmux._channels.streams import Stream

__all__ = ["check_special", "is_special", "special_class"]

_UNIX = getattr(socket, "AF_UNIX", None)

_WITH_FDS: dict[type[Channel], type[Channel]] = {
    Stream: StreamWithFds,
    PacketStream: PacketStreamWithFds,
    Datagram: DatagramWithFds,
}


def is_special(options: ChannelOptions) -> bool:
    """True if a handle with these options may need a class of its own."""
    return bool(options.exceptional or options.receive_fds or options.destination)


def special_class(cls: type[Channel], options: ChannelOptions, port: Port) -> type[Channel]:
    """Return the class that serves a handle, from the one that would without these options."""
    if options.receive_fds:
        return _WITH_FDS[cls]
    if options.destination:
        return DatagramWithDestination
    if isinstance(port, Descriptor) and port.is_regular:
        return ExceptionalFile
    return EXCEPTIONAL[cls]


def check_special(options: ChannelOptions, cls: type[Channel], port: Port) -> None:
    """Raise ValueError for a rare option that means nothing for a handle, or beside another.

    Args:
        options: those that it is to have.
        cls: the class that would serve it without.
        port: what it is read from with.
    """
    if options.receive_fds:
        if not isinstance(port, socket.socket) or port.family != _UNIX:
            raise ValueError(f"receive_fds is for UNIX sockets, but {port!r} is none")
        _check_alone("receive_fds", options, "buffered", "manual_read", "manual_write", "tls")
    if options.destination:
        if cls is not Datagram or isinstance(port, Descriptor) or not destinations.can_tell(port):
            raise ValueError(f"destination is for UDP sockets, on Linux, but {port!r} is none")
        _check_alone("destination", options, "manual_read", "manual_write")
    if options.exceptional:
        if not can_wait():
            raise ValueError("exceptional takes epoll, which this system does not have")
        if cls is not Stream or (isinstance(port, Descriptor) and not port.can_read):
            raise ValueError(f"exceptional is for streams that can be read from, not for {port!r}")
        _check_alone("exceptional", options, "receive_fds", "tls")
        if isinstance(port, Descriptor) and port.is_regular:
            _check_alone("exceptional, of a file,", options, "buffered", "manual_write")


def _check_alone(name: str, options: ChannelOptions, *others: str) -> None:
    for other in others:
        if getattr(options, other):
            raise ValueError(f"{name} does not go with {other}")
