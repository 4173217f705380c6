"""Where a connection comes from: an address of this host that its socket is bound to before.

For IPv4 and IPv6 a source is `(host, port)`, as `socket.create_connection()` takes it: the host is
numeric or "", which is any, and port 0 lets the system choose one. For UNIX sockets it is a path as
in a URL.

This file connects nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable
from typing import cast

from eventmux._socketfiles import binding
from eventmux.events import Address
from eventmux.urls import Endpoint

__all__ = ["check_source", "family_of", "no_address", "open_from"]

_INTERNET = (socket.AF_INET, socket.AF_INET6)
# linux/in.h: without it an address without a port takes one of its few for each connection, though
# the same may be used to another peer. The socket module has no name for it.
_IP_BIND_ADDRESS_NO_PORT = 24


def check_source(
    endpoint: Endpoint, source: object, targets: Iterable[tuple[int, int, Address]] | None
) -> None:
    """Check what a program has given as the source of a connection to an endpoint.

    Args:
        endpoint: what is connected to.
        source: what was given.
        targets: its addresses, each with its family in front; None if they are not known yet.

    Raises:
        TypeError: it is not of the shape that the endpoint's family has.
        ValueError: a part of it cannot be, or does not go with the endpoint.
    """
    if endpoint.path:
        _check_path(source)
        return
    if not isinstance(source, tuple) or not 2 <= len(source) <= 4:
        raise TypeError(f"source is {source!r}, must be (host, port)")
    host, *numbers = source
    if not isinstance(host, str) or not all(type(number) is int for number in numbers):
        raise TypeError(f"source is {source!r}, must be a str and an int: (host, port)")
    if host and family_of(source) is None:
        raise ValueError(f"source is {source!r}: {host!r} is no numeric address")
    if not 0 <= numbers[0] <= 0xFFFF:
        raise ValueError(f"source is {source!r}: the port is not in 0..65535")
    if not endpoint.host and endpoint.port and endpoint.scheme == "udp":
        raise ValueError(f"source is {source!r}, but {endpoint} has the port to send from")
    family = family_of(source)
    if family is not None and any(target[0] != family for target in targets or ()):
        raise ValueError(f"source is {source!r}, of another family than {endpoint}")


def _check_path(source: object) -> None:
    if not isinstance(source, str):
        raise TypeError(f"source is {source!r}, must be the path of a UNIX socket, a str")
    if not source or "\0" in source:
        raise ValueError(f"source is {source!r}, must be a path, or @ and a name")


def family_of(source: Address) -> int | None:
    """Return the address family of a source; None if any will do."""
    if not isinstance(source, tuple):
        return int(socket.AF_UNIX)
    host = source[0].partition("%")[0]
    for family in _INTERNET:
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: there is a NUL or a lone surrogate in it
            continue
        return family
    return None


def no_address(source: Address) -> OSError:
    """Return why nothing can be connected to from a source: all is of another family."""
    text = f"no address of the family of the source, {source!r}"
    return OSError(errno.EAFNOSUPPORT, text)


def open_from(source: Address, family: int, kind: int) -> socket.socket:
    """Return a new socket that is bound to a source; the file of a path goes when it is closed.

    Raises:
        OSError: the address is in use, or not of this host...
    """
    try:
        if family not in _INTERNET:
            with binding(cast("str", source), kind) as sock:
                return sock
        sock = socket.socket(family, kind)
        try:
            _bind(sock, cast("tuple[str, int]", source))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        number = error.errno or errno.EADDRNOTAVAIL
        text = f"cannot send from {source!r}: {error.strerror or error}"
        raise OSError(number, text) from error
    return sock


def _bind(sock: socket.socket, source: tuple[str, int]) -> None:
    is_tcp = sock.type == socket.SOCK_STREAM
    if is_tcp and source[1] and os.name == "posix":
        # A connection from here that has ended, to whomever, does not keep the port for a minute.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_tcp and not source[1] and sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(source)
