"""What datagram sockets need: addresses that can be sent to, and why datagrams did not arrive.

What can fail because of the network or the kernel raises OSError. This file knows nothing of
selectors and events, and sends nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from eventmux.events import Address

__all__ = ["SendError", "check_address", "read_error", "report_errors"]

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_AF_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it
_IS_LINUX = sys.platform == "linux"
_IP_RECVERR = 11  # linux/in.h, linux/in6.h: the socket module has no names for these
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_REPORT_FLAGS = _MSG_ERRQUEUE | getattr(socket, "MSG_DONTWAIT", 0)


def check_address(sock: socket.socket, address: object) -> None:
    """Check an address before `sendto()`: a host must be numeric, as looking it up would wait.

    Addresses of families other than IPv4, IPv6 and UNIX are not checked.

    Raises:
        TypeError: the address is not of the shape that the socket's family has.
        ValueError: a part of it cannot be.
    """
    family = sock.family
    if family in _INTERNET:
        _check_internet(family, address)
    elif family == _AF_UNIX:
        _check_unix(address)


def _check_internet(family: int, address: object) -> None:
    longest = 2 if family == socket.AF_INET else 4
    if not isinstance(address, tuple) or not 2 <= len(address) <= longest:
        shape = "(host, port)" if longest == 2 else "(host, port[, flow[, scope]])"
        raise TypeError(f"cannot send to {address!r}: expected {shape}")
    host, *numbers = address
    if not isinstance(host, str) or not all(isinstance(number, int) for number in numbers):
        raise TypeError(f"cannot send to {address!r}: expected a str and then ints")
    if not _is_numeric(family, host):
        name = "IPv4" if family == socket.AF_INET else "IPv6"
        raise ValueError(f"cannot send to {address!r}: {host!r} is not a numeric {name} address")
    limits = (("port", 0xFFFF), ("flow", 0xFFFFF), ("scope", 0xFFFFFFFF))
    for number, (what, limit) in zip(numbers, limits, strict=False):
        if not 0 <= number <= limit:
            raise ValueError(f"cannot send to {address!r}: the {what} is not in 0..{limit}")


@lru_cache(maxsize=1024)
def _is_numeric(family: int, host: str) -> bool:
    if family == socket.AF_INET and host == "<broadcast>":
        return True
    if family == socket.AF_INET6:
        host, _, scope = host.partition("%")
        if not (scope.isascii() and scope.isprintable()):
            return False
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):  # ValueError: there is a NUL or a lone surrogate in it
        return False
    return True


def _check_unix(address: object) -> None:
    if not isinstance(address, (str, bytes)):
        raise TypeError(f"cannot send to {address!r}: expected a path, str or bytes")
    try:
        size = len(os.fsencode(address))
    except UnicodeEncodeError as error:
        raise ValueError(f"cannot send to {address!r}: {error}") from None
    if not 1 <= size <= 107:
        raise ValueError(f"cannot send to {address!r}: path of {size} bytes, must be 1 to 107")


# What Linux tells of a datagram that did not arrive, in the machine's byte order. First comes a
# struct sock_extended_err (linux/errqueue.h):
#
#    0  u32  errno
#    4  u8   origin: 1 this host, 2 ICMP, 3 ICMPv6; others are not about errors
#    5  u8   type, of ICMP
#    6  u8   code, of ICMP
#    7  u8   padding
#    8  u32  info: the MTU if errno is EMSGSIZE
#   12  u32  data
#
# and then the address of the host that said so:
#
#   16  u16  family: AF_INET, AF_INET6, or 0 if that is unknown
#   18  u16  port, always 0
#   20  4 bytes of IPv4 address; or for IPv6:
#   20  u32  flow
#   24  16 bytes of IPv6 address
#   40  u32  scope
_EXTENDED_ERROR = struct.Struct("=I4BII")
_OFFENDER_IPV4 = struct.Struct("=H2x4s")
_OFFENDER_IPV6 = struct.Struct("=H6x16sI")
_ERROR_ORIGINS = (1, 2, 3)
_ERROR_MESSAGES = (
    (socket.IPPROTO_IP, _IP_RECVERR),
    (socket.IPPROTO_IPV6, _IPV6_RECVERR),
)


@dataclass(frozen=True, slots=True)
class SendError:
    """Why a datagram did not arrive.

    The data is what the network gave back of the datagram: the beginning of it, or nothing.
    The offender is the host that reported the error, the mtu the size that would have passed.
    The receiver's port is 0 if this host itself refused to send on a socket without a peer.
    """

    errno: int
    receiver: Address | None
    data: bytes
    offender: Address | None
    mtu: int | None


def report_errors(sock: socket.socket, on: bool = True) -> None:
    """Let the kernel collect the errors of what an IPv4 or IPv6 socket sends; see `read_error()`.

    Raises:
        OSError: the system or the socket has no such thing.
    """
    if not _IS_LINUX or sock.family not in _INTERNET:
        text = "errors of datagrams are reported only by Linux, for IPv4 and IPv6"
        raise OSError(errno.ENOPROTOOPT, text)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, on)
    sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, on)  # of IPv4 peers of an IPv6 socket, too


def read_error(sock: socket.socket) -> SendError | None:
    """Return the next report of a datagram that did not arrive; None if there is none.

    Raises:
        OSError: the socket is closed...
    """
    # A UNIX socket does not know MSG_ERRQUEUE: it would give, and lose, what it received.
    if not _MSG_ERRQUEUE or sock.family not in _INTERNET:
        return None
    while True:
        try:
            data, ancillary, _, receiver = sock.recvmsg(65536, 512, _REPORT_FLAGS)
        except BlockingIOError:
            return None
        report = _send_error(data, ancillary, receiver)
        if report is not None:  # else a time stamp, or so, that the program has asked for
            return report


def _send_error(
    data: bytes, ancillary: Iterable[tuple[int, int, bytes]], receiver: Address | None
) -> SendError | None:
    for level, kind, body in ancillary:
        if (level, kind) in _ERROR_MESSAGES:
            number, origin, _, _, _, info, _ = _EXTENDED_ERROR.unpack_from(body)
            if origin in _ERROR_ORIGINS:
                mtu = info if number == errno.EMSGSIZE else None
                offender = _offender(body[_EXTENDED_ERROR.size :])
                return SendError(number, receiver, data, offender, mtu)
    return None


def _offender(body: bytes) -> Address | None:
    family = int.from_bytes(body[:2], sys.byteorder)
    if family == socket.AF_INET:
        _, host = _OFFENDER_IPV4.unpack_from(body)
        return socket.inet_ntop(family, host), 0
    if family == socket.AF_INET6:
        _, host, scope = _OFFENDER_IPV6.unpack_from(body)
        return socket.inet_ntop(family, host), 0, 0, scope
    return None
