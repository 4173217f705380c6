"""Every socket call that needs care.

Listening, connecting without waiting, who the peer is, the errors of datagrams.

All sockets made here are non-blocking and are not inherited by child processes. Only
`look_up()` and listening at a name may wait, for the resolver. What can fail because of the
network or the kernel raises OSError, or is returned where the caller has to go on. This file
knows nothing of selectors, threads and events.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import cast

from eventmux.events import Address
from eventmux.urls import Endpoint

__all__ = [
    "SendError",
    "Target",
    "accept",
    "check_address",
    "connect_error",
    "credentials",
    "has_hung_up",
    "is_listening",
    "is_of_one_connection",
    "known_targets",
    "listen",
    "look_up",
    "placeholder",
    "read_error",
    "report_errors",
    "set_nodelay",
    "start",
    "transplant",
    "unconnected",
    "unix_address",
]

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)
_ONE_CONNECTION = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
)
_TYPES = {
    "tcp": socket.SOCK_STREAM,
    "udp": socket.SOCK_DGRAM,
    "unix": socket.SOCK_STREAM,
    "unix_dgram": socket.SOCK_DGRAM,
    "unix_seqpacket": socket.SOCK_SEQPACKET,
}
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_IS_LINUX = sys.platform == "linux"
_AF_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it
_SO_ACCEPTCONN = getattr(socket, "SO_ACCEPTCONN", None)
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", None)
_MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_IP_RECVERR = 11  # linux/in.h, linux/in6.h: the socket module has no names for these
_IPV6_RECVERR = 25


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[socket.socket]:
    """Close a socket that could not be made ready."""
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


# Listening


def listen(endpoint: Endpoint, backlog: int = 1024) -> socket.socket:
    """Return a socket that listens at the endpoint, or receives the datagrams sent there.

    A file left behind at a UNIX path is replaced when it is a socket that nobody has; a live
    server, or anything that is not a socket, is left alone.

    Without a host, TCP serves IPv4 and IPv6 where it can, but UDP only IPv4: `sendto()` would
    not take an IPv4 address otherwise. `udp://[::]:port` is the same for IPv6.

    Raises:
        OSError: the address is in use, the name is unknown, permission is missing...
    """
    with _closed_on_error(_bound(endpoint)) as sock:
        sock.setblocking(False)
        if sock.type != socket.SOCK_DGRAM:
            sock.listen(backlog)
    return sock


def _bound(endpoint: Endpoint) -> socket.socket:
    if endpoint.path:
        return _bound_unix(endpoint.path, _TYPES[endpoint.scheme])
    return _bound_udp(endpoint) if endpoint.scheme == "udp" else _bound_tcp(endpoint)


def _bound_tcp(endpoint: Endpoint) -> socket.socket:
    address = (endpoint.host, endpoint.port)
    if endpoint.host:
        return socket.create_server(address, family=_first_target(endpoint)[0])
    if socket.has_dualstack_ipv6():
        return socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(address)


def _bound_udp(endpoint: Endpoint) -> socket.socket:
    """Bind without SO_REUSEADDR: two sockets of a port would share out its datagrams."""
    family: int = socket.AF_INET
    address: Address = ("", endpoint.port)
    if endpoint.host:
        family, _, address = _first_target(endpoint)
    with _closed_on_error(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        if family == socket.AF_INET6:  # as create_server() does: 0.0.0.0 may have the same port
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    return sock


def _first_target(endpoint: Endpoint) -> Target:
    return _resolve(endpoint, socket.AI_PASSIVE)[0]


def _bound_unix(path: str, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        name = unix_address(path)
        try:
            sock.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_dead_socket(path, kind):
                raise
            os.unlink(path)
            sock.bind(name)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror or str(error), path) from None
    return sock


def unix_address(path: str) -> str:
    """Return the address of a UNIX socket; a leading `@` is Linux's abstract namespace."""
    return "\0" + path[1:] if path.startswith("@") else path


def _is_dead_socket(path: str, kind: int) -> bool:
    """True if the path is a socket file that no process has; the kind is of the one to come.

    A socket of another kind says EPROTOTYPE while it lives.
    """
    if path.startswith("@") or not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


# Connecting

Target = tuple[int, int, Address]
"""An address family, a socket type, and an address of that family."""


def known_targets(endpoint: Endpoint) -> list[Target] | None:
    """Return what an endpoint connects to if nothing has to be looked up for that, else None.

    The list has one target, or none for a UDP endpoint without a host: see `unconnected()`.
    """
    if endpoint.path:
        return [(socket.AF_UNIX, _TYPES[endpoint.scheme], unix_address(endpoint.path))]
    if not endpoint.host:
        return [] if endpoint.scheme == "udp" else None
    try:
        return _resolve(endpoint, socket.AI_NUMERICHOST)[:1]
    except OSError:
        return None


def look_up(endpoint: Endpoint) -> list[Target]:
    """Return all that an endpoint may connect to, in the order in which to try; it may wait.

    The families alternate, beginning with the one that the resolver prefers (RFC 8305,
    section 4): one that leads nowhere costs one attempt, not one for each of its addresses.

    Raises:
        OSError: the name is unknown, the resolver does not answer...
    """
    if endpoint.host or endpoint.scheme == "tcp":
        return _interleave(_resolve(endpoint))
    return known_targets(endpoint) or []


def _resolve(endpoint: Endpoint, flags: int = 0) -> list[Target]:
    kind = _TYPES[endpoint.scheme]
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=kind, flags=flags)
    except UnicodeError as error:  # the name does not fit into DNS
        text = f"cannot look up {endpoint.host!r}: {error}"
        raise socket.gaierror(socket.EAI_NONAME, text) from None
    return [(entry[0], kind, cast("Address", entry[4])) for entry in found]


def _interleave(targets: Iterable[Target]) -> list[Target]:
    """Return the targets without duplicates, one of each family in turn."""
    families: dict[int, list[Target]] = {}
    for target in dict.fromkeys(targets):
        families.setdefault(target[0], []).append(target)
    turns = zip_longest(*families.values())
    return [target for turn in turns for target in turn if target is not None]


def start(target: Target) -> socket.socket:
    """Return a new socket that starts to connect to the target.

    Raises:
        OSError: it failed at once.
    """
    family, kind, address = target
    with _closed_on_error(socket.socket(family, kind)) as sock:
        sock.setblocking(False)
        if _IS_LINUX and family == _AF_UNIX and kind == socket.SOCK_DGRAM:
            sock.bind("")  # Linux picks a name; without one the peer could not answer
        number = sock.connect_ex(address)
        # A UNIX socket says EAGAIN when the listener's queue is full: nothing goes on behind it.
        if number and (number not in _IN_PROGRESS or family == _AF_UNIX):
            raise OSError(number, os.strerror(number))
    return sock


def unconnected(endpoint: Endpoint) -> socket.socket:
    """Return an IPv4 UDP socket that has no peer; it is bound to the endpoint's port if not 0.

    Raises:
        OSError: the port is in use, permission is missing...
    """
    with _closed_on_error(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.setblocking(False)
        if endpoint.port:
            sock.bind(("", endpoint.port))
    return sock


def placeholder(endpoint: Endpoint) -> socket.socket:
    """Return a socket that stands for a connection until there is an address to connect to.

    Raises:
        OSError: the process is out of descriptors...
    """
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET
    sock = socket.socket(family, _TYPES[endpoint.scheme])
    sock.setblocking(False)
    return sock


def transplant(sock: socket.socket, other: socket.socket) -> None:
    """Give a socket object the descriptor of another one, which is closed by that.

    The program knows the connection by the socket object, so that must stay the same; the
    descriptor cannot, because a socket that failed is spent and the family may differ.

    Raises:
        OSError: the program has closed the socket; the other one is closed, too.
    """
    old = sock.detach()
    if old < 0:
        other.close()
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    socket.socket.__init__(sock, fileno=other.detach())
    sock.setblocking(False)
    socket.close(old)  # on Windows it is no file


def connect_error(sock: socket.socket) -> OSError | None:
    """Return and clear the error that is pending on a socket, None if there is none."""
    try:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:  # the program has closed it
        return error
    return OSError(number, os.strerror(number)) if number else None


# Connections


def set_nodelay(sock: socket.socket, value: int = 1) -> int | None:
    """Let TCP send small packets at once, or not; return what was set before.

    None if the socket has no such option. It is never an error: only speed depends on it.
    """
    if sock.family not in _INTERNET:
        return None
    try:
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, value)
    except OSError:  # macOS says EINVAL if the peer has reset already
        return None
    return before


def has_hung_up(sock: socket.socket) -> bool:
    """True if the peer will send no more, though what it sent before may not have been read.

    Always False where the system cannot tell.
    """
    poll = getattr(select, "poll", None)
    hang_up = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0)
    if poll is None or sock.fileno() < 0:
        return False
    asked = poll()
    asked.register(sock, hang_up)
    return bool(asked.poll(0))


def is_listening(sock: socket.socket) -> bool:
    """True if the socket accepts connections; False where the system does not tell.

    Raises:
        OSError: the socket is closed.
    """
    if sock.type == socket.SOCK_DGRAM or _SO_ACCEPTCONN is None:
        return False
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # as macOS says
            raise
        return False


def accept(listener: socket.socket) -> tuple[socket.socket, Address] | None:
    """Accept one connection; None when there is none to accept.

    Raises:
        OSError: see `is_of_one_connection()`; else the process or the system is out of
            descriptors or memory, or the listener is broken.
    """
    try:
        return listener.accept()
    except BlockingIOError:
        return None


def is_of_one_connection(error: OSError) -> bool:
    """True for an error of `accept()` that concerns a connection which failed while it waited.

    The listener is fine, and the next connection may be there. Source: accept(2) of Linux.
    """
    return error.errno in _ONE_CONNECTION


def credentials(sock: socket.socket) -> tuple[int, int, int] | tuple[None, None, None]:
    """Return the process, user and group id of the peer of a UNIX socket, Nones otherwise.

    Linux has SO_PEERCRED for every family, but its values mean nothing for TCP.
    """
    if sock.family != _AF_UNIX or _SO_PEERCRED is None:
        return None, None, None
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


# Datagrams


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
            data, ancillary, _, receiver = sock.recvmsg(65536, 512, _MSG_ERRQUEUE)
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
