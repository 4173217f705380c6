"""Handles that were added with a rare option: which class serves them."""

from __future__ import annotations

from eventmux._channels.accompanied import (
    DatagramWithDestination,
    DatagramWithFds,
    PacketStreamWithFds,
    StreamWithFds,
)
from eventmux._channels.channel import Channel
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.exceptional import EXCEPTIONAL, ExceptionalFile
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.ports import Port
from eventmux._channels.streams import Stream

__all__ = ["is_special", "special_class"]

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
