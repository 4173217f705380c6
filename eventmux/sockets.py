"""Every socket call that needs care.

Listening, connecting without waiting, who the peer is.

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
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from typing import cast

from eventmux import sources, tcp
from eventmux._socketfiles import binding, inherited, unix_address
from eventmux.events import Address
from eventmux.peers import Credentials
from eventmux.urls import Endpoint

__all__ = [
    "RECV_FLAGS",
    "SEND_FLAGS",
    "Target",
    "accept",
    "connect",
    "connect_error",
    "credentials",
    "has_gone",
    "has_hung_up",
    "inherited",
    "interleaved",
    "is_broken_listener",
    "is_connected",
    "is_listening",
    "is_of_one_connection",
    "known_targets",
    "listen",
    "look_up",
    "own_peer_error",
    "peer_address",
    "pending_error",
    "placeholder",
    "start",
    "transplant",
    "unconnected",
]

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)
_BROKEN = (errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK)
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)
_TYPES = {
    "tcp": socket.SOCK_STREAM,
    "tls": socket.SOCK_STREAM,
    "udp": socket.SOCK_DGRAM,
    "unix": socket.SOCK_STREAM,
    "unix_dgram": socket.SOCK_DGRAM,
    "unix_seqpacket": socket.SOCK_SEQPACKET,
}
_RESET = struct.pack("ii", 1, 0)  # struct linger: the peer gets a reset, and no TIME_WAIT is left
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_IS_LINUX = sys.platform == "linux"
_AF_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it
_SO_ACCEPTCONN = getattr(socket, "SO_ACCEPTCONN", None)
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", None)

RECV_FLAGS = socket.MSG_DONTWAIT if _IS_LINUX else 0
"""With these a read does not wait; elsewhere than on Linux not every kind of socket heeds them."""
SEND_FLAGS = RECV_FLAGS | getattr(socket, "MSG_NOSIGNAL", 0)
"""The same for a write, which sends no SIGPIPE either: the program may want that itself."""


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[socket.socket]:
    """Close a socket that could not be made ready."""
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


# Listening


def listen(
    endpoint: Endpoint,
    backlog: int = 1024,
    mode: int | None = None,
    *,
    reuse_port: bool = False,
    nodelay: bool = False,
    keepalive: bool = False,
) -> socket.socket:
    """Return a socket that listens at the endpoint, or receives the datagrams sent there.

    A file left behind at a UNIX path is replaced when it is a socket that nobody has; a live
    server, or anything that is not a socket, is left alone. The file goes when the socket is
    closed. `mode` is who may use it: the rights of the file. With `reuse_port` other sockets may
    have the same port, and the kernel shares out what comes (SO_REUSEPORT).

    With `nodelay` and `keepalive`, all that is accepted has what `tcp.tune()` sets: it is there
    before anybody can connect.

    Without a host, TCP serves IPv4 and IPv6 where it can, but UDP only IPv4: `sendto()` would
    not take an IPv4 address otherwise. `udp://[::]:port` is the same for IPv6.

    Raises:
        OSError: the address is in use, the name is unknown, permission is missing... Its
            `filename` is the URL.
        TypeError: the mode is no int.
        ValueError: the mode is not within 0 to 0o777, or there is no file that could have one;
            there is no port to share, or the system has no SO_REUSEPORT.
    """
    if mode is not None:
        _check_mode(endpoint, mode)
    if reuse_port:
        _check_reuse(endpoint)
    try:
        with _bound(endpoint, mode, reuse_port) as sock:
            sock.setblocking(False)
            if sock.type != socket.SOCK_DGRAM:
                tcp.tune(sock, nodelay=nodelay, keepalive=keepalive)
                sock.listen(backlog)
    except OSError as error:
        if error.errno is not None:  # Python's own names the address, a path, or nothing
            if error.errno == errno.EADDRINUSE and endpoint.port:
                error.strerror = (
                    f"{error.strerror}: stop the program that has it, or choose another port"
                )
            elif error.errno == errno.ENOENT and endpoint.path:
                error.strerror = f"{error.strerror}: its folder is missing"
            error.filename = str(endpoint)
        raise
    return sock


def _check_mode(endpoint: Endpoint, mode: object) -> None:
    if type(mode) is not int:
        raise TypeError(f"mode is {mode!r}, must be an int such as 0o600")
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode is {mode:#o}, must be 0 to 0o777")
    if not endpoint.path or endpoint.path.startswith("@"):
        raise ValueError(f"mode is {mode:#o}, but {endpoint} has no file")


def _check_reuse(endpoint: Endpoint) -> None:
    if endpoint.path:
        raise ValueError(f"reuse_port is for ports, but {endpoint} has none")
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port needs SO_REUSEPORT, which this system does not have")


def _bound(
    endpoint: Endpoint, mode: int | None, reuse_port: bool
) -> AbstractContextManager[socket.socket]:
    if endpoint.path:
        return binding(endpoint.path, _TYPES[endpoint.scheme], mode)
    return _closed_on_error(_bound_to_port(endpoint, reuse_port))


def _bound_to_port(endpoint: Endpoint, reuse_port: bool) -> socket.socket:
    family, address, is_dual = _where_to_bind(endpoint)
    with _closed_on_error(socket.socket(family, _TYPES[endpoint.scheme])) as sock:
        # Not for UDP: two sockets of a port would share out its datagrams. And Windows would let
        # anybody take the port.
        if endpoint.scheme != "udp" and os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # one for IPv6 alone leaves the port of 0.0.0.0 to others
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    return sock


def _where_to_bind(endpoint: Endpoint) -> tuple[int, Address, bool]:
    """Return the family, the address, and whether IPv4 is to be served by IPv6, too."""
    if endpoint.host:
        family, _, address = _first_target(endpoint)
        return family, address, False
    if endpoint.scheme != "udp" and socket.has_dualstack_ipv6():
        return socket.AF_INET6, ("", endpoint.port), True
    return socket.AF_INET, ("", endpoint.port), False


def _first_target(endpoint: Endpoint) -> Target:
    return _resolve(endpoint, socket.AI_PASSIVE)[0]


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
    if endpoint.host or endpoint.scheme in ("tcp", "tls"):
        return interleaved(_resolve(endpoint))
    return known_targets(endpoint) or []


def _resolve(endpoint: Endpoint, flags: int = 0) -> list[Target]:
    kind = _TYPES[endpoint.scheme]
    # Python takes a host that is a str for a name, and a zone may be none: "eth0..1".
    host = os.fsencode(endpoint.host) if ":" in endpoint.host else endpoint.host
    try:
        found = socket.getaddrinfo(host, endpoint.port, type=kind, flags=flags)
    except UnicodeError as error:  # the name does not fit into DNS
        text = f"cannot look up {endpoint.host!r}: {error}"
        raise socket.gaierror(socket.EAI_NONAME, text) from None
    return [(entry[0], kind, cast("Address", entry[4])) for entry in found]


def interleaved(targets: Iterable[Target]) -> list[Target]:
    """Return the targets without duplicates, one of each family in turn."""
    families: dict[int, list[Target]] = {}
    for target in dict.fromkeys(targets):
        families.setdefault(target[0], []).append(target)
    turns = zip_longest(*families.values())
    return [target for turn in turns for target in turn if target is not None]


def start(target: Target, source: Address | None = None) -> socket.socket:
    """Return a new socket that starts to connect to the target, from an address if one is given.

    Raises:
        OSError: it failed at once.
    """
    family, kind, address = target
    with _closed_on_error(_new(family, kind, source)) as sock:
        sock.setblocking(False)
        if _IS_LINUX and family == _AF_UNIX and kind == socket.SOCK_DGRAM and source is None:
            sock.bind("")  # Linux picks a name; without one the peer could not answer
        number = sock.connect_ex(address)
        # A UNIX socket says EAGAIN when the listener's queue is full: nothing goes on behind it.
        if number and (number not in _IN_PROGRESS or family == _AF_UNIX):
            raise OSError(number, os.strerror(number))
    return sock


def _new(family: int, kind: int, source: Address | None) -> socket.socket:
    if source is None:
        return socket.socket(family, kind)
    return sources.open_from(source, family, kind)


def connect(target: Target, timeout: float | None) -> socket.socket:
    """Return a new socket that is connected to the target, and blocks; it waits for that.

    Raises:
        OSError: nobody is there, or none answers within `timeout` seconds.
    """
    family, kind, address = target
    with _closed_on_error(socket.socket(family, kind)) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        error = own_peer_error(sock)
        if error is not None:
            raise error
        sock.settimeout(None)
    return sock


def unconnected(endpoint: Endpoint, source: Address | None = None) -> socket.socket:
    """Return a UDP socket that has no peer; it is bound to the endpoint's port if not 0.

    It is one for IPv4, unless the source is an address of IPv6.

    Raises:
        OSError: the port is in use, permission is missing...
    """
    family = None if source is None else sources.family_of(source)
    with _closed_on_error(_new(family or socket.AF_INET, socket.SOCK_DGRAM, source)) as sock:
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


def pending_error(sock: socket.socket) -> OSError | None:
    """Return and clear the error that is pending on a socket, None if there is none."""
    try:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:  # the program has closed it
        return error
    return OSError(number, os.strerror(number)) if number else None


def connect_error(sock: socket.socket) -> OSError | None:
    """Return why a socket is not connected, None if it is; an error that is pending is cleared."""
    return pending_error(sock) or own_peer_error(sock)


def own_peer_error(sock: socket.socket) -> OSError | None:
    """Return ECONNREFUSED for a TCP connection to itself: nobody listens there.

    It comes about when the port is one of those that the system gives to connections, and it
    happens to give this one. Whoever is to listen there could not, as long as it lasts; when it is
    closed now, nothing of it stays.
    """
    if sock.family not in _INTERNET or sock.type != socket.SOCK_STREAM:
        return None
    try:
        if sock.getpeername() != sock.getsockname():
            return None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:  # it is not connected
        return None
    return OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


# Connections


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


def has_gone(sock: socket.socket) -> bool:
    """True if nothing can reach the peer any more; one that only sends no more has not gone.

    Always False where the system does not tell the two apart.
    """
    if not hasattr(select, "POLLRDHUP") or sock.fileno() < 0:
        return False
    asked = select.poll()
    asked.register(sock, 0)  # what is always reported: POLLHUP and POLLERR
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


def is_connected(sock: socket.socket) -> bool:
    """True if the socket has a peer; False while it is still connecting."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def accept(listener: socket.socket) -> tuple[socket.socket, Address] | None:
    """Accept one connection; None when there is none to accept.

    Raises:
        OSError: see `is_of_one_connection()` and `is_broken_listener()`; else the process or the
            system is out of descriptors or memory.
    """
    try:
        return listener.accept()
    except BlockingIOError:
        return None


def is_of_one_connection(error: OSError) -> bool:
    """True for an error of `accept()` that may concern a single connection: the next may be there.

    What a network can say of one is without end: Linux passes on whatever is pending on the new
    socket, and firewalls, security modules and protocols have errors of their own. So it is the
    other errors that are listed.
    """
    return not is_broken_listener(error) and error.errno not in _OUT_OF_RESOURCES


def is_broken_listener(error: OSError) -> bool:
    """True for an error of `accept()` after which nothing can be accepted any more."""
    return error.errno in _BROKEN


def credentials(sock: socket.socket) -> Credentials | None:
    """Return the process, user and group of the peer of a UNIX socket, None otherwise.

    Linux has SO_PEERCRED for every family, but its values mean nothing for TCP.
    """
    if sock.family != _AF_UNIX or _SO_PEERCRED is None:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(raw))


def peer_address(sock: socket.socket) -> Address | None:
    """Return the address of the peer; None if there is none, or not any more."""
    try:
        return cast("Address", sock.getpeername())
    except OSError:
        return None
