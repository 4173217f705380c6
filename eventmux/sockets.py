"""Every socket call that needs care: listening, connecting without waiting, credentials.

All sockets made here are non-blocking and are not inherited by child processes. What can fail
because of the network or the kernel raises OSError, or is returned where the caller has to go
on. This file knows nothing of selectors and events.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import cast

from eventmux.events import Address
from eventmux.urls import Endpoint

__all__ = [
    "Target",
    "accept",
    "connect",
    "connect_error",
    "connect_next",
    "credentials",
    "is_listening",
    "is_of_one_connection",
    "listen",
    "set_nodelay",
    "unix_address",
]

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)
_ONE_CONNECTION = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
)
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_AF_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", None)


def listen(endpoint: Endpoint, backlog: int = 1024) -> socket.socket:
    """Return a socket that listens at the endpoint.

    A file left behind at a UNIX path is replaced when it is a socket that nobody listens on; a
    live server, or anything that is not a socket, is left alone.

    Raises:
        OSError: the address is in use, the name is unknown, permission is missing...
    """
    sock = _listen_unix(endpoint.path) if endpoint.scheme == "unix" else _listen_tcp(endpoint)
    try:
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_tcp(endpoint: Endpoint) -> socket.socket:
    address = (endpoint.host, endpoint.port)
    if endpoint.host:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][
            0
        ]
        return socket.create_server(address, family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(address)


def _listen_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name = unix_address(path)
        try:
            sock.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_dead_socket(path):
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


def _is_dead_socket(path: str) -> bool:
    """True if the path is a socket file that no process listens on."""
    if path.startswith("@") or not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


Target = tuple[int, Address]
"""An address family and an address of it."""


def connect(endpoint: Endpoint) -> tuple[socket.socket, list[Target], OSError | None]:
    """Start to connect to the first address of an endpoint that does not fail at once.

    Looking up a name may take time; connecting does not.

    Returns:
        The socket; the addresses that are left, for `connect_next()`; and the error, if there
        is no address that could be tried.
    """
    try:
        targets = _targets(endpoint)
    except OSError as error:
        return socket.socket(), [], error
    sock = socket.socket(targets[0][0] if endpoint.scheme == "unix" else socket.AF_INET)
    return sock, targets, connect_next(sock, targets)


def connect_next(sock: socket.socket, targets: list[Target]) -> OSError | None:
    """Start to connect to the next of the addresses, with another descriptor for the socket.

    The program knows the connection by the socket object, so that must stay the same; the
    descriptor cannot, because a socket that failed is spent and the family may differ. The
    addresses that were tried are taken off the list.

    Returns:
        None, or why none of the addresses could be tried.
    """
    error: OSError | None = None
    while targets:
        family, address = targets.pop(0)
        try:
            attempt = _start(family, address)
        except OSError as failure:
            error = failure
            continue
        old = sock.detach()
        socket.socket.__init__(sock, fileno=attempt.detach())
        sock.setblocking(False)
        os.close(old)
        return None
    return error


def _start(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        number = sock.connect_ex(address)
        # A UNIX socket says EAGAIN when the listener's queue is full: nothing goes on behind it.
        if number and (number not in _IN_PROGRESS or family == _AF_UNIX):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def _targets(endpoint: Endpoint) -> list[Target]:
    if endpoint.scheme == "unix":
        return [(socket.AF_UNIX, unix_address(endpoint.path))]
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    return [(entry[0], cast("Address", entry[4])) for entry in found]


def connect_error(sock: socket.socket) -> OSError | None:
    """Return and clear the error that is pending on a socket, None if there is none."""
    try:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:  # the program has closed it
        return error
    return OSError(number, os.strerror(number)) if number else None


def set_nodelay(sock: socket.socket, value: int = 1) -> int | None:
    """Let TCP send small packets at once, or not; return what was set before.

    None if the socket has no such option. It is never an error: only speed depends on it.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, value)
    except OSError:  # macOS says EINVAL if the peer has reset already
        return None
    return before


def is_listening(sock: socket.socket) -> bool:
    """True if the socket accepts connections."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


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
