"""To which of our addresses a datagram was sent, and from which one another leaves.

A socket that is bound to all addresses hears packets for each of them. Its peers take an answer for
one only if it comes from the address that they asked: DNS does, for example. The kernel tells that
address beside each packet, and takes one beside each that is sent (ip(7), RFC 3542).

This file knows nothing of selectors and events, and sends nothing. It is about Linux alone.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "ROOM",
    "Destination",
    "can_tell",
    "destination_of",
    "leaving_from",
    "tell_destinations",
]

Message = tuple[int, int, bytes]

# In the machine's byte order, struct in_pktinfo of IPv4 (linux/in.h):
#
#    0  u32  index of the interface
#    4  4 bytes: our address (of that interface, where the packet was for a group or for all)
#    8  4 bytes: the address in the packet; not heeded in what is sent
#
# and struct in6_pktinfo of IPv6 (linux/ipv6.h), also for IPv4 peers of an IPv6 socket:
#
#    0  16 bytes: the address in the packet, or the one to send from
#   16  u32  index of the interface
_IPV4 = struct.Struct("=I4s4s")
_IPV6 = struct.Struct("=16sI")
_IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it before Python 3.14
_IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_MULTICAST = 0xFF  # the first byte of an IPv6 address of a group (RFC 4291)

ROOM = 256
"""Bytes of ancillary data to ask for: there may be more that a program has asked for itself."""


class Destination(NamedTuple):
    """Where a datagram went.

    Args:
        address: the one in the packet: ours, that of a group, or that for all (broadcast).
        interface: the number of the network interface, as `socket.if_indextoname()` has it.
        local: the address of ours to answer from; None if that is the kernel's to choose, for a
            group of IPv6.
    """

    address: str
    interface: int
    local: str | None


def can_tell(sock: socket.socket) -> bool:
    """True for IPv4 and IPv6 sockets on Linux."""
    return sys.platform == "linux" and sock.family in (socket.AF_INET, socket.AF_INET6)


def tell_destinations(sock: socket.socket, on: bool = True) -> None:
    """Have the kernel tell the destination of each packet that a socket gets.

    Raises:
        OSError: the socket is closed...
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, on)


def destination_of(ancillary: Iterable[Message]) -> Destination | None:
    """Return what the ancillary data of a packet tells; None if that is nothing."""
    for level, kind, body in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(body) >= _IPV4.size:
            interface, local, address = _IPV4.unpack_from(body)
            family = socket.AF_INET
            return Destination(
                socket.inet_ntop(family, address), interface, socket.inet_ntop(family, local)
            )
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(body) >= _IPV6.size:
            address, interface = _IPV6.unpack_from(body)
            text = socket.inet_ntop(socket.AF_INET6, address)
            return Destination(text, interface, None if address[0] == _MULTICAST else text)
    return None


def leaving_from(sock: socket.socket, source: object) -> Message:
    """Return the ancillary data of a packet that is to leave from an address.

    Args:
        sock: the socket.
        source: a numeric address of the socket's family. An IPv6 socket sends to IPv4 peers from
            the likes of "::ffff:192.0.2.1".

    Raises:
        TypeError: the address is no str.
        ValueError: it is not numeric, or of another family; the socket has no such addresses.
    """
    if not isinstance(source, str):
        raise TypeError(f"source is {source!r}, must be a str such as '192.0.2.1'")
    if not can_tell(sock):
        raise ValueError(f"source is for IPv4 and IPv6 sockets, on Linux, but {sock!r} is none")
    try:
        packed = socket.inet_pton(sock.family, source)
    except (OSError, ValueError):  # ValueError: there is a NUL or a lone surrogate in it
        name = "IPv4" if sock.family == socket.AF_INET else "IPv6"
        raise ValueError(f"source is {source!r}, must be a numeric {name} address") from None
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, _IPV6_PKTINFO, _IPV6.pack(packed, 0)
    return socket.IPPROTO_IP, _IP_PKTINFO, _IPV4.pack(0, packed, bytes(4))
