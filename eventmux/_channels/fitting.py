"""Which options fit which handle.

What an option may be is said in `options`, for all handles alike. Here is what means nothing for a
kind of handle, or beside another option: it is told at the call, before anything has changed.
"""

from __future__ import annotations

import socket

from eventmux import destinations
from eventmux._channels.channel import Channel
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.exceptional import can_wait
from eventmux._channels.nested import Nested
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.ports import Port
from eventmux._channels.special import is_special
from eventmux._channels.streams import Stream

__all__ = ["check_idle", "fitting"]

_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it


def fitting(
    options: ChannelOptions,
    cls: type[Channel],
    port: Port,
    is_listening: bool = False,
    *,
    accepted: bool = False,
) -> ChannelOptions:
    """Return the options as they are for this handle.

    Raises:
        ValueError: one of them means nothing for this kind of handle.
    """
    if options.buffered is not None and cls is not Stream:
        what = "a mux" if cls is Nested else repr(cls.kind)
        raise ValueError(f"buffered is for streams, but {port!r} is {what}")
    is_connection = cls in (Stream, PacketStream) and not isinstance(port, Descriptor)
    if options.half_close and not is_connection:
        raise ValueError(f"half_close is for connections, but {port!r} is none")
    if options.half_close and options.manual_read:
        raise ValueError(f"half_close is for the mux to see, but {port!r} has manual_read")
    if options.errors and (cls is not Datagram or isinstance(port, Descriptor)):
        raise ValueError(f"errors is for datagram sockets, but {port!r} is none")
    if is_special(options):
        _check_special(options, cls, port)
    if options.idle_timeout is not None:
        check_idle(options, cls is Nested, port)
    if options.tls is None:
        for name in ("server_side", "server_hostname"):
            if (value := getattr(options, name)) is not None:
                raise ValueError(f"{name} is {value!r}, but there is no tls")
        return options
    if cls is not Stream or isinstance(port, Descriptor):
        what = "a mux" if cls is Nested else "no socket" if cls is Stream else repr(cls.kind)
        raise ValueError(f"tls is for connections of streams, but {port!r} is {what}")
    if options.manual_read or options.manual_write:
        raise ValueError("tls does not go with manual_read and manual_write")
    from eventmux._channels import contexts  # it takes a while, and few need it

    if is_listening:
        return contexts.for_listener(options, port)
    return contexts.for_connection(options, port, accepted=accepted)


def check_idle(options: ChannelOptions, is_mux: bool, port: object) -> None:
    """Raise ValueError for a handle on which the mux does not see what comes and goes."""
    what = "manual_read" if options.manual_read else "manual_write" * options.manual_write
    if is_mux or what:
        why = "is a mux" if is_mux else f"has {what}: use a timer, and its restart()"
        raise ValueError(f"idle_timeout is for what the mux reads and writes; {port!r} {why}")


def _check_special(options: ChannelOptions, cls: type[Channel], port: Port) -> None:
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
